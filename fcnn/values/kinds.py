"""What a file looks like, by its first bytes and, of a zip, its members: for saying what was handed over instead."""

import codecs
import os
from typing import Literal, TypeAlias

from fcnn.values.archives import Archive, DamagedFileError, opened_archive
from fcnn.values.files import opened

Kind: TypeAlias = Literal["fcnn", "NumPy", "PyTorch", "safetensors", "ONNX"]

_HEAD = 512
_MOST_HEADER = 100_000_000  # bytes of safetensors
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of files before PyTorch 1.6
_ONNX_VERSIONS = range(3, 32)  # of its format; TensorFlow's graphs begin alike, with a 1
_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # that may come after the version
_KERAS = "beside Keras, np.savez('w.npz', *model.get_weights()) makes a file for fcnn.load_keras"
_TOLD: dict[str, str] = {
    "fcnn": "a checkpoint of fcnn: use fcnn.load_model, or fcnn.load",
    "NumPy": "arrays of NumPy: use np.load, or fcnn.load_keras for Keras's weights",
    "PyTorch": "a file of PyTorch: use fcnn.load_torch",
    "safetensors": "a file of safetensors: use fcnn.load_safetensors",
    "ONNX": "a model of ONNX: use fcnn.load_onnx",
}
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": f"HDF5, as Keras writes it: {_KERAS}",
    b"\x93NUMPY": "one array of NumPy (.npy): use np.load",
    b"\x89PNG\r\n\x1a\n": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"II*\0": "a picture (TIFF)",
    b"MM\0*": "a picture (TIFF)",
    b"\x1f\x8b": "a file of gzip: unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
}


def looks_like(path: str | os.PathLike[str], own: Kind) -> str | None:
    """What a file is, other than of the kind that it should be, as "it looks like …"; None where that isn't known.

    Raises OSError where it can't be read.
    """
    with opened(path) as raw:
        head = raw.read(_HEAD)
    found = _kind(head)
    if head[:2] == b"PK":
        try:
            with opened_archive(path) as archive:
                found = _kind_of_archive(archive)
        except DamagedFileError:
            found = own if own in ("fcnn", "NumPy", "PyTorch") else "a zip that isn't whole"
    return None if found in (None, own) else f"it looks like {_TOLD.get(found, found)}"


def _kind(head: bytes) -> str | None:
    """A key of `_TOLD`, or what to say."""
    for beginning, told in _BEGINNINGS.items():
        if head.startswith(beginning):
            return told
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a picture (WebP)"
    if head[257:262] == b"ustar":
        return "a file of tar: unpack it first"
    if head.startswith(_TORCH_LEGACY):
        return "PyTorch"
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle, of which nothing is run here: save its arrays with np.savez"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MOST_HEADER:
        return "safetensors"
    if head[:1] == b"\x08" and len(head) > 2 and head[1] in _ONNX_VERSIONS and head[2] in _ONNX_FIELDS:
        return "ONNX"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head).strip()  # it may end within a character
    except UnicodeDecodeError:
        return None
    if not text or not all(c.isprintable() or c.isspace() for c in text):
        return None
    if text[:14].lower().startswith(("<!doctype html", "<html")):
        return "a web page, not what was to be downloaded from there: download it again"
    return "text"


def _kind_of_archive(archive: Archive) -> str:
    names = archive.names
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "PyTorch"
    if {"config.json", "model.weights.h5"} <= {*names}:
        return f"a file of Keras: {_KERAS}"
    if names and archive.kind(names[0]) is not None:
        return "fcnn" if "meta" in names else "NumPy"
    return "a zip of something else"
