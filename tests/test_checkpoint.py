"""Checkpoints: every bit comes back, a failing write harms nothing, and no file can do harm."""

import contextlib
import errno
import hashlib
import io
import json
import os
import struct
import tracemalloc
import zipfile
from tempfile import TemporaryDirectory

import attrs
import damage
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, trees

import fcnn
from fcnn import CheckpointError, Init, freeze, load, load_meta, save, tree

ODD = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1 / 3])
PARAMS = freeze({"conv1": {"w": ODD.reshape(1, 7), "b": np.float32([1.5, -2.5])}, "scale": np.array(0.1)})
NETWORK = fcnn.serial(fc1=fcnn.dense(4), bn1=fcnn.batch_norm(), drop1=fcnn.dropout(0.2), fc2=fcnn.dense(3))
OPTIMIZER = fcnn.chain(fcnn.clip_by_global_norm(1.0), fcnn.adam(1e-2))


def trained(dtype=np.float32, steps=3, seed=0):
    rng = np.random.default_rng(seed)
    state = fcnn.init_state(NETWORK, OPTIMIZER, fcnn.key(seed), (5,), dtype)
    step = fcnn.train_step(NETWORK, fcnn.softmax_cross_entropy(), OPTIMIZER)
    stream = [(rng.normal(size=(6, 5)).astype(dtype), rng.integers(0, 3, 6)) for _ in range(steps)]
    return fcnn.fold(step, state, stream)[0]


TEMPLATE = fcnn.init_state(NETWORK, OPTIMIZER, fcnn.key(9), (5,))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.npz"


def test_a_tree_comes_back_bit_for_bit(path):
    save(path, PARAMS)
    found = load(path, like=tree.map(np.zeros_like, PARAMS))
    assert found == PARAMS
    assert list(tree.flatten(found)) == list(tree.flatten(PARAMS))
    assert all(not leaf.flags.writeable for leaf in tree.flatten(found).values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_state_comes_back_bit_for_bit(path, dtype):
    state = trained(dtype)
    save(str(path), state)
    found = load(str(path), like=fcnn.init_state(NETWORK, OPTIMIZER, fcnn.key(9), (5,), dtype))
    assert found == state
    assert (type(found.step), found.step, found.key) == (int, 3, state.key)


def test_parameters_with_state_come_back(path):
    state = trained()
    save(path, Init(state.params, state.layer_state, (3,)))
    template = NETWORK.init(fcnn.key(9), (5,))
    assert load(path, like=template) == Init(state.params, state.layer_state, (3,), template.macs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
METAS = st.dictionaries(st.text().filter(lambda name: name != "format"), JSON, max_size=4)


@given(trees(), METAS)
@examples(120)
def test_any_tree_and_any_meta_come_back(nested, meta):
    """Of any dtypes, shapes, bits and memory orders."""
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "any name")
        save(path, nested, meta=meta)
        found = load(path, like=tree.map(np.zeros_like, nested))
        assert found == nested
        assert list(tree.flatten(found)) == list(tree.flatten(nested))
        assert load_meta(path) == {**meta, "format": 1}
        with np.load(path, allow_pickle=False) as archive:  # and NumPy alone reads it
            others = {name.removeprefix("params/"): archive[name] for name in archive.files if name != "meta"}
        assert tree.unflatten(others) == nested


@given(trees(), trees(), trees(), st.integers(0, 2**63 - 1), st.integers(0, 2**128 - 1))
@examples(60)
def test_any_state_comes_back(params, layer_state, opt_state, step, key):
    state = fcnn.TrainState(params, layer_state, opt_state, step, fcnn.Key(key))
    blank = [tree.map(np.zeros_like, part) for part in (params, layer_state, opt_state)]
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "c.npz")
        save(path, state)
        assert load(path, like=fcnn.TrainState(*blank, 0, fcnn.key(0))) == state
        assert load(path, like=Init(*blank[:2], (3,), 5)) == Init(params, layer_state, (3,), 5)
        assert load(path, like=blank[0]) == params


def test_a_part_loads_from_a_whole_checkpoint_but_not_the_other_way_round(path):
    state = trained()
    save(path, state)
    assert load(path, like=TEMPLATE.params) == state.params
    assert load(path, like=NETWORK.init(fcnn.key(9), (5,)))[:2] == (state.params, state.layer_state)
    save(path, state.params)
    with pytest.raises(CheckpointError, match=r"(?s)missing: state/bn1/mean.*missing: opt/adam/.*missing: step"):
        load(path, like=TEMPLATE)


def test_the_members_are_plain_arrays_named_by_path(path):
    state = trained()
    save(path, state, meta={"note": "é", "list": [1, None]})
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    names = ["fc1/w", "fc1/b", "bn1/gamma", "bn1/beta", "fc2/w", "fc2/b"]
    sections = {"params": names, "state": ["bn1/mean", "bn1/var"], "opt/adam/mu": names, "opt/adam/nu": names}
    expected = {f"{section}/{name}" for section, of_it in sections.items() for name in of_it}
    assert set(arrays) == expected | {"step", "key", "meta"}
    np.testing.assert_array_equal(arrays["params/fc1/w"], state.params["fc1"]["w"])
    assert (arrays["step"].shape, int(arrays["step"])) == ((), 3)
    assert sum(int(word) << 32 * i for i, word in enumerate(arrays["key"])) == state.key.value
    assert json.loads(str(arrays["meta"])) == {"format": 1, "note": "é", "list": [1, None]}
    assert load_meta(path) == {"format": 1, "note": "é", "list": [1, None]}


def test_the_same_value_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name, trained(), meta={"note": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="archives name the system that made them")
def test_every_numpy_and_python_writes_the_same_bytes(path):
    leaf = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    save(path, fcnn.freeze({"c": leaf, "f": leaf[0].T, "strided": leaf[:, ::2, ::-1], "none": leaf[:, :0]}))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == "0a0bf2549c68ad37d2f52e8d3db7c812e593f25cd97311285c9cc0b65d3621ce"


@pytest.mark.parametrize("meta", [{"format": 7}, {"text": "x" * 1_100_000}], ids=["format", "a megabyte"])
def test_meta_that_is_saved_can_be_read(path, meta):
    """If it can't, it is refused at once: a file that can never be read is worse than an error."""
    with contextlib.suppress(ValueError):
        save(path, PARAMS, meta=meta)
    if path.exists():
        assert load(path, like=PARAMS) == PARAMS
        assert load_meta(path).keys() == {"format", *meta}


@pytest.mark.parametrize("meta", [{"x": float("nan")}, {"x": np.ones(1)}, {"x": {1, 2}}])
def test_meta_that_json_cannot_hold_is_refused_before_anything_is_written(path, meta):
    with pytest.raises((ValueError, TypeError), match="JSON"):
        save(path, PARAMS, meta=meta)
    assert not list(path.parent.iterdir())


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
@pytest.mark.parametrize("where", ["fcnn.training.checkpoint.write_archive", "os.fsync", "os.replace"])
def test_a_failing_write_leaves_the_old_file_whole_and_nothing_else(path, monkeypatch, where, error):
    save(path, PARAMS)

    def fail(file, *args, **kwargs):
        if where.endswith("write_archive"):
            file.write(b"half of it")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(type(error)):
            save(path, trained())
    assert load(path, like=PARAMS) == PARAMS
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells a folder's handle from a file's by /proc")
def test_the_file_is_on_disk_before_it_takes_the_name_and_the_folder_after(path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def watched_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    save(path, PARAMS)
    assert events == ["file", "replace", "folder"]


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; make it first: '.*c.npz'$"):
        save(tmp_path / "nowhere" / "c.npz", PARAMS)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "c.npz", like=PARAMS)
    with pytest.raises(OSError, match="directory"):
        load(tmp_path, like=PARAMS)


@pytest.mark.skipif(os.name != "posix", reason="links and modes are POSIX's")
def test_a_file_that_cannot_be_opened_is_an_oserror(tmp_path):
    loop, closed = tmp_path / "loop.npz", tmp_path / "closed.npz"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="Too many levels"):
        load(loop, like=PARAMS)
    save(closed, PARAMS)
    closed.chmod(0)
    if not os.access(closed, os.R_OK):  # root may read everything
        with pytest.raises(PermissionError):
            load(closed, like=PARAMS)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_file_is_as_readable_as_the_umask_says(path, mask):
    before = os.umask(mask)
    try:
        save(path, PARAMS)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_every_difference_is_in_one_error(path):
    save(path, freeze({"a": {"w": np.ones((2, 3)), "extra": np.ones(1)}, "b": np.ones(4, np.float32), "c": np.ones(2)}))
    with pytest.raises(CheckpointError) as raised:
        load(path, like=freeze({"a": {"w": np.ones((3, 2)), "v": np.ones(1)}, "b": np.ones(4), "c": np.ones(2)}))
    first, *lines = str(raised.value).splitlines()
    assert first.startswith(f"{path}: 4 difference(s) from the template")
    assert sorted(line.strip() for line in lines) == [
        "missing: params/a/v",
        "unexpected: params/a/extra",
        "wrong dtype (float32, expected float64): params/b",
        "wrong shape ((2, 3), expected (3, 2)): params/a/w",
    ]


def test_leftovers_in_a_section_that_the_template_has_empty_are_differences(path):
    save(path, trained())
    plain = fcnn.serial(fc1=fcnn.dense(4), fc2=fcnn.dense(3))
    with pytest.raises(CheckpointError, match="unexpected: state/bn1/mean"):
        load(path, like=plain.init(fcnn.key(0), (5,)))


# Damaged files.

SMALL = freeze({"w": np.array([1.5, -2.5], np.float32)})


@pytest.fixture
def raw(path):
    save(path, SMALL)
    return path.read_bytes()


def test_no_truncated_file_is_read(path, raw):
    for length in range(0, len(raw), 3):
        path.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=r"not a whole \.npz file"):
            load(path, like=SMALL)
    save(path, trained())
    whole = path.read_bytes()
    for eighth in range(8):
        path.write_bytes(whole[: len(whole) * eighth // 8])
        with pytest.raises(CheckpointError):
            load(path, like=TEMPLATE)


def test_a_flipped_bit_is_an_error_or_makes_no_difference(path, raw):
    """One bit of each third byte, and of every byte of the numbers."""
    begin = raw.index(SMALL["w"].tobytes())
    numbers = range(begin, begin + SMALL["w"].nbytes)
    refused = set()
    for position in {*range(0, len(raw), 3), *numbers}:
        flipped = bytearray(raw)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            found = load(path, like=SMALL)
        except (CheckpointError, OSError):
            refused.add(position)
        else:
            assert found == SMALL, position
    assert refused >= set(numbers)


# Files made to harm.


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_with_header(header, data=bytes(8)):
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


META = npy(np.array('{"format": 1}'))
GOOD = {"params/w.npy": npy(SMALL["w"]), "meta.npy": META}


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    pairs = members.items() if isinstance(members, dict) else members
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in pairs:
            archive.writestr(name, content)


def claim(path, name, **fields):
    """Overwrite fields of a member's entry in the zip's directory: `size`, `packed` or `method`."""
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(name.encode()) - 46
    assert raw[entry : entry + 4] == b"PK\1\2"
    for field, value in fields.items():
        offset, form = {"method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}[field]
        struct.pack_into(form, raw, entry + offset, value)
        if field == "method":
            local = raw.index(name.encode()) - 30
            struct.pack_into("<H", raw, local + 8, value)
    path.write_bytes(raw)


def refused(path, message="c.npz: "):
    """Loading is refused in the documented way, and doesn't take much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            load(path, like=SMALL)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_file_written_by_hand_loads(path):
    """So the refusals below are of what they say, and not of how the files are made."""
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        write_zip(path, GOOD, compression)
        assert load(path, like=SMALL) == SMALL


class Mine:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("member", ["params/w.npy", "meta.npy"])
def test_pickles_are_refused_and_never_run(path, tmp_path, member):
    target = tmp_path / "harm"
    pickled = npy(np.array([Mine(target), None], object), allow_pickle=True)
    write_zip(path, {**GOOD, member: pickled})
    refused(path, "not a plain array: params/w" if member.startswith("params") else "`meta` is not a JSON object")
    with pytest.raises(CheckpointError):
        load_meta(path) if member == "meta.npy" else load(path, like=SMALL)
    assert not target.exists()


def test_a_member_larger_than_the_template_is_not_read(path):
    write_zip(path, {**GOOD, "params/w.npy": npy(np.zeros(4_000_000))})
    refused(path, r"wrong shape \(\(4000000,\), expected \(2,\)\): params/w")


BOMB = 60_000_000
BOMBS = {
    "an array": ("params/w.npy", npy(np.zeros(BOMB // 8)), 9_000),
    "a header": ("params/w.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB) + b" " * BOMB, 9_000),
    "the header of meta": ("meta.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB) + b" " * BOMB, 9_000),
    "meta": ("meta.npy", npy(np.zeros((), f"<U{BOMB // 4}")), 100_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_zip_bombs_are_refused_without_inflating_them(path, name):
    member, content, size = BOMBS[name]
    write_zip(path, {**GOOD, member: content}, zipfile.ZIP_DEFLATED)
    claim(path, member, size=size)
    assert path.stat().st_size < 200_000
    refused(path)


@pytest.mark.parametrize("member", ["params/w.npy", "meta.npy"])
@pytest.mark.parametrize("fields", [("size",), ("size", "packed")])
def test_claims_of_gigabytes_are_refused_without_allocating_them(path, member, fields):
    write_zip(path, GOOD)
    claim(path, member, **dict.fromkeys(fields, 1 << 31))
    refused(path)


@pytest.mark.parametrize("member", ["params/w.npy", "meta.npy"])
@pytest.mark.parametrize(
    "header",
    [
        "",
        "{'descr': (",
        "{[]: 1}\n",
        "(" * 3000,
        "-" * 5000 + "1",
        "{'descr': ('<f4',), 'fortran_order': False, 'shape': (2,), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }\n" % ("9" * 5000),
        "{'descr': [('x', '<f4', (99999999999999999999,))], 'fortran_order': False, 'shape': (2,), }\n",
    ],
    ids=lambda header: header[:45].strip() or "empty",
)
def test_headers_that_are_none(path, member, header):
    write_zip(path, {**GOOD, member: npy_with_header(header)})
    refused(path)


@pytest.mark.parametrize("method", [8, 12, 14, 99], ids=["deflate", "bzip2", "lzma", "unknown"])
def test_bytes_that_are_not_of_the_method_that_they_claim(path, method):
    write_zip(path, {**GOOD, "params/w.npy": b"\xff" * 136})
    claim(path, "params/w.npy", method=method)
    with pytest.raises((CheckpointError, OSError)):
        load(path, like=SMALL)


def test_too_few_or_too_many_bytes_for_the_shape(path):
    for data in (bytes(7), bytes(9)):
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"
        write_zip(path, {**GOOD, "params/w.npy": npy_with_header(header, data)})
        refused(path, "wrong length: params/w")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["params/w.npy", "params/w", "meta.npy"])
def test_a_member_twice_is_refused(path, name):
    write_zip(path, [*GOOD.items(), (name, GOOD.get(name, GOOD["params/w.npy"]))])
    refused(path, f"{name.removesuffix('.npy')} is in the file twice")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (None, "no checkpoint of fcnn: it holds no `meta`"),
        (npy(np.array("{not JSON")), "`meta` is not a JSON object"),
        (npy(np.array("[" * 100_000)), "not a"),
        (npy(np.array("")), "`meta` is not a JSON object"),
        (npy(np.array(['{"format": 1}'])), "`meta` is not a JSON object"),
        (npy(np.array(1)), "`meta` is not a JSON object"),
        (npy(np.array('{"format": 2}')), "format 2, this fcnn reads 1; use the fcnn that wrote it"),
        (npy(np.array("{}")), "format None, this fcnn reads 1"),
    ],
    ids=["none", "no JSON", "too deep", "empty", "1-D", "a number", "newer", "no format"],
)
def test_meta_that_is_none(path, meta, message):
    write_zip(path, {name: content for name, content in {**GOOD, "meta.npy": meta}.items() if content is not None})
    refused(path, message)
    with pytest.raises(CheckpointError, match=message):
        load_meta(path)


@pytest.mark.parametrize("content", [b"", b"not\0a zip", bytes(5000)])
def test_what_is_no_zip_is_refused(path, content):
    path.write_bytes(content)
    refused(path, r"not a whole \.npz file")


def wrapped(members, **options):
    return damage.zip_file([damage.Member(name.encode(), data) for name, data in members.items()], **options)


MEMBERS = [damage.Member(name.encode(), data) for name, data in GOOD.items()]


@pytest.mark.parametrize("method", [12, 14], ids=["bzip2", "lzma"])
@pytest.mark.parametrize("member", GOOD)
def test_what_is_compressed_in_ways_that_take_any_memory_is_refused(path, method, member):
    """A kilobyte of them may ask for gigabytes, whatever is asked of them."""
    bomb = damage.Member(member.encode(), bytes(1 << 20), method)
    path.write_bytes(damage.zip_file([bomb, *(one for one in MEMBERS if one.name != bomb.name)]))
    assert path.stat().st_size < 100_000
    refused(path, rf"{member.removesuffix('.npy')} is compressed in the way {method}, which \.npz files are not")


def spoilt(**changes):
    """The good file with its members' fields changed, in their headers and in the directory."""
    return damage.zip_file([attrs.evolve(member, central=changes, local=changes) for member in MEMBERS])


ALL = {"here": 0xFFFF, "entries": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
BAD_ZIPS = {
    "the directory before the beginning": wrapped(GOOD, end={"offset": 0xFFFFFF00}),
    "the directory beyond the end": wrapped(GOOD, end={"size": 0x7FFFFFFF}),
    "the directory somewhere": wrapped(GOOD, end={"offset": 7}),
    "zip64 beyond int": wrapped(GOOD, end=ALL, zip64={"offset": (1 << 64) - 1}),
    "zip64 of no size": wrapped(GOOD, end=ALL, zip64={"size": (1 << 63) - 1}),
    "bad UTF-8": damage.zip_file([attrs.evolve(MEMBERS[0], name=b"\xff\xfe", central={"flags": 0x800})]),
    "encrypted": spoilt(flags=1),
    "strongly encrypted": spoilt(flags=0x40),
    "patched": spoilt(flags=0x20),
    "a wrong checksum": spoilt(crc=1),
    "a version to come": spoilt(version=255),
    "members before the beginning": spoilt(offset=0xFFFFFFFF),
    "a name cut short": spoilt(name=3),
}


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_damaged_zip_is_told_in_a_sentence(path, name):
    path.write_bytes(BAD_ZIPS[name])
    with pytest.raises(CheckpointError) as caught:
        load(path, like=SMALL)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a whole .npz file (")
    assert message.endswith("; use an earlier checkpoint")
    assert "Errno" not in message
    assert len(message) < len(str(path)) + 250
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("params\\w.npy", "missing: params/w"),
        ("C:\\params\\w.npy", "missing: params/w"),
        ("/params/w.npy", "missing: params/w"),
        ("../params/w.npy", "missing: params/w"),
        ("params/../w.npy", r"missing: params/w\n  unexpected: params/\.\./w"),
        ("params/\x1b[31m.npy", r"unexpected: params/\\x1b\[31m"),
        ("params/" + "x" * 60_000, r"unexpected: params/x+…x+$"),
    ],
    ids=["Windows", "a drive", "absolute", "above", "aside", "a terminal's", "long"],
)
def test_members_go_by_their_names_alone(path, name, told):
    members = {name if member == "params/w.npy" else member: data for member, data in GOOD.items()}
    path.write_bytes(wrapped(members))
    with pytest.raises(CheckpointError, match=told) as caught:
        load(path, like=SMALL)
    assert max(map(len, str(caught.value).splitlines())) < 250
    assert load_meta(path) == {"format": 1}


def test_huge_counts_of_members(path):
    many = {f"params/{i}.npy": b"" for i in range(40_000)}
    path.write_bytes(wrapped({**GOOD, **many}))
    with pytest.raises(CheckpointError, match=r"40000 difference\(s\) from the template.*(?s:.*)\n  and 39,000 more$"):
        load(path, like=SMALL)
    path.write_bytes(wrapped(GOOD, end=ALL, zip64={"size": 7_000_000}) + bytes(8_000_000))
    refused(path)
    path.write_bytes(damage.zip_file(MEMBERS * 60_000))
    refused(path, "its directory is [0-9,]+ bytes; at most 6,000,000 are read; use an earlier checkpoint")


def test_what_lies_before_and_behind_a_zip_makes_no_difference(path):
    for options in ({"prefix": b"#!/bin/sh\n"}, {"suffix": b"some bytes"}, {"end": ALL, "zip64": {}}):
        path.write_bytes(wrapped(GOOD, **options))
        assert load(path, like=SMALL) == SMALL


def test_an_npz_of_numpys_own_with_objects_is_refused(path):
    np.savez(path, **{"params/w": np.array([1, None], object), "meta": np.array('{"format": 1}')})
    refused(path, "not a plain array: params/w")


@pytest.mark.parametrize("descr", ["<U5000", "<f4"])
def test_shapes_of_thousands_of_digits_are_told_in_short(path, descr):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (0x{'f' * 9000},), }}\n"
    write_zip(path, {**GOOD, "params/w.npy": npy_with_header(header)})
    refused(path, r"(?s)^.{0,400}: params/w$")
    write_zip(path, {**GOOD, "meta.npy": npy_with_header(header)})
    refused(path, "`meta` is not a JSON object")


@pytest.mark.parametrize("code", [0xFFFFFFFF, 0x110000, 0xD800])
def test_numbers_of_no_character_are_no_meta(path, code):
    text = damage.npy_text('{"format": 1}')
    write_zip(path, {**GOOD, "meta.npy": text[:-8] + struct.pack("<I", code) + text[-4:]})
    refused(path, "`meta` is not a JSON object; use an earlier checkpoint")


def test_a_format_of_any_kind_is_told_in_short(path):
    write_zip(path, {**GOOD, "meta.npy": npy(np.array(json.dumps({"format": "x" * 9000})))})
    refused(path, r"^.{0,300}, this fcnn reads 1; use the fcnn that wrote it$")


def test_a_step_below_zero_is_refused(path):
    state = attrs.evolve(TEMPLATE)
    object.__setattr__(state, "step", -1)  # as another program may write it
    save(path, state)
    with pytest.raises(CheckpointError, match=r"wrong value \(-1, expected a count from 0 on\): step$"):
        load(path, like=TEMPLATE)


@pytest.mark.parametrize("part", ["[]", "{}", '"ab"', "0.5", '{"a":1}'])
def test_meta_of_more_values_than_there_is_memory_for_is_refused(path, part):
    """Some kilobytes of them, compressed, would take gigabytes."""
    text = '{"format": 1, "a": [' + ",".join([part] * 600_000) + "]}"
    path.write_bytes(wrapped({**GOOD, "meta.npy": damage.npy_text(text[:9_000_000])}))
    tracemalloc.start()
    try:
        with pytest.raises(
            CheckpointError, match=r"c\.npz: its `meta` is (of more than 500,000 values|not a JSON object)"
        ):
            load_meta(path)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ValueError, match="meta is of at most 500,000 values, got more; write it to a file of its own"):
        save(path, PARAMS, meta={"a": [json.loads(part)] * 600_000})


def test_a_disk_that_fails_is_no_damaged_file(path, monkeypatch):
    save(path, PARAMS)

    def fail(self, *size):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcnn.values.archives.Bounded.read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        load(path, like=PARAMS)
