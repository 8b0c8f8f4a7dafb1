"""Small files of ONNX, put together byte by byte for the tests: no protobuf package, and none of fcnn's own code."""

import struct

import numpy as np

TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}


def varint(value):
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def field(number, value):
    """An int as a varint, a float in four bytes, anything else as bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(number, values):
    return b"".join(field(number, value) for value in values)


def packed(number, values):
    return field(number, b"".join(varint(value) for value in values))


def tensor(name, array, how="raw", **place):
    """An array: "raw", its "numbers" one by one, "packed", or "beside", in the file that `place` says."""
    array = np.asarray(array)
    head = fields(1, array.shape) + field(2, TYPES[array.dtype.name]) + field(8, name)
    if how == "beside":
        entries = [field(1, key) + field(2, str(value)) for key, value in place.items()]
        return head + fields(13, entries) + field(14, 1)
    if how == "raw":
        return head + field(9, array.astype(array.dtype.newbyteorder("<")).tobytes())
    numbers = array.reshape(-1)
    if array.dtype == np.float64:
        return head + b"".join(varint(10 << 3 | 1) + struct.pack("<d", one) for one in numbers)
    if array.dtype == np.float32:
        data = numbers.astype("<f4").tobytes()
        return head + (field(4, data) if how == "packed" else fields(4, numbers.tolist()))
    if array.dtype == np.float16:
        numbers = numbers.view(np.uint16)
    number = 7 if array.dtype == np.int64 else 5
    return head + (packed if how == "packed" else fields)(number, numbers.astype(np.int64).tolist())


def attribute(name, value):
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    if isinstance(value, bytes):  # a tensor
        return field(1, name) + field(5, value) + field(20, 4)
    if isinstance(value[0], float):
        return field(1, name) + fields(7, value) + field(20, 6)
    return field(1, name) + fields(8, value) + field(20, 7)


def node(operator, inputs, output, name="", domain="", **attributes):
    """An operator on the values `inputs` ("a b", or a list); several outputs are separated by blanks, too."""
    names = inputs.split() if isinstance(inputs, str) else inputs
    found = fields(1, names) + fields(2, output.split()) + field(3, name) + field(4, operator)
    found += fields(5, [attribute(*one) for one in attributes.items()])
    return found + (field(7, domain) if domain else b"")


def value(name, shape, kind=1):
    """What is said of an input or output; a length may be text, or None, which says nothing."""
    dims = [b"" if one is None else field(2 if isinstance(one, str) else 1, one) for one in shape]
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, fields(1, dims))))


def graph(nodes, tensors=(), inputs=(("x", ("N", 3, 8, 8)),), outputs=("y",)):
    found = fields(1, nodes) + field(2, "graph")
    found += fields(5, [one if isinstance(one, bytes) else tensor(*one) for one in tensors])
    found += fields(11, [one if isinstance(one, bytes) else value(*one) for one in inputs])
    return found + fields(12, [value(name, ("N",)) for name in outputs])


def model(nodes, *tensors, opset=17, domain="", more=b"", **parts):
    """A model's file. tensors: (name, array) or as `tensor` makes them; parts: see `graph`."""
    opsets = field(1, domain) + field(2, opset)
    return field(1, 8) + field(7, graph(nodes, tensors, **parts)) + field(8, opsets) + more
