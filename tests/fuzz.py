"""Damaged files by the thousand, for all in fcnn that reads one: each comes out right, or with one sentence.

    python tests/fuzz.py --inputs 100000                    # all kinds in turn
    python tests/fuzz.py --minutes 60 --state fuzz.json     # go on with the same command where it was stopped or killed
    python tests/fuzz.py --kind checkpoint --first 4711 --inputs 1 --seed 3    # one input again

Input number i is the same for the same --seed and --kind. Each is read in a forked process, and judged:

right       what was read is what was written; or, where the damage made another whole file, what that file says
sentence    the documented error in one line (a checkpoint's differences: one line each) that names the file
failure     anything else: another exception, a wrong value, a long or garbled message, more than 64 MB of memory beyond
            what the file declares and may have, a hang, a crash. The input is written to --failures, with a line on why
"""

import argparse
import contextlib
import functools
import gzip
import io
import json
import multiprocessing
import os
import platform
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import damage
import data_files
import fuzz_exchange
import fuzz_onnx
import PIL
from fuzz_case import Case, Failure, require
from PIL import Image
from study.experiment.cells import Training, settings_of
from study.experiment.reuse import reuse
from study.experiment.run import Outcome
from study.experiment.store import Store, StudyError

import fcnn
from fcnn import LayerError
from fcnn.data import DataError, pictures, readers
from fcnn.training.checkpoint import CheckpointError

MOST_MEMORY = 64 << 20  # bytes beyond what a file declares and may have
MOST_SECONDS = 10  # of work; and six times as much on the clock, as a busy machine makes everything slow
MOST_CHARACTERS = 800  # of a line; the longest sentences list what can be done
TRACED = 10  # each tenth input's memory is also counted as it is asked for, whether it is touched or not: that is slow
ADDRESS_SPACE = 4 << 30  # bytes; a backstop
MODEL_LIMIT = 1 << 30  # bytes of arrays that load_model reads of any file
META_LIMIT = 40_000_000  # bytes of the text that each checkpoint has


class Hang(BaseException):
    """It took too long."""


# What is damaged.


class Checkpoints:
    """`load` against a template, `load_meta` and `load_model`."""

    def __init__(self, folder: Path) -> None:
        path = folder / "corpus.npz"
        network = fcnn.serial(fc1=fcnn.dense(4), bn1=fcnn.batch_norm(), drop1=fcnn.dropout(0.2), fc2=fcnn.dense(3))
        optimizer = fcnn.adam(1e-2)
        step = fcnn.train_step(network, fcnn.softmax_cross_entropy(), optimizer)
        self.template = fcnn.init_state(network, optimizer, fcnn.key(9), (5,))
        rng = np.random.default_rng(0)
        self.files: list[bytes] = []
        self.states, self.metas, self.models = [], [], []
        for seed in (0, 1):
            start = fcnn.init_state(network, optimizer, fcnn.key(seed), (5,))
            stream = [(rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 3, 6)) for _ in range(2)]
            state = fcnn.fold(step, start, stream)[0]
            meta = {"network": fcnn.describe(network), "in_shape": [5], "classes": list("abc"), "meta": {"é": seed}}
            fcnn.save(path, state, meta=meta)
            self.files.append(path.read_bytes())
            self.states.append(state)
            self.metas.append(fcnn.load_meta(path))
            self.models.append(fcnn.load_model(path))
        members = damage.members_of(self.files[0])
        self.files.append(damage.zip_file([attrs.evolve(member, method=8) for member in members]))

    def case(self, rng: random.Random) -> Case:
        data, other = rng.choice(self.files), rng.choice(self.files)
        exact = rng.random() < 0.3
        if exact:
            data = damage.blind(rng, data, other)
        else:
            data = damage.zip_mutated(rng, data, other, lambda member: self.inner(rng, member, other))
        errors = (CheckpointError,)
        arrays, meta = declared(data)
        match rng.randrange(3):
            case 0:
                check = functools.partial(self.is_state, data=data, exact=exact)
                return Case(data, self.load, check, errors, 2 * meta, lines=True)
            case 1:
                return Case(data, fcnn.load_meta, lambda found: self.is_meta(found, exact), errors, 2 * meta)
        allowed = 2 * (arrays + meta)
        return Case(data, fcnn.load_model, lambda found: self.is_model(found, exact), errors, allowed, lines=True)

    def inner(self, rng: random.Random, member: damage.Member, other: bytes) -> bytes:
        """The content of a member, changed."""
        try:
            if member.name == b"meta.npy" and rng.random() < 0.8:
                text = damage.text_of(member.content)
                return damage.npy_text(damage.json_text(rng, text, '{"format": 2, "layers": [1, 2]}'))
            return damage.npy_file(rng, member.content, other)
        except (ValueError, SyntaxError, LookupError, AttributeError, struct.error):  # it was changed before
            return damage.blind(rng, member.content, other)

    def load(self, path: Path) -> Any:
        return fcnn.load(path, like=self.template)

    def is_state(self, found: Any, data: bytes, exact: bool) -> bool:
        if found in self.states or exact:
            return found in self.states
        require(found.step >= 0, f"a step of {found.step}")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sections = {"params": found.params, "state": found.layer_state, "opt": found.opt_state}
            for name, tree in sections.items():
                for path, leaf in fcnn.tree.flatten(tree).items():
                    theirs = numpys(archive, f"{name}/{path}")
                    if leaf.dtype != theirs.dtype or leaf.shape != theirs.shape or leaf.tobytes() != theirs.tobytes():
                        return False
            return bool(found.step == numpys(archive, "step"))

    def is_meta(self, found: Any, exact: bool) -> bool:
        return found in self.metas if exact else isinstance(found, dict) and found.get("format") == 1

    def is_model(self, found: Any, exact: bool) -> bool:
        for model in self.models:
            if (found.params, found.state) == (model.params, model.state) and repr(found.network) == repr(
                model.network
            ):
                return True
        if exact:
            return False
        made = found.network.init(fcnn.key(0), found.in_shape)
        for ours, theirs in ((found.params, made.params), (found.state, made.state)):
            shapes = [{path: leaf.shape for path, leaf in fcnn.tree.flatten(tree).items()} for tree in (ours, theirs)]
            if shapes[0] != shapes[1]:
                return False
        return True


def numpys(archive: zipfile.ZipFile, name: str) -> Any:
    """An array of an archive as NumPy itself reads it, by either of the names that it may have."""
    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    return np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)


def declared(data: bytes) -> tuple[int, int]:
    """The bytes of an archive's arrays and of its meta, by its directory, as far as they are allowed."""
    arrays = meta = 0
    with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:
        arrays = min(sum(info.file_size for info in archive.infolist()), MODEL_LIMIT)
        meta = min(archive.getinfo("meta.npy").file_size, META_LIMIT)
    return arrays, meta


class DataFiles:
    """IDX files, plain and gzipped, and CIFAR-10 in its three forms."""

    def __init__(self, folder: Path) -> None:
        x, y = data_files.images(3, 3, 32, 32), data_files.labels(3)
        grey = data_files.images(5, 4, 3)
        self.images = data_files.idx(grey)
        self.labels = data_files.idx(data_files.labels(7))
        self.pickle = data_files.cifar_pickle(x, y)
        self.binary = data_files.cifar_binary(x, y)
        self.png = data_files.cifar_png(x)
        self.other = data_files.cifar_png(data_files.images(3, 3, 32, 32, seed=5))
        self.json = data_files.label_json(y)
        self.x, self.y = x, y

    def case(self, rng: random.Random) -> Case:
        kinds = (self.idx_images, self.idx_labels, self.gunzip, self.cifar_pickle, self.cifar_binary)
        return rng.choice((*kinds, self.cifar_pickle, self.cifar_png, self.cifar_png, self.label_json))(rng)

    def of(self, data: bytes, read: Any, check: Any) -> Case:
        return Case(data, lambda path: read(path.read_bytes(), str(path)), check, (DataError,), 2 * len(data))

    def idx_images(self, rng: random.Random) -> Case:
        data = damage.blind(rng, self.images, self.labels)

        def check(x: Any) -> bool:
            require(x.dtype == np.uint8 and x.ndim == 4 and x.shape[1] == 1 and x.size, f"{x.dtype} {x.shape}")
            n, _, h, w = x.shape
            return data == bytes([0, 0, 8, 3]) + struct.pack(">3I", n, h, w) + x.tobytes()

        return self.of(data, readers.read_idx_images, check)

    def idx_labels(self, rng: random.Random) -> Case:
        data = damage.blind(rng, self.labels, self.images)

        def check(y: Any) -> bool:
            return data == bytes([0, 0, 8, 1]) + struct.pack(">I", len(y)) + bytes(y.tolist()) and y.dtype == np.int64

        return self.of(data, readers.read_idx_labels, check)

    def gunzip(self, rng: random.Random) -> Case:
        size = len(self.images)
        exact = rng.random() < 0.5
        if exact:
            data = damage.blind(rng, gzip.compress(self.images, mtime=0))
        else:
            data = damage.gzip_mutated(rng, self.images, self.labels)

        def check(content: bytes) -> bool:
            return content == self.images if exact else content == zlib.decompressobj(31).decompress(data)

        return self.of(data, lambda data, name: readers.gunzip(data, size, name), check)

    def cifar_pickle(self, rng: random.Random) -> Case:
        if rng.random() < 0.7:
            data = damage.pickle_mutated(rng, self.pickle)
        else:
            data = damage.blind(rng, self.pickle, self.binary)
        return self.of(
            data, readers.read_cifar_pickle, lambda found: self.are_images(*found) and found[0].tobytes() in data
        )

    def cifar_binary(self, rng: random.Random) -> Case:
        data = damage.blind(rng, self.binary, self.pickle)

        def check(found: Any) -> bool:
            x, y = found
            records = [data[start : start + 3073] for start in range(0, len(data), 3073)]
            return self.are_images(x, y) and [bytes([v]) + i.tobytes() for v, i in zip(y, x, strict=True)] == records

        return self.of(data, readers.read_cifar_binary, check)

    def cifar_png(self, rng: random.Random) -> Case:
        if rng.random() < 0.3:
            data = damage.blind(rng, self.png, self.other)
        else:
            data = damage.png_mutated(rng, self.png, self.other)

        def check(x: Any) -> bool:
            rows = png_rows(data)
            require(x.shape == (len(rows), 3, 32, 32) and x.dtype == np.uint8, f"{x.dtype} {x.shape}")
            return bool(np.array_equal(x.reshape(-1, 3, 1024).transpose(0, 2, 1), rows))

        return self.of(data, readers.read_cifar_png, check)

    def label_json(self, rng: random.Random) -> Case:
        data = self.json
        data = damage.json_text(rng, data.decode()).encode() if rng.random() < 0.7 else damage.blind(rng, data)
        return self.of(data, readers.read_label_json, lambda y: y.tolist() == json.loads(data) and y.dtype == np.int64)

    def are_images(self, x: Any, y: Any) -> bool:
        require(x.dtype == np.uint8 and x.shape[1:] == (3, 32, 32) and len(x) == len(y), f"{x.dtype} {x.shape}")
        return y.dtype == np.int64 and all(0 <= label < 10 for label in y)


def png_rows(data: bytes) -> Any:
    """The pixels (rows, 1024, 3) of a PNG, read by the letter of the specification: no Pillow, no trust."""
    chunks = damage.png_chunks(data)
    chunks = chunks[: [kind for kind, _ in chunks].index(b"IEND")]
    require([kind for kind, _ in chunks].count(b"IHDR") == 1 and chunks[0][0] == b"IHDR", "a PNG with other headers")
    width, height = struct.unpack_from(">II", chunks[0][1])
    raw = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    require(len(raw) == height * (1 + 3 * width), "a PNG with other pixels than its header says")
    rows = np.zeros((height, 3 * width), np.uint8)
    before = [0] * (3 * width)
    for row in range(height):
        way, line = raw[row * (1 + 3 * width)], raw[row * (1 + 3 * width) + 1 :][: 3 * width]
        now: list[int] = []
        for i, value in enumerate(line):
            left, up, corner = (now[i - 3] if i >= 3 else 0), before[i], (before[i - 3] if i >= 3 else 0)
            near = left + up - corner
            nearest = min((abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner))[2]
            now.append((value + (0, left, up, (left + up) // 2, nearest)[way]) & 255)
        rows[row] = before = now
    return rows.reshape(height, width, 3)


class Pictures:
    """Pictures in every format, opened and prepared."""

    def __init__(self, folder: Path) -> None:
        pixels = data_files.images(1, 40, 30, 3)[0]
        pixels[10:30, 10:20] = 255
        coloured = Image.fromarray(pixels)
        grey = coloured.convert("L")
        self.files: list[tuple[str, bytes, Any]] = []
        for kind in pictures.FORMATS:
            for picture in (coloured, grey, coloured.convert("RGBA"), coloured.quantize(16), grey.convert("1")):
                stream = io.BytesIO()
                with contextlib.suppress(OSError):  # JPEG has no transparency
                    picture.save(stream, kind)
                    path = folder / "corpus"
                    path.write_bytes(stream.getvalue())
                    self.files.append((kind, stream.getvalue(), np.asarray(pictures.open_picture(path))))

    def case(self, rng: random.Random) -> Case:
        kind, data, original = rng.choice(self.files)
        alike = [one for one in self.files if one[0] == kind]
        _, other, others = rng.choice(alike)
        exact = kind == "PNG" and rng.random() < 0.4
        if kind == "PNG" and not exact:
            data = damage.png_mutated(rng, data, other)
        else:
            data = damage.blind(rng, data, other)

        def check(found: Any) -> bool:
            picture, prepared = found
            array = np.asarray(picture)
            require(array.shape[:2] == (picture.height, picture.width), f"a picture of {picture.size} as {array.shape}")
            if prepared is not None:
                image, _ = prepared
                require(
                    (image.shape, image.dtype) == ((1, 28, 28), np.uint8), f"prepared as {image.dtype} {image.shape}"
                )
            if kind != "PNG":
                return True
            headers = [content for name, content in png_beginning(data) if name == b"IHDR"]
            require(len(headers) == 1, "a PNG with two headers")
            require(sorted(picture.size) == sorted(struct.unpack_from(">II", headers[0])), "another size")
            return not exact or any(np.array_equal(array, one) for one in (original, others))

        # Decoded, laid over white and scaled: a few copies of at most so many pixels, of 4 bytes.
        return Case(data, self.read, check, (pictures.PictureError,), declared_pixels(data) * 16, named=False)

    def read(self, path: Path) -> Any:
        picture = pictures.open_picture(path)
        try:
            return picture, pictures.read_picture(path, "mnist")
        except pictures.PictureError as error:
            require("nothing is on it" in str(error), f"it opens, but: {error}")
            return picture, None


def png_beginning(data: bytes) -> list[tuple[bytes, bytes]]:
    """As many chunks of a PNG as there are."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
        if chunks[-1][0] == b"IEND":
            break
    return chunks


def declared_pixels(data: bytes) -> int:
    """The pixels that a picture's header declares, as far as they are allowed."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            return min(picture.width * picture.height, pictures.MOST_PIXELS)
    return 0


class Descriptions:
    """`fcnn.build`."""

    def __init__(self, folder: Path) -> None:
        inner = fcnn.serial(fcnn.conv2d(4, 3, padding=1, weights=fcnn.he()), fcnn.batch_norm(), fcnn.relu())
        network = fcnn.serial(
            conv1=fcnn.conv2d(4, (3, 2), stride=2, padding=1),
            res1=fcnn.residual(inner, shortcut=fcnn.identity()),
            two=fcnn.branch(a=fcnn.avg_pool2d(2), b=fcnn.max_pool2d(2), merge="concat"),
            drop=fcnn.dropout(0.5),
            flat=fcnn.flatten(),
            fc=fcnn.dense(10, weights=fcnn.xavier(), biases=fcnn.constant(0.1)),
            act=fcnn.leaky_relu(0.1),
        )
        self.files = [json.dumps(fcnn.describe(one)) for one in (network, fcnn.models.lenet5(), fcnn.dense(3))]

    def case(self, rng: random.Random) -> Case:
        text = damage.json_text(rng, rng.choice(self.files), rng.choice(self.files))
        try:
            description = json.loads(text)
        except (ValueError, RecursionError):  # not JSON, so no description
            description = text

        def check(layer: Any) -> bool:
            again = fcnn.describe(layer)
            return plain(again) == plain(description) or repr(fcnn.build(again)) == repr(layer)

        return Case(
            text.encode("utf-8", "surrogatepass"),
            lambda path: fcnn.build(description),
            check,
            (LayerError,),
            named=False,
        )


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


class Cells:
    """The study's cells, and the results.json of another study to be reused."""

    def __init__(self, folder: Path) -> None:
        self.cell = Training(epochs=1, seed=3, detail=True)
        self.plain = Training(epochs=1, seed=3)
        history = [{"epoch": 1, "loss": 0.5, "seconds": 1.0, "test_accuracy": 0.9}]
        result = {"history": history, "test_accuracy": 0.9, "macro_f1": 0.8, "seconds": 1.5}
        machine = {"processor": "any", "cores": 2, "versions": {"Python": "3.11"}, "blas": "none"}
        self.held = {"predictions": np.arange(20) % 10, "filters": np.ones((2, 1, 3, 3), np.float32)}
        self.store = Store(folder / "cells")
        self.store.folder.mkdir()
        self.entry = self.store.save(self.cell, Outcome(result, self.held, machine))
        self.text = (self.store.folder / f"{self.entry['key']}.json").read_bytes()
        self.arrays = (self.store.folder / f"{self.entry['key']}.npz").read_bytes()
        again = Store(folder / "again")
        again.folder.mkdir()
        entry = again.save(self.plain, Outcome(result, {}, machine))
        self.results = json.dumps({"meta": {"scale": "quick"}, "cells": [entry, self.entry]}).encode()

    def case(self, rng: random.Random) -> Case:
        which = rng.choice((".json", ".npz", "reuse"))
        data, other = {".json": (self.text, self.results), ".npz": (self.arrays, self.text)}.get(
            which, (self.results, b"")
        )
        if rng.random() < 0.3:
            data = damage.blind(rng, data, other)
        elif which == ".npz":
            data = damage.zip_mutated(rng, data, data, lambda member: self.inner(rng, member))
        else:
            data = damage.json_text(rng, data.decode()).encode()
        if which == "reuse":
            return Case(data, self.reuse, self.is_reused, (StudyError,), 4 * len(data))
        # What is damaged is run again. If none were, the values would have to be those that were written.
        return Case(data, lambda path: self.load(path, which), self.is_whole, (StudyError,), 4 * len(data))

    def inner(self, rng: random.Random, member: damage.Member) -> bytes:
        with contextlib.suppress(ValueError, SyntaxError, LookupError, AttributeError, struct.error):
            return damage.npy_file(rng, member.content)
        return damage.blind(rng, member.content)

    def load(self, path: Path, suffix: str) -> Any:
        place = self.store.folder / self.entry["key"]
        place.with_suffix(".json").write_bytes(self.text)
        place.with_suffix(".npz").write_bytes(self.arrays)
        os.replace(path, place.with_suffix(suffix))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            entry = self.store.load(self.cell)
        require(entry is not None or str(place) in out.getvalue(), "not a word on why the cell is run again")
        return entry, None if entry is None else self.store.arrays(self.entry["key"])

    def is_whole(self, found: Any) -> bool:
        entry, arrays = found
        if entry is None:
            return True
        same = {name: array.tobytes() for name, array in self.held.items()}
        return entry == self.entry and {name: array.tobytes() for name, array in arrays.items()} == same

    def reuse(self, path: Path) -> Any:
        store = Store(path.parent / "new")
        store.folder.mkdir(exist_ok=True)
        for old in store.folder.iterdir():
            old.unlink()
        require(isinstance(reuse(path, [self.plain], store), str), "no sentence")
        return store.load(self.plain)

    def is_reused(self, entry: Any) -> bool:
        if entry is None:  # the file is of other cells
            return True
        require((entry["kind"], entry["config"]) == settings_of(self.plain), "another cell's entry")
        return isinstance(entry["result"], dict) and isinstance(entry["machine"], dict)


KINDS = {
    "checkpoint": Checkpoints,
    "data": DataFiles,
    "picture": Pictures,
    "description": Descriptions,
    "cell": Cells,
    **fuzz_exchange.KINDS,
    **fuzz_onnx.KINDS,
}


# How they are read and judged.


def judged(case: Case, path: Path) -> tuple[str, str]:
    """The verdict and, for a failure, why."""
    try:
        found = case.read(path)
    except Failure as failure:
        return "failure", str(failure)
    except case.errors as error:
        fault = not_a_sentence(str(error), path, case)
        return ("failure", f"{fault}: {error!s:.2000}") if fault else ("sentence", "")
    except Exception as error:
        return "failure", f"{type(error).__name__}: {error!s:.500}"
    try:
        return ("right", "") if case.check(found) else ("failure", "what was read is not what the file says")
    except Failure as failure:
        return "failure", str(failure)
    except Exception as error:
        return "failure", f"it was read, and is no such file: {type(error).__name__}: {error!s:.500}"


def not_a_sentence(message: str, path: Path, case: Case) -> str | None:
    """What is wrong with a message."""
    short = message.replace(str(path.parent), "")
    lines = short.split("\n  ")
    if len(lines) > 1 and not case.lines:
        return "a message of several lines"
    if max(map(len, lines)) > MOST_CHARACTERS:
        return "a long message"
    if not all(line.strip() and line.isprintable() for line in lines):
        return "an unprintable message"
    if "Traceback" in message or "object at 0x" in message:
        return "a message out of Python"
    if case.named and str(path.parent) not in message:
        return "a message without the file"
    return None


def run_one(kind: Any, name: str, seed: int, number: int, folder: Path) -> tuple[str, str, int]:
    """Verdict, reason, and the bytes that it took beyond those allowed."""
    case = kind.case(random.Random(f"{seed} {name} {number}"))
    path = folder / "input"
    path.write_bytes(case.data)
    resident = reset_peak()
    traced = number % TRACED == 0 or not resident
    if traced:
        tracemalloc.start()
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 6 * MOST_SECONDS)
    try:
        verdict, why = judged(case, path)
    except Hang:
        verdict, why = "failure", f"a hang of {MOST_SECONDS} s of work, or of {6 * MOST_SECONDS} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    taken = max(tracemalloc.get_traced_memory()[1] if traced else 0, peak() - resident) - case.allowed
    if traced:
        tracemalloc.stop()
    if taken > MOST_MEMORY:
        verdict, why = "failure", f"{taken / 1e6:.0f} MB beyond what the file may have ({verdict})"
    return verdict, why, max(taken, 0)


def reset_peak() -> int:
    """Set the process's peak of resident memory to what it has now, in bytes, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def serve(names: list[str], seed: int, first: int, stop: int, connection: Any, parents: Any) -> None:
    """Run inputs and send what became of each, in a process of its own, which ends with its parent."""
    parents.close()  # so that nobody is left to send to when the parent is killed

    def hang(*_: Any) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGPROF, hang)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a folder that no disk is waited for in
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as temporary:
        kinds = {}
        for name in names:
            folder = Path(temporary) / name
            folder.mkdir()
            kinds[name] = KINDS[name](folder)
        connection.send(None)
        with contextlib.suppress(BrokenPipeError):
            for number in range(first, stop):
                name = names[number % len(names)]
                connection.send((number, *run_one(kinds[name], name, seed, number, Path(temporary) / name)))


@attrs.define
class Progress:
    """What has been found so far: all that --state keeps."""

    seed: int
    names: list[str]
    next: int
    seconds: float = 0.0
    counts: dict[str, dict[str, int]] = attrs.field(factory=dict)
    peak: dict[str, int] = attrs.field(factory=dict)
    failures: list[str] = attrs.field(factory=list)

    def add(self, number: int, verdict: str, why: str, taken: int) -> None:
        name = self.names[number % len(self.names)]
        counts = self.counts.setdefault(name, {"right": 0, "sentence": 0, "failure": 0})
        counts[verdict] += 1
        self.peak[name] = max(self.peak.get(name, 0), taken)
        self.next = number + 1
        if verdict == "failure":
            self.failures.append(f"{name} {number}: {why}".encode("ascii", "backslashreplace").decode())


def fuzz(
    progress: Progress, inputs: int | None, seconds: float | None, save: Callable[[Progress], None], told: Any
) -> Progress:
    """Run inputs until there are as many, or the time is over. What a crash or hang befell counts as a failure."""
    context = multiprocessing.get_context("fork")
    began, start = time.monotonic() - progress.seconds, progress.next
    stop = start + inputs if inputs is not None else sys.maxsize
    kept = 0.0

    def over() -> bool:
        return progress.next >= stop or (seconds is not None and time.monotonic() - began >= seconds)

    while not over():
        ours, theirs = context.Pipe(duplex=False)
        arguments = (progress.names, progress.seed, progress.next, stop, theirs, ours)
        server = context.Process(target=serve, args=arguments, daemon=True)
        server.start()
        theirs.close()
        try:
            while not over():
                if not ours.poll(60 + 6 * MOST_SECONDS):
                    progress.add(progress.next, "failure", "a hang that no alarm ends", 0)
                    break
                found = ours.recv()
                if found is not None:
                    progress.add(*found)
                    if found[1] == "failure":
                        told(progress.failures[-1])
                progress.seconds = time.monotonic() - began
                if found is not None and time.monotonic() - kept > 5:
                    save(progress)
                    kept = time.monotonic()
        except EOFError:
            if not over():
                server.join()
                progress.add(progress.next, "failure", f"a crash, exit code {server.exitcode}", 0)
                told(progress.failures[-1])
        finally:
            server.kill()
            server.join()
            ours.close()
    progress.seconds = time.monotonic() - began
    save(progress)
    return progress


def report(progress: Progress) -> dict[str, Any]:
    """What --record writes."""
    return {
        "inputs": sum(sum(counts.values()) for counts in progress.counts.values()),
        "seed": progress.seed,
        "seconds": round(progress.seconds),
        "kinds": {
            name: {**counts, "most MB beyond what is allowed": round(progress.peak[name] / 1e6, 1)}
            for name, counts in progress.counts.items()
        },
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "pillow": PIL.__version__},
    }


def write(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, help="how many (default 10,000, or as many as --minutes allow)")
    parser.add_argument("--minutes", type=float, help="how long, with what --state has counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="one of them (default: all in turn)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first input's number")
    parser.add_argument("--state", type=Path, metavar="FILE", help="kept up to date, and gone on from")
    parser.add_argument(
        "--failures", type=Path, metavar="FOLDER", help="where failing inputs go (default: a new folder)"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the counts as JSON")
    arguments = parser.parse_args(argv)
    names = [arguments.kind] if arguments.kind else list(KINDS)
    progress = Progress(arguments.seed, names, arguments.first)
    if arguments.state and arguments.state.exists():
        progress = Progress(**json.loads(arguments.state.read_text()))
        if (progress.seed, progress.names) != (arguments.seed, names):
            parser.error(f"{arguments.state} is of --seed {progress.seed} and {', '.join(progress.names)}")
    inputs = arguments.inputs
    if inputs is None and arguments.minutes is None:
        inputs = 10_000
    if inputs is not None:
        inputs -= progress.next - arguments.first
    seconds = None if arguments.minutes is None else 60 * arguments.minutes

    def save(progress: Progress) -> None:
        if arguments.state:
            write(arguments.state, attrs.asdict(progress))

    try:
        progress = fuzz(progress, inputs, seconds, save, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        save(progress)
        print("interrupted", file=sys.stderr)
        return 130
    result = report(progress)
    print(json.dumps(result, indent=1))
    if progress.failures:
        folder = arguments.failures or Path(tempfile.mkdtemp(prefix="fuzz-failures-"))
        write_failures(progress, folder)
        print(f"{len(progress.failures)} failures are in {folder}")
    if arguments.record:
        write(arguments.record, result)
    return 1 if progress.failures else 0


def write_failures(progress: Progress, folder: Path) -> None:
    """Each failing input again as a file, and a list of why."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        kinds = {name: KINDS[name](Path(temporary)) for name in progress.names}
        for failure in progress.failures:
            name, number = failure.split(":")[0].split()
            case = kinds[name].case(random.Random(f"{progress.seed} {name} {number}"))
            (folder / f"{name}-{progress.seed}-{number}").write_bytes(case.data)
    (folder / "failures.txt").write_text("\n".join(progress.failures) + "\n")


if __name__ == "__main__":
    sys.exit(main())
