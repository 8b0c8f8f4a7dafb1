"""Files are replaced in one step and never instead of something else; what is no file is never waited for."""

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fcnn
from fcnn.data import DataError, pictures
from fcnn.values import locks
from fcnn.values.files import opened, remove_leftovers, replacing, why_unreadable

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes, pipes and locks are POSIX's")
PARAMS = fcnn.freeze({"w": np.array([1.5, -2.5])})


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


@pytest.fixture
def in_time():
    """What waits is ended after five seconds, and so fails."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, there):
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "target"
    if there:
        target.write_bytes(b"old")
    (tmp_path / "deep" / "link").symlink_to("target")
    (tmp_path / "link").symlink_to("deep/link")
    fcnn.save(tmp_path / "link", PARAMS)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep" / "link").is_symlink()
    assert not target.is_symlink()
    assert fcnn.load(target, like=PARAMS) == PARAMS
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "link", "link", "target"]


@posix
def test_a_link_to_itself_is_an_error_that_names_it(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OSError, match=r"Too many levels of symbolic links: .*loop'$"):
        write(loop)
    assert loop.is_symlink()


def special(kind, path):
    """Something at a path that is no file; what closes it again."""
    if kind == "a socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(os.path.relpath(path))
        return held
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/full")
    else:
        path.mkdir()
    return contextlib.nullcontext()


@posix
@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "Is a directory"])
def test_what_is_no_file_is_neither_replaced_nor_waited_for(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    with special(kind, path):
        before = path.stat()
        with pytest.raises(OSError, match=rf"{kind}.*; choose another name: '{path}'") as caught:
            fcnn.save(path, PARAMS)
        assert caught.value.filename == str(path)
        after = path.stat()
        assert (after.st_mode, after.st_ino, list(tmp_path.iterdir())) == (before.st_mode, before.st_ino, [path])
        for read in (fcnn.load_meta, fcnn.load_model, pictures.open_picture, lambda path: fcnn.load(path, like=PARAMS)):
            with pytest.raises(OSError, match=rf"{kind}.*: '{path}'"):
                read(path)
        reason = "a folder, not a file" if kind == "Is a directory" else f"{kind}, not a file"
        assert why_unreadable(path) == reason
        with pytest.raises(pictures.PictureError, match=f"^{reason}$"):
            pictures.read_picture(path, "mnist")


@posix
@pytest.mark.usefixtures("in_time")
def test_data_files_that_are_pipes_are_not_waited_for(tmp_path):
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            os.mkfifo(tmp_path / f"{part}-{kind}-ubyte")
    with pytest.raises(DataError, match="no mnist there"):
        fcnn.data.load("mnist", tmp_path)


@posix
@pytest.mark.usefixtures("in_time")
def test_a_file_that_becomes_a_pipe_before_it_is_opened_is_not_waited_for(tmp_path, monkeypatch):
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_bytes(b"x")
    of_the_file = os.stat(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: of_the_file)
        with pytest.raises(OSError, match="a pipe, not a file"):
            opened(pipe)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="a name of the standard output")
def test_standard_output_is_not_replaced():
    code = "import fcnn, numpy as np; fcnn.save('/dev/stdout', fcnn.freeze({'w': np.ones(3)}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.endswith("a pipe, not a file; choose another name: '/dev/stdout'\n")


def test_names_that_no_file_has(tmp_path):
    with pytest.raises(OSError, match="no name of a file"):
        write(f"{tmp_path}/a\0b")
    with pytest.raises(FileNotFoundError):
        opened(f"{tmp_path}/a\0b")
    write(tmp_path / ("é" * 120))  # 240 bytes; a name has at most 255
    write(tmp_path / ("x" * 255))
    assert len(list(tmp_path.iterdir())) == 2


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444 | 0o200, 0o755])
def test_the_mode_of_what_is_replaced_is_kept(tmp_path, mode):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(mode)
    with replacing(path) as file:
        file.write(b"new")
        (temporary,) = set(tmp_path.iterdir()) - {path}
        assert temporary.stat().st_mode & 0o777 & ~mode & ~0o600 == 0  # nobody else reads it before, either
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


@pytest.mark.parametrize("mode", [0o400, 0o444])
def test_a_read_only_file_is_not_replaced(tmp_path, mode):
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")
    path.chmod(mode)
    with pytest.raises(
        PermissionError, match=r"a read-only file; allow writing to it, or choose another name: .*x\.npz"
    ):
        fcnn.save(path, PARAMS)
    assert path.read_bytes() == b"old"
    path.chmod(0o600)


UNSUPPORTED = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS]


def failing(number, function, on):
    """The function, that raises where `on` its first argument says so."""

    def call(first, *rest):
        if on(first):
            raise OSError(number, os.strerror(number))
        return function(first, *rest)

    return call


def is_folder(handle):
    return stat.S_ISDIR(os.fstat(handle).st_mode)


@posix
@pytest.mark.parametrize("number", [*UNSUPPORTED, errno.EACCES, errno.EPERM, errno.EBADF])
def test_a_file_is_whole_where_folders_are_not_synced_and_modes_are_not_set(tmp_path, monkeypatch, number):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", failing(number, os.fsync, is_folder))
    monkeypatch.setattr(os, "chmod", failing(number, os.chmod, lambda path: True))
    write(path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])


@posix
@pytest.mark.parametrize("number", UNSUPPORTED)
def test_a_file_is_whole_where_nothing_is_synced(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number, os.fsync, lambda handle: True))
    write(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("on", ["the file", "its mode", "the folder"])
def test_other_errors_are_raised_and_name_the_file_that_was_asked_for(tmp_path, monkeypatch, number, on):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    if on == "its mode":
        monkeypatch.setattr(os, "chmod", failing(number, os.chmod, lambda path: True))
    else:
        monkeypatch.setattr(os, "fsync", failing(number, os.fsync, lambda it: is_folder(it) == (on == "the folder")))
    with pytest.raises(OSError, match=rf"^\[Errno {number}\] {os.strerror(number)}: '{path}'$") as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (number, str(path), None)
    # Where only the folder failed, the new file has its name, and is whole.
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new" if on == "the folder" else b"old", [path])


@posix
@pytest.mark.parametrize("call", ["open", "replace"])
def test_an_error_about_the_temporary_file_names_the_one_that_was_asked_for(tmp_path, monkeypatch, call):
    real = getattr(os, call)

    def fail(name, *rest):
        if str(name).endswith(".tmp"):
            raise PermissionError(errno.EACCES, "Permission denied", name, None, str(rest[0]))
        return real(name, *rest)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(PermissionError, match=rf"^\[Errno 13\] Permission denied: '{tmp_path / 'x'}'$"):
        write(tmp_path / "x")
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_an_error_about_another_file_is_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "x"):
        (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(OSError, match=r"^no more$"), replacing(tmp_path / "x"):
        raise OSError("no more")
    assert not list(tmp_path.iterdir())


WRITER = """
import sys
from fcnn.values.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half of it")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(path):
    """A process that is in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    return process


@posix
def test_what_a_killed_process_left_goes_with_the_next_write_and_nothing_else_does(tmp_path):
    others = [tmp_path / name for name in (".x.abc123.tmp", "x.tmp", ".x.fcnn-0123.tmp", "fcnn-0123456789abcdef.tmp")]
    for other in others:
        other.write_bytes(b"somebody's")
    pipe = tmp_path / ".x.fcnn-0123456789abcdef.tmp"
    os.mkfifo(pipe)
    killed, alive = writer(tmp_path / "x"), writer(tmp_path / "y")
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 7
    write(tmp_path / "z")  # another file of the same folder
    left = set(tmp_path.iterdir()) - {*others, pipe, tmp_path / "z"}
    assert len(left) == 1  # what is being written
    assert left.pop().name.startswith(".y.fcnn-")
    alive.communicate("")
    assert alive.returncode == 0
    assert (tmp_path / "y").read_bytes() == b"half of it"
    assert set(tmp_path.iterdir()) == {*others, pipe, tmp_path / "y", tmp_path / "z"}
    for process in (killed, alive):
        process.stdin.close()
        process.stdout.close()


@posix
@pytest.mark.parametrize("age", [0.9, 1.1])
def test_without_locks_what_is_a_day_old_is_left_over(tmp_path, monkeypatch, age):
    left = tmp_path / ".x.fcnn-0123456789abcdef.tmp"
    left.write_bytes(b"")
    then = time.time() - age * 86_400
    os.utime(left, (then, then))
    monkeypatch.setattr(locks, "lock", lambda handle: None)
    remove_leftovers(tmp_path)
    assert left.exists() == (age < 1)


@posix
def test_a_file_that_is_taken_for_left_over_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    real, taken = locks.lock, []

    def late(handle):
        if len(taken) < 2:  # once another is faster with the lock, and once with removing
            (temporary,) = tmp_path.iterdir()
            taken.append(temporary)
            temporary.unlink()
            return None if len(taken) == 1 else False
        return real(handle)

    monkeypatch.setattr(locks, "lock", late)
    write(tmp_path / "x")
    assert len(set(taken)) == 2
    assert ((tmp_path / "x").read_bytes(), len(list(tmp_path.iterdir()))) == (b"new", 1)


@posix
def test_a_folder_is_held_while_the_block_runs(tmp_path):
    for path, mine in ((tmp_path, True), (tmp_path / "gone", False)):
        with locks.held(path) as held:
            assert held is mine
            if mine:
                with locks.if_abandoned(path) as free:
                    assert not free
    with locks.if_abandoned(tmp_path) as free:
        assert free


def test_threads_that_write_the_same_file_all_end_well(tmp_path):
    """Also while each takes for left over what it can of the others': one of their contents is there at any time."""
    path = tmp_path / "x"
    contents = [bytes([i]) * 1000 for i in range(8)]
    errors = []
    start = threading.Barrier(len(contents))

    def run(content):
        try:
            start.wait()
            for _ in range(20):
                write(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_the_umask_is_never_changed(tmp_path, monkeypatch):
    """It belongs to all threads: what another one made in that moment would be open to all."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("changed"))
    write(tmp_path / "x")


def test_a_relative_name_is_one_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("x")
    write(Path("x"), b"newer")
    assert (tmp_path / "x").read_bytes() == b"newer"
