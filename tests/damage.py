"""Damage done to files at random, blindly and with knowledge of their format: what tests/fuzz.py feeds to readers.

Every function takes a `random.Random` first and decides by it alone, so that a seed gives the same damage again.
"""

import ast
import bz2
import contextlib
import functools
import gzip
import io
import json
import pickletools
import struct
import zipfile
import zlib

import attrs

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
NUMBERS += [1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
NAMES = [
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "C:\\x.npy",
    "params\\w.npy",
    "a\0b",
    "é",
    "\u202e",
    "x" * 300,
    "x" * 60_000,
]
NAMES += [
    "meta.npy",
    "meta",
    "step.npy",
    "params/",
    "params//w.npy",
    "PARAMS/w.npy",
    "con",
    "\x1b[31m",
    "a\nb",
    "meta.npy ",
]


def blind(rng, data, other=b""):
    """Bytes with one to four faults anywhere."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(data)
        place = rng.randrange(size + 1)
        span = min(rng.choice((1, 2, 4, 16, 64, 512)), size)
        region = data[place : place + span]
        match rng.randrange(11):
            case 0 | 1 if size:
                data[place % size] ^= 1 << rng.randrange(8)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + span]
            case 4:
                data[place:place] = region * rng.choice((1, 2, 50))
            case 5:
                there = rng.randrange(size + 1)
                data[place : place + span], data[there : there + span] = data[there : there + span], region
            case 6:
                data[place:] = other[rng.randrange(len(other) + 1) :]
            case 7:
                data[place:place] = rng.randbytes(span)
            case 8:
                data[place : place + span] = bytes([rng.choice((0, 0xFF, 0x20))]) * len(region)
            case 9:
                width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
                data[place : place + width] = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, order)
            case _:
                data[place:place] = rng.choice((b"9" * 5000, b"[" * 5000, b"\xff\xfe", b"\0", b"-1", b"NaN", b"1e999"))
    return bytes(data)


# JSON.

ODD_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    7,
    1 << 31,
    1 << 63,
    -(1 << 70),
    0.0,
    -0.5,
    1e-320,
    1e308,
    "",
    "x",
    "\ud800",
]
ODD_VALUES += [
    "relu",
    "serial",
    "x" * 2000,
    [],
    {},
    [[]],
    [1],
    [1, 1],
    [0, 0],
    [3, 3, 3],
    {"a": 1},
    [None],
    "1",
    "\u202e\n",
]
ODD_TEXTS = ["NaN", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 400, "[" * 3000 + "]" * 3000, '"\\ud800"', "1.", "01"]
ODD_TEXTS += ['{"kind":' * 500 + "1" + "}" * 500, '{"a":1,"a":2}', "[" + "[]," * 3000 + "1]"]
_MARK = "@odd@"


def places(value, path=()):
    """The paths of all values within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        yield from places(one, (*path, name))


def at(value, path):
    for name in path:
        value = value[name]
    return value


def json_text(rng, text, other="{}"):
    """A JSON text with some values, keys or parts changed."""
    tree = json.loads(text)
    odd = None
    for _ in range(rng.choice((1, 1, 2, 3))):
        paths = list(places(tree))
        path = rng.choice(paths)
        change = rng.randrange(9)
        if change == 0 and odd is None:
            odd, new = rng.choice(ODD_TEXTS), _MARK
        elif change in (0, 1, 2):
            new = rng.choice(ODD_VALUES)
        elif change == 3:
            new = at(tree, rng.choice(paths))
        elif change == 4:
            theirs = json.loads(other)
            new = at(theirs, rng.choice(list(places(theirs))))
        elif change in (7, 8):
            new = at(tree, path)
            new = new + rng.choice((-1, 1, 7)) if isinstance(new, (int, float)) else new
        elif change == 5:
            new = at(tree, path)
            for _ in range(rng.choice((1, 3, 150))):
                new = rng.choice(([new], {"a": new}, {"kind": "serial", "config": {}, "children": {"a": new}}))
        else:
            new = None
        new = json.loads(json.dumps(new))  # nothing twice in the tree
        if not path:
            tree = new
            continue
        parent, name = at(tree, path[:-1]), path[-1]
        if change == 6 and isinstance(parent, dict):
            value = parent.pop(name)
            if rng.random() < 0.6:
                parent[rng.choice((*NAMES, *map(str, path)))] = value
        elif change == 6:
            del parent[name]
        else:
            parent[name] = new
    result = json.dumps(tree)
    return result if odd is None else result.replace(f'"{_MARK}"', odd)


# Arrays of NumPy.


def npy(header, payload, *, magic=b"\x93NUMPY", version=(1, 0), length=None):
    text = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    form = "<H" if version[0] == 1 else "<I"
    limit = (1 << 8 * struct.calcsize(form)) - 1
    return (
        magic + bytes(version) + struct.pack(form, min(len(text) if length is None else length, limit)) + text + payload
    )


def npy_parts(data):
    (length,) = struct.unpack_from("<H", data, 8)
    return data[10 : 10 + length].decode("latin-1"), data[10 + length :]


DESCRS = [
    "<f4",
    "<f8",
    ">f4",
    "<i8",
    "<u4",
    "|O",
    "|V8",
    "<U5",
    "|S3",
    "<f2",
    "<c16",
    "<M8[s]",
    "|b1",
    "<U4294967295",
    "f",
    7,
]
DESCRS += [[("a", "<f4")], [("a", "|O")], ("<f4", (2, 2)), "<f4,<f4", None, "é", "<U0", "|V2147483647"]
SHAPES = [
    (),
    (0,),
    (1,),
    (-1,),
    (1 << 31,),
    (1 << 63,),
    (1 << 64, 1),
    (0, 1 << 62),
    (1,) * 33,
    (1.5,),
    ("2",),
    None,
    5,
    (True,),
]


def npy_file(rng, data, other=b""):
    """An .npy file with a changed header or payload."""
    text, payload = npy_parts(data)
    header = ast.literal_eval(text.strip())
    options = {}
    match rng.randrange(12):
        case 0:
            header["descr"] = rng.choice(DESCRS)
        case 1:
            header["shape"] = rng.choice(SHAPES)
        case 2:
            header["shape"] = header["shape"][::-1]
        case 3:
            header["fortran_order"] = rng.choice((True, 1, None, "no"))
        case 4:
            header[rng.choice(("descr", "shape", "fortran_order", "more"))] = rng.choice((None, [], "<f4", 0))
        case 5:
            header.pop(rng.choice(list(header)))
        case 6:
            options["version"] = rng.choice(((2, 0), (3, 0), (0, 0), (9, 9), (1, 1), (255, 255)))
        case 7:
            options["length"] = rng.choice((0, 1, 0xFFFF, len(text) - 1, len(text) + 1, 30_000))
        case 8:
            text = rng.choice(
                ("", "9" * 9000, "(" * 200, "{'shape': (0x" + "f" * 9000 + ",), 'descr': '<f4', 'fortran_order': 0}")
            )
            return npy(text + "\n", payload)
        case 9:
            payload = blind(rng, payload, other)
        case 10:
            return npy(blind(rng, text.encode("latin-1"), other)[:60_000], payload)
        case _:
            return blind(rng, data, other)
    return npy(repr(header) + " " * rng.choice((0, 7, 8000)) + "\n", payload, **options)


def npy_text(text):
    """What np.save makes of a text."""
    value = [ord(c) for c in text]
    header = f"{{'descr': '<U{len(value)}', 'fortran_order': False, 'shape': (), }}\n"
    return npy(header, struct.pack(f"<{len(value)}I", *value))


def text_of(data):
    return npy_parts(data)[1].decode("utf-32-le", "surrogatepass")


# Zip files.


@attrs.define
class Member:
    name: bytes
    content: bytes
    method: int = 0
    packed: bytes | None = None
    local: dict = attrs.field(factory=dict)  # fields of the header before it
    central: dict = attrs.field(factory=dict)  # fields of its entry in the directory


def members_of(data):
    return [attrs.evolve(member) for member in _members_of(data)]


@functools.lru_cache(32)
def _members_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [Member(info.filename.encode(), archive.read(info), info.compress_type) for info in archive.infolist()]


def packed(content, method):
    return _packed(content, method) if len(content) < 100_000 else _packed.__wrapped__(content, method)


@functools.lru_cache(256)
def _packed(content, method):
    if method == 8:
        deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
        return deflate.compress(content) + deflate.flush()
    if method == 12:
        return bz2.compress(content)
    if method == 14:
        lzma = zipfile.LZMACompressor()
        return lzma.compress(content) + lzma.flush()
    return content


_LOCAL = ["version", "flags", "method", "time", "date", "crc", "packed", "size", "name", "extra"]
_CENTRAL = ["made", *_LOCAL, "comment", "disk", "internal", "external", "offset"]
_END = ["disk", "start", "here", "entries", "size", "offset", "comment"]


def _fields(form, order, values, changes):
    limits = {"H": 16, "I": 32}
    numbers = [changes.get(name, values.get(name, 0)) for name in order]
    return struct.pack(f"<{form}", *(n % (1 << limits[letter]) for n, letter in zip(numbers, form, strict=True)))


@functools.lru_cache
def bomb(kind, size):
    """Zeros, compressed to a thousandth."""
    return gzip.compress(bytes(size), 1, mtime=0) if kind == "gzip" else zlib.compress(bytes(size), 1)


def zip_file(members, *, prefix=b"", suffix=b"", end=None, zip64=None):
    """A zip file, with any of its fields as they are wanted."""
    out, directory = bytearray(prefix), bytearray()
    for member in members:
        data = packed(member.content, member.method) if member.packed is None else member.packed
        values = {
            "version": 20,
            "flags": 0 if member.name.isascii() else 0x800,
            "method": member.method,
            "date": 0x21,
            "crc": zlib.crc32(member.content),
            "packed": len(data),
            "size": len(member.content),
            "name": len(member.name),
            "offset": len(out),
        }
        entry = _fields("HHHHHHIIIHHHHHII", _CENTRAL, values, member.central)
        directory += b"PK\1\2" + entry + member.name
        out += b"PK\3\4" + _fields("HHHHHIIIHH", _LOCAL, values, member.local) + member.name + data
    start, entries = len(out), len(members)
    out += directory
    if zip64 is not None:
        there = len(out)
        numbers = {"entries": entries, "size": len(directory), "offset": start, "record": there, **zip64}
        sizes = [numbers[name] % (1 << 64) for name in ("entries", "entries", "size", "offset")]
        out += b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, *sizes)
        out += b"PK\6\7" + struct.pack("<IQI", 0, numbers["record"] % (1 << 64), 1)
    values = {"here": entries, "entries": entries, "size": len(directory), "offset": start}
    return bytes(out + b"PK\5\6" + _fields("HHHHIIH", _END, values, end or {}) + suffix)


def zip_mutated(rng, data, other, inner):
    """A zip file with changed members, whose checksums are right again; `inner(member)` changes a content."""
    members = members_of(data)
    options = {}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not members:
            break
        member = rng.choice(members)
        match rng.randrange(16):
            case 0 | 1 | 2 | 3 | 4:
                member.content = inner(member)
            case 5:
                member.name = rng.choice((*NAMES, rng.choice(members).name.decode("utf-8", "replace"))).encode(
                    "utf-8", "surrogatepass"
                )
            case 6:
                member.name = blind(rng, member.name)[:65_000]
            case 7:
                members.insert(rng.randrange(len(members)), attrs.evolve(member))
            case 8:
                members.remove(member)
            case 9:
                member.method = rng.choice((0, 8, 8, 12, 14, 99, 0xFFFF))
            case 10:
                rng.shuffle(members)
            case 11:
                their = rng.choice(members_of(other))
                member.content = rng.choice((rng.choice(members).content, their.content))
            case 12:
                changes = {rng.choice(_CENTRAL[1:]): rng.choice(NUMBERS)}
                member.central = member.central | changes
                if rng.random() < 0.5:
                    member.local = member.local | changes
            case 13:
                member.packed = blind(rng, packed(member.content, member.method))
                member.central = {"packed": len(member.packed)}
            case 14:
                huge = rng.choice((200, 200, 2000)) if rng.random() < 0.98 else 30_000
                members += [Member(b"params/m%d.npy" % i, b"") for i in range(huge)]
            case _:
                way = rng.randrange(5)
                if way == 0:
                    options["prefix"] = rng.randbytes(rng.choice((1, 100)))
                elif way == 1:
                    options["suffix"] = rng.randbytes(rng.choice((1, 100)))
                elif way == 2:
                    options["end"] = {rng.choice(_END): rng.choice(NUMBERS)}
                elif way == 3:
                    names = ("entries", "size", "offset", "record")
                    options["zip64"] = {rng.choice(names): rng.choice(NUMBERS)} if rng.random() < 0.8 else {}
                    options["end"] = {"here": 0xFFFF, "entries": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
                else:
                    bomb = bytes(rng.choice((1 << 16, 1 << 22, 70 << 20)))
                    member.content = rng.choice((member.content[:128], b"")) + bomb
                    member.method = 8
    return zip_file(members, **options)


# PNG.


def png_chunks(data):
    place, chunks = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def png_file(chunks):
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_mutated(rng, data, other):
    """A PNG with changed chunks, whose checksums are right again."""
    chunks = png_chunks(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(chunks))
        kind, content = chunks[place]
        match rng.randrange(11):
            case 0:
                chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
            case 1 if len(chunks) > 1:
                del chunks[place]
            case 2:
                rng.shuffle(chunks)
            case 3:
                chunks[place] = kind, blind(rng, content)
            case 4:
                chunks[place] = rng.choice((b"IDAT", b"tEXt", b"iDAT", b"PLTE", b"XXXX", b"IEND", bytes(4))), content
            case 5:
                header = bytearray(chunks[0][1].ljust(13, b"\0"))
                field = rng.choice((0, 4, 8, 9, 10, 11, 12))
                width = 4 if field < 8 else 1
                header[field : field + width] = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, "big")
                new = (b"IHDR", bytes(header))
                chunks[0:0] = [new] if rng.random() < 0.3 else []
                chunks[rng.choice((0, rng.randrange(len(chunks))))] = new
            case 6:
                theirs = png_chunks(other)
                chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(theirs))
            case 7:
                added = [(b"acTL", struct.pack(">II", rng.choice(NUMBERS) % (1 << 32), 0)), (b"tRNS", rng.randbytes(6))]
                added += [
                    (b"PLTE", rng.randbytes(rng.choice((3, 768, 5)))),
                    (b"gAMA", bytes(4)),
                    (b"eXIf", rng.randbytes(30)),
                ]
                added += [(b"zTXt", b"a\0\0" + bomb("zlib", rng.choice((10, 80 << 20)))), (b"IHDR", b"")]
                added += [
                    (b"iCCP", b"a\0\0" + zlib.compress(rng.randbytes(60))),
                    (b"fcTL", rng.randbytes(26)),
                    (b"", b""),
                ]
                chunks.insert(rng.randrange(1, len(chunks) + 1), rng.choice(added))
            case _:
                kinds = [k for k, _ in chunks]
                with contextlib.suppress(ValueError, zlib.error):  # there are none, or they were changed before
                    first = kinds.index(b"IDAT")
                    pixels = zlib.decompressobj().decompress(b"".join(c for k, c in chunks if k == b"IDAT"), 1 << 22)
                    changed = rng.choice(
                        (
                            blind(rng, pixels),
                            pixels[: rng.randrange(len(pixels) + 1)],
                            pixels + bytes(rng.choice((1, 1 << 20))),
                        )
                    )
                    chunks = [(k, c) for k, c in chunks if k != b"IDAT"]
                    chunks.insert(first, (b"IDAT", zlib.compress(changed, 1)))
    return png_file(chunks)


# Pickles.

OPCODES = [
    b"0",
    b"1",
    b"2",
    b"(",
    b"N",
    b"}",
    b"]",
    b")",
    b"e",
    b"u",
    b"s",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"R",
    b"b",
    b".",
    b"h\0",
    b"q\0",
    b"r\xff\xff\xff\xff",
    b"K\7",
    b"J\xff\xff\xff\x7f",
    b"I" + b"9" * 5000 + b"\n",
    b"L1L\n",
    b"U\3abc",
    b"cos\nsystem\n",
    b"cposix\nsystem\n",
    b"cbuiltins\neval\n",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8b\xff\xff\xff\x7f",
    b"T\xff\xff\xff\x7f",
    b"T\0\0\0\x80",
    b"X\4\0\0\0abcd",
    b"\x95" + b"\xff" * 8,
    b"\x96" + b"\xff" * 8,
    b"G" + bytes(8),
    b"\x80\5",
    b"\x81",
    b"\x82\1",
    b"\x8f",
    b"\x93",
    b"\x94",
    b"V\\ud800\n",
    b"S'a'\n",
    b"P1\n",
    b"Q",
    b"F1\n",
    b"d",
    b"l",
    b"N" + b"\x85" * 50_000,
    b"}" * 50_000,
    b"(" * 50_000,
    b"N" + b"\x85" * 90_000 + b"Ns",
    b"]2" * 3000,
]


@functools.lru_cache(8)
def _opcodes(data):
    found = [place for _, _, place in pickletools.genops(data)]
    return tuple(data[start:stop] for start, stop in zip(found, [*found[1:], len(data)], strict=True))


def pickle_mutated(rng, data):
    """A pickle with opcodes inserted, swapped, repeated or left out."""
    parts = list(_opcodes(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0 | 1:
                parts.insert(place, rng.choice(OPCODES))
            case 2:
                there = rng.randrange(len(parts))
                parts[place], parts[there] = parts[there], parts[place]
            case 3 if len(parts) > 1:
                del parts[place]
            case 4:
                parts[place:place] = parts[place : place + rng.choice((1, 5, 40))]
            case _:
                parts[place] = parts[place][:1] + blind(rng, parts[place][1:])
    return b"".join(parts)


def gzip_mutated(rng, content, other):
    """A .gz of a changed content, or with what a gzip file may have beside its content."""
    whole = gzip.compress(content, 1, mtime=0)
    match rng.randrange(6):
        case 0:
            return gzip.compress(blind(rng, content, other), 1, mtime=0)
        case 1:
            return whole + rng.choice((whole, b"\0" * 100, rng.randbytes(20)))
        case 2:
            return whole[:3] + bytes([rng.randrange(256)]) + whole[4:]
        case 3:
            return whole[: len(whole) - rng.randrange(1, 9)]
        case 4:
            return rng.choice((gzip.compress(content + b"\0", 1, mtime=0), bomb("gzip", 80 << 20)))
        case _:
            return whole[:-8] + blind(rng, whole[-8:])


def protobuf_fields(data):
    """The fields of a message, each as [number, kind, value]; ValueError for what is none."""
    fields, place = [], 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            if place == len(data) or shift > 63:
                raise ValueError("a number that is none")
            value |= (data[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if data[place - 1] < 0x80:
                return value

    while place < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value = varint()
        else:
            size = varint() if kind == 2 else {1: 8, 5: 4}.get(kind, -1)
            value, place = data[place : place + size], place + size
            if size < 0 or place > len(data):
                raise ValueError("a field that is none")
        fields.append([tag >> 3, kind, value])
    return fields


def protobuf_varint(value):
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def protobuf_message(fields):
    """The bytes of fields; a kind beyond 7 is a length that isn't the value's."""
    found = b""
    for number, kind, value in fields:
        found += protobuf_varint(number << 3 | (kind & 7 if kind < 8 else 2))
        if isinstance(value, int):
            found += protobuf_varint(value)
            continue
        found += b"" if kind in (1, 5) else protobuf_varint(len(value) if kind < 8 else kind)
        found += value
    return found


def protobuf_mutated(rng, data, other):
    """A message with one field changed, at any depth."""
    fields = protobuf_fields(data)
    place = rng.randrange(len(fields)) if fields else 0
    if not fields:
        return protobuf_message([[rng.randrange(30), 2, other[:100]]])
    number, kind, value = fields[place]
    if kind == 2 and len(value) > 1 and rng.random() < 0.8:
        with contextlib.suppress(ValueError):
            fields[place] = [number, kind, protobuf_mutated(rng, value, other)]
            return protobuf_message(fields)
    match rng.randrange(9):
        case 0 | 1:
            new = rng.choice(NUMBERS) if kind == 0 else rng.choice(NAMES).encode()
            fields[place] = [number, 0 if kind == 0 else 2, new]
        case 2:
            del fields[place]
        case 3:
            fields.insert(rng.randrange(len(fields) + 1), fields[place])
        case 4:
            fields[place] = [rng.choice((0, number + 1, rng.randrange(40), 1 << 28)), kind, value]
        case 5:
            fields[place] = [number, rng.randrange(8), value]
        case 6:
            size = rng.choice(NUMBERS[4:])
            fields[place] = [number, max(size, 8), b"" if isinstance(value, int) else value]
        case 7:  # within itself, within itself, …
            inner = b"" if isinstance(value, int) else value
            for _ in range(rng.choice((1, 3, 200))):
                inner = protobuf_message([[number, 2, inner]])
            fields[place] = [number, 2, inner]
        case 8:
            content = protobuf_varint(value) if isinstance(value, int) else value
            fields[place] = [number, 2, blind(rng, content, other)]
    return protobuf_message(fields)
