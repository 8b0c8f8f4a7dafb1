"""Pickles read as data: nothing that a pickle names is ever imported, and nothing but functions of our own is called.

`pickle.Unpickler` with a strict `find_class` would still call what it admits, and sizes its memo and its texts by
numbers in the file. `pickletools` only tokenises; what a pickle would build, its reader decides.
"""

import io
import pickle
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NoReturn

import attrs

from fcnn.values.text import printable

Known = Mapping[str, Callable[..., object] | None]

_SIZED = {  # opcodes of texts and bytes: how many bytes their length takes
    **{"SHORT_BINUNICODE": 1, "BINUNICODE": 4, "BINUNICODE8": 8, "SHORT_BINSTRING": 1, "BINSTRING": 4},
    **{"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8},
}
_LINES = {"GLOBAL": 2, "INT": 1, "LONG": 1, "FLOAT": 1, "GET": 1, "PUT": 1}  # opcodes whose arguments are lines
# Of protocol 0, whose texts may warn when they are decoded; and numbers of any length.
_UNREAD = ("STRING", "UNICODE", "PERSID", "INST", "LONG4")
_LONG = "a long text"
_MOST_LINE = 10_000  # bytes
_MOST_TEXT = 32 << 20  # bytes of memory for all texts, where those that are longer than the rest are left out
_PIECE = 1 << 16  # bytes that are read at once of what is left out


class PickleError(ValueError):
    """A pickle isn't one that its reader takes; the message says why."""


class ForeignError(PickleError):
    """A pickle names a function or class that its reader doesn't know, such as "posix.system".

    is_first: whether that is the first thing in it, so that the whole of it is something of that class.
    """

    def __init__(self, name: str, is_first: bool) -> None:
        self.is_first = is_first
        self.name = printable(name.replace(" ", "."))
        super().__init__(f"it names {self.name}, which is never called here")


@attrs.frozen(eq=False)
class Named:
    """A function or class that a pickle names, as "module name"."""

    name: str


@attrs.define(eq=False)
class Built:
    """What a pickle would have built by calling what it names: inert."""

    origin: str
    arguments: tuple[Any, ...]
    state: object = None


def read_pickle(
    stream: BinaryIO | bytes,
    known: Known,
    *,
    persistent: Callable[[object], object] | None = None,
    most: int = 500_000,
    longest: int | None = None,
) -> object:
    """The value that a pickle stands for, of texts, numbers, lists (sets, too), tuples, dicts and what `known` makes.

    Of a dict, only what has a text or bytes for a name is taken up: which numbers take long as keys, a file could know.

    Args:
        stream: a file, read up to the pickle's end, or bytes. As many bytes as the pickle says are asked of a file at
            once, so it must give no more than it has.
        known: for each function or class that the pickle may call, as "module name", what is called instead, or None
            for what becomes a `Built`.
        persistent: what stands for an object that is kept elsewhere, by its id.
        most: opcodes that are read at most, each of which takes up to some hundred bytes; and values that all calls
            together are given at most, as one list could be given to many.
        longest: bytes of a text that is read; of longer ones a `Built` says that they were there.

    Raises PickleError, and ForeignError for a name that isn't known.

    >>> import pickle
    >>> read_pickle(pickle.dumps({"a": [1, 2.5]}), {})
    {'a': [1, 2.5]}
    """
    machine = _Machine(known, persistent, most)
    try:
        for opcode, argument in _opcodes(io.BytesIO(stream) if isinstance(stream, bytes) else stream, most, longest):
            if opcode == "STOP":
                if machine.marks != [0] or len(machine.stack) != 1:
                    raise ValueError("it ends with more or less than one value")
                return machine.stack[0]
            machine.run(opcode, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error) as error:
        raise PickleError(f"a pickle that does not evaluate ({printable(' '.join(_text(error).split()))})") from error
    raise AssertionError("a pickle ends with STOP or an error")


def kind_of(value: object) -> str:
    """What a pickle holds, in words.

    >>> kind_of(None), kind_of((1, 2)), kind_of(Named("torch Size"))
    ('nothing', 'a tuple', 'the name torch.Size')
    """
    if isinstance(value, (Named, Built)):
        if isinstance(value, Built) and value.origin == _LONG:
            return _LONG
        name = printable((value.name if isinstance(value, Named) else value.origin).replace(" ", "."))
        return f"the name {name}" if isinstance(value, Named) else f"one {name}"
    words = {str: "a text", bytes: "bytes", bool: "True or False", type(None): "nothing"}
    words |= {int: "a number", float: "a number", list: "a list", tuple: "a tuple", dict: "a dict"}
    return words.get(type(value), "something else")


def _opcodes(stream: BinaryIO, most: int, longest: int | None) -> Iterator[tuple[str, Any]]:
    """Each opcode's name and argument; `pickletools.genops` would decode any text, however long."""
    import pickletools

    known = {one.code: one for one in pickletools.opcodes}
    texts = 0
    for _ in range(most):
        code = stream.read(1)
        if not code:
            raise ValueError("pickle exhausted before seeing STOP")
        if (opcode := known.get(code.decode("latin-1"))) is None:
            raise ValueError(f"{code!r} is no opcode")
        name, argument = opcode.name, None
        if name in _UNREAD:
            _refuse(name)
        if name in _SIZED:
            argument = _sized(stream, name, longest)
            texts += sys.getsizeof(argument)
            if longest is not None and texts > _MOST_TEXT:
                raise PickleError(f"a pickle whose texts take more than {_MOST_TEXT:,} bytes")
        elif opcode.arg is not None:
            lines = b"".join(_line(stream) for _ in range(_LINES.get(name, 0)))
            argument = opcode.arg.reader(io.BytesIO(lines) if lines else stream)
        yield name, argument
    raise PickleError(f"a pickle of more than {most:,} opcodes")


def _sized(stream: BinaryIO, name: str, longest: int | None) -> object:
    """A text or bytes, behind their length."""
    size = int.from_bytes(_whole(stream, _SIZED[name]), "little", signed=name == "BINSTRING")
    if size < 0:
        raise ValueError("a text of less than no bytes")
    if longest is not None and size > longest:
        for start in range(0, size, _PIECE):
            _whole(stream, min(_PIECE, size - start))
        return Built(_LONG, ())
    data = _whole(stream, size)
    if "UNICODE" in name:
        return data.decode("utf-8", "surrogatepass")
    return data.decode("latin-1") if "STRING" in name else data  # strings are those of Python 2


def _whole(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError(f"it ends where {size:,} bytes should follow")
    return data


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(_MOST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("a line without an end")
    return line


def _refuse(opcode: str) -> NoReturn:
    raise PickleError(f"a pickle with the opcode {opcode}, which such files don't hold")


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # it shows a number of thousands of digits, or a list of a thousand levels
        return type(error).__name__


_NOTHING = object()


class _Machine:
    """The stack on which a pickle is evaluated."""

    def __init__(self, known: Known, persistent: Callable[[object], object] | None, most: int) -> None:
        self.stack: list[Any] = []
        self.marks = [0]  # where what was put on the stack since each mark begins
        self.memo: list[Any] = []  # by number; not a dict, as a file could know which numbers take long as its keys
        self.known, self.persistent = known, persistent
        self.most = self.left = most

    def run(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.put(argument)
            case "MEMOIZE":
                self.put(len(self.memo))
            case "BINGET" | "LONG_BINGET" | "GET":
                if not 0 <= argument < len(self.memo) or self.memo[argument] is _NOTHING:
                    raise PickleError("a pickle that takes up again what it never kept")
                stack.append(self.memo[argument])
            case "BININT1" | "BININT2" | "BININT" | "INT" | "LONG" | "LONG1" | "BINFLOAT" | "FLOAT":
                stack.append(argument)
            case _ if opcode in _SIZED:
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.last(int(opcode[-1]))))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                stack.append(self.since_mark())
            case "APPEND":
                self.extend(self.last(1))
            case "APPENDS" | "ADDITEMS":
                self.extend(self.since_mark())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self.since_mark()
                stack.append({})
                self.update(items)
            case "SETITEM":
                self.update(self.last(2))
            case "SETITEMS":
                self.update(self.since_mark())
            case "GLOBAL":
                self.name(argument)
            case "STACK_GLOBAL":
                module, name = self.last(2)
                self.name(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "nothing")
            case "REDUCE" | "NEWOBJ":
                stack.append(self.called(*self.last(2)))
            case "BUILD":
                built, state = self.last(2)
                if isinstance(built, Built):
                    built.state = state
                stack.append(built)
            case "BINPERSID" if self.persistent is not None:
                stack.append(self.persistent(*self.last(1)))
            case "FRAME":
                pass
            case "PROTO" if argument <= pickle.HIGHEST_PROTOCOL:
                pass
            case "POP":
                self.last(1)
            case "POP_MARK":
                self.since_mark()
            case other:
                _refuse(other)

    def put(self, number: int) -> None:
        if not 0 <= number < self.most:
            raise PickleError(f"a pickle that keeps more than {self.most:,} values")
        self.memo += [_NOTHING] * (number + 1 - len(self.memo))
        self.memo[number] = self.top()

    def since_mark(self) -> list[Any]:
        if len(self.marks) < 2:
            raise IndexError("no mark is set")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self) -> Any:
        if len(self.stack) <= self.marks[-1]:
            raise IndexError("the stack is too short")
        return self.stack[-1]

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < self.marks[-1] + count:
            raise IndexError("the stack is too short")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise TypeError("items for what is no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict:
            raise TypeError("items for what is no dict")
        if any(isinstance(key, Built) and key.origin == _LONG for key in items[::2]):
            raise PickleError("a pickle with a name that is too long")
        if not all(isinstance(key, (str, bytes, int, float, type(None))) for key in items[::2]):
            raise TypeError("a key that is neither text nor number")  # tuples nest without end
        if len(items) % 2:
            raise ValueError("a key without a value")
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((key, value) for key, value in pairs if isinstance(key, (str, bytes)))

    def name(self, name: str) -> None:
        if name not in self.known:
            raise ForeignError(name, is_first=not self.stack)
        self.stack.append(Named(name))

    def called(self, function: object, arguments: object) -> object:
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        self.spend(arguments, *arguments[: self.left])
        make = self.known[function.name]
        return Built(function.name, arguments) if make is None else make(*arguments)

    def spend(self, *values: object) -> None:
        """Count what a function is given, which it may look at or copy: the same list may be given again and again."""
        self.left -= sum(len(value) for value in values if isinstance(value, (list, tuple, dict)))
        if self.left < 0:
            raise PickleError(f"a pickle whose calls are given more than {self.most:,} values")
