"""Files on a machine that fails: system calls that fail or kill in turn, processes that die, disks that are full.

The idea is SQLite's: what a program writes is right when it is right after each of its calls has failed, one after the
other, until a run has no such call any more.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# What writing a file, and claiming a folder, may ask the system for; writing and closing a file are counted as well.
CALLS = (
    "open", "close", "fsync", "chmod", "fchmod", "replace", "rename", "unlink", "remove", "stat", "lstat",
    "fstat", "mkdir", "rmdir", "readlink", "scandir", "listdir",
)  # fmt: skip
SYSTEM_CALLS = (
    "openat", "write", "fsync", "fdatasync", "chmod", "fchmod", "fchmodat", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "close", "lseek", "newfstatat", "fstat", "statx", "mkdir", "mkdirat", "rmdir",
    "flock", "getdents64", "ftruncate", "readlink",
)  # fmt: skip

DIED = 77  # exit codes of children: killed by a deed,
REFUSED = 78  # ended with an error that a user is told,
UNREACHED = 79  # done without a call that fails


class Faults:
    """Does its deed at the `at`-th call, counted from 1.

    "fail": the call fails, as on a full disk, and of what it writes a half is there; "fail on": so does every later
    one; "die": the process ends in the middle of the call; "die after": at its end.
    """

    def __init__(self, deed, at, number=errno.ENOSPC):
        self.deed, self.at, self.number, self.count = deed, at, number, 0

    @property
    def reached(self):
        return self.count >= self.at

    def call(self, function, *args, half=None, **kwargs):
        self.count += 1
        if not (self.count == self.at or (self.deed == "fail on" and self.reached)):
            return function(*args, **kwargs)
        if self.deed == "die after":
            function(*args, **kwargs)
            os._exit(DIED)
        if half is not None:
            half()
        if self.deed == "die":
            os._exit(DIED)
        raise OSError(self.number, os.strerror(self.number))

    @contextlib.contextmanager
    def __call__(self):
        """Let this process's calls go through here while the block runs."""
        faults, real = self, {name: getattr(os, name) for name in CALLS}

        class Raw(io.FileIO):
            def write(self, data):
                view = memoryview(data)
                return faults.call(super().write, view, half=lambda: io.FileIO.write(self, view[: len(view) // 2]))

            def close(self):
                if not self.closed:
                    faults.call(super().close)

        def fdopen(handle, mode="r", *args, **kwargs):
            return io.BufferedWriter(Raw(handle, mode)) if mode == "wb" else real_fdopen(handle, mode, *args, **kwargs)

        real_fdopen, os.fdopen = os.fdopen, fdopen
        for name, function in real.items():
            setattr(os, name, lambda *args, _real=function, **kwargs: faults.call(_real, *args, **kwargs))
        try:
            yield
        finally:
            os.fdopen = real_fdopen
            for name, function in real.items():
                setattr(os, name, function)


def forked(action):
    """The process that runs this function and then ends with its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are BLAS's, which knows of forks
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = action() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid):
    """The exit code of a child, negative where a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def after_each_fault(action, deeds, check, errors, stride=1):
    """Run `action` in children, a call of which fails, and `check` what is left, until none has so many calls.

    Each call in turn, or with a `stride` a sample of them.

    `errors` are what the action may raise then; anything else fails the test. Gives how many faults there were.
    """
    total = 0
    for deed in deeds:
        for at in range(1, 10_000, stride):
            faults = Faults(deed, at)

            def child(faults=faults):
                with faults():
                    try:
                        action()
                    except errors:
                        return REFUSED if faults.reached else 1
                return 0 if faults.reached else UNREACHED

            code = ended(forked(child))
            assert code in (0, DIED, REFUSED, UNREACHED), f"{deed} at call {at}: exit code {code}"
            check(f"{deed} at call {at}", code)
            if code == UNREACHED:
                break
            total += 1
        assert at > 5
    return total


def after_each_system_call(action, check, errors, kinds=("error=ENOSPC", "error=EIO", "signal=KILL"), calls=None):
    """The same with the system's own calls, which strace makes fail, or kill at; how many there were."""
    total = 0
    for name in calls or SYSTEM_CALLS:
        for kind in kinds:
            for at in range(1, 10_000):
                code, injected = traced(action, errors, f"inject=?{name}:{kind}:when={at}")
                assert code in (0, REFUSED, -signal.SIGKILL), f"{kind} at {name} {at}: exit code {code}"
                check(f"{kind} at {name} {at}", code)
                if not injected:
                    break
                total += 1
    return total


def traced(action, errors, injection):
    """The exit code of a child that runs `action` under strace with an injection, and whether that came."""
    read, write = os.pipe()

    def child():
        os.read(read, 1)
        try:
            action()
        except errors:
            os._exit(REFUSED)
        os._exit(0)

    pid = forked(child)
    command = ["strace", "-p", str(pid), "-e", f"trace={','.join('?' + name for name in SYSTEM_CALLS)}"]
    with tempfile.NamedTemporaryFile("r") as log:  # a pipe would fill up, and the child stop
        tracer = subprocess.Popen([*command, "-e", injection, "-o", log.name], stderr=subprocess.PIPE, text=True)
        assert "attached" in (line := tracer.stderr.readline()), line
        os.write(write, b".")
        code = ended(pid)
        tracer.communicate()
        os.close(read)
        os.close(write)
        killed = "signal=" in injection and code == -signal.SIGKILL
        return code, killed or "INJECTED" in log.read()


def strace_works():
    """Why system calls can't be made to fail here, None where they can."""
    if shutil.which("strace") is None:
        return "needs strace"
    try:
        _, injected = traced(
            lambda: os.close(os.open(os.curdir, os.O_RDONLY)), OSError, "inject=openat:error=EIO:when=1"
        )
    except (AssertionError, OSError) as error:
        return f"strace can't attach here ({error})"
    return None if injected else "this strace can't make calls fail"


@contextlib.contextmanager
def small_disk(path, size):
    """A disk of so many bytes at a folder; skips the test where mounting isn't allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]
    if (
        sys.platform != "linux"
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def is_litter(name):
    """Whether a file is what a killed process may leave: half a file under another name, or an old lock."""
    return name == ".lock" or re.fullmatch(r"\..+\.tmp", name) is not None
