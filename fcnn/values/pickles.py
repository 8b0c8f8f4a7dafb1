"""Pickles read as data: nothing that a pickle names is ever imported, and nothing but functions of our own is called.

`pickle.Unpickler` with a strict `find_class` would still call what it admits, and sizes its memo and its texts by
numbers in the file. `pickletools` only tokenises; what a pickle would build, its reader decides.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import attrs

from fcnn.values.text import printable

Known = Mapping[str, Callable[..., object] | None]


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
) -> object:
    """The value that a pickle stands for, of texts, numbers, lists (sets, too), tuples, dicts and what `known` makes.

    Args:
        stream: a file, read up to the pickle's end, or bytes. As many bytes as the pickle says are asked of a file at
            once, so it must give no more than it has.
        known: for each function or class that the pickle may call, as "module name", what is called instead, or None
            for what becomes a `Built`.
        persistent: what stands for an object that is kept elsewhere, by its id.
        most: opcodes that are read at most, each of which takes up to some hundred bytes.

    Raises PickleError, and ForeignError for a name that isn't known.

    >>> import pickle
    >>> read_pickle(pickle.dumps({"a": [1, 2.5]}), {})
    {'a': [1, 2.5]}
    """
    import pickletools

    machine = _Machine(known, persistent)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= most:
                raise PickleError(f"a pickle of more than {most:,} opcodes")
            if opcode.name == "STOP":
                (content,) = machine.since_mark()
                return content
            machine.run(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error) as error:
        raise PickleError(f"a pickle that does not evaluate ({printable(' '.join(_text(error).split()))})") from error
    raise AssertionError("pickletools.genops ends with STOP or an error")


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # it shows a number of thousands of digits, or a list of a thousand levels
        return type(error).__name__


class _Machine:
    """The stack on which a pickle is evaluated."""

    def __init__(self, known: Known, persistent: Callable[[object], object] | None) -> None:
        self.stack: list[Any] = []
        self.marks = [0]  # where what was put on the stack since each mark begins
        self.memo: dict[int, object] = {}
        self.known, self.persistent = known, persistent

    def run(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "BININT1" | "BININT2" | "BININT" | "INT" | "LONG" | "LONG1" | "LONG4" | "BINFLOAT" | "FLOAT":
                stack.append(argument)
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "UNICODE":
                stack.append(argument)
            case "SHORT_BINSTRING" | "BINSTRING" | "STRING":  # of Python 2
                stack.append(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(bytes(argument))
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
                raise PickleError(f"a pickle with the opcode {other}, which such files don't hold")

    def since_mark(self) -> list[Any]:
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
        if not all(isinstance(key, (str, bytes, int, float, type(None))) for key in items[::2]):
            raise TypeError("a key that is neither text nor number")  # tuples nest without end
        target.update(zip(items[::2], items[1::2], strict=True))

    def name(self, name: str) -> None:
        if name not in self.known:
            raise ForeignError(name, is_first=not self.stack)
        self.stack.append(Named(name))

    def called(self, function: object, arguments: object) -> object:
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        make = self.known[function.name]
        return Built(function.name, arguments) if make is None else make(*arguments)
