"""Reading pickles without running them: an opcode machine that can only build inert values.

Python's own unpickler imports what a pickle names and calls it. This one is a separate implementation of the opcodes of
protocols 0 to 5 over plain lists, tuples, dictionaries, strings and numbers. A name becomes a `Global` (two strings); a
call goes to a constructor out of the caller's table, becomes an `Instance` (a record), or is refused; the rules are in
`porter.io.pickle_globals`. There is no path from a file's bytes to `import`, `getattr`, `setattr` or a call of anything
that is not in the table.

What a pickle may cost is bounded by its size: claimed lengths are checked against the bytes that are there, memo
indices are keys and allocate nothing, arguments of constructors are charged to a budget, and nesting is never recursed.
Values may be nested arbitrarily deep, shared, and cyclic: whoever walks them must bound that walk.

Source: CPython `Lib/pickletools.py` (3.11), the description of every opcode.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from typing import Any

from porter.dataclass import dataclass
from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.io.pickle_globals import (
    Buildable,
    ByteString,
    Constructor,
    Dictionary,
    Global,
    Globals,
    Instance,
    Refused,
    broken,
    check_key,
    named,
    refuse_call,
)

PersistentLoad = Callable[[object], object]
"""Gives the object that a persistent id (of any type) stands for. May raise `FormatError`."""

OPERATIONS = 2_000_000
"""Opcodes that any pickle may have, whatever its size; more only with more bytes of file behind them."""

_LINE = 1 << 20
_UINT2 = struct.Struct("<H")
_UINT4 = struct.Struct("<I")
_FLOAT = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class ByteRun:
    """A byte string that was left where it is: `nbytes` bytes from `start` of the data that was unpickled."""

    start: int
    nbytes: int


def load_pickle(
    data: bytes | memoryview,
    *,
    allowed: Globals,
    persistent_load: PersistentLoad | None = None,
    placeholder: bool = False,
    path: str | None = None,
    offset: int = 0,
) -> object:
    """The value of the pickle at the start of `data`; bytes behind its end are not looked at. Runs nothing.

    Args:
        data: the pickle.
        allowed: names that the pickle may use, and what a call of each builds; see `Globals`.
        persistent_load: gives what persistent ids stand for; without it they are refused.
        placeholder: whether classes that are not in `allowed` become `Instance` records. Otherwise they are refused.
        path: of the file, for errors.
        offset: of `data` in the file, for errors.

    Raises:
        UnsafeFileError: it asks for a function or class that reading values does not need.
        FormatError: it is broken or cut off.
    """
    return Unpickler(data, allowed=allowed, persistent_load=persistent_load, placeholder=placeholder, path=path, offset=offset).load()


class Unpickler:
    """Reads one pickle after another out of `data`; see `load_pickle`. `position` is where the next one starts.

    `operations` bounds the opcodes of all of them together: by default the larger of `OPERATIONS` and the bytes given.
    Byte strings of at least `runs_from` bytes (None: no length) are not read and become `ByteRun` records.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        allowed: Globals,
        persistent_load: PersistentLoad | None = None,
        placeholder: bool = False,
        path: str | None = None,
        offset: int = 0,
        position: int = 0,
        operations: int | None = None,
        runs_from: int | None = None,
    ) -> None:
        self.position = position
        self._runs_from = runs_from
        self._data = memoryview(data).cast("B")
        self._allowed = allowed
        self._persistent_load = persistent_load
        self._placeholder = placeholder
        self._path = path
        self._offset = offset
        self._left = operations if operations is not None else max(OPERATIONS, self._data.nbytes)
        self._work = 32 * self._data.nbytes + (1 << 20)
        self._globals: dict[tuple[str, str], Global] = {}
        self._at = position
        self._reset()

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> object:
        """The next pickle's value.

        Raises:
            UnsafeFileError, FormatError: see `load_pickle`.
        """
        self._reset()
        try:
            self._run()
            value = self._stack.pop()
        except PorterError as error:
            raise error.located(path=self._path) from error.__cause__
        except Refused as error:
            raise self._refused(error.what) from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, struct.error) as error:
            raise self._broken(_reason(error)) from error
        self._reset()
        return value

    def _run(self) -> None:
        data, end, table = self._data, self._data.nbytes, _OPCODES
        while True:
            self._at = at = self.position
            if at >= end:
                raise self._broken("it ends before its last opcode")
            opcode = data[at]
            self.position = at + 1
            if opcode == 0x2E:  # STOP
                return
            step = table.get(opcode)
            if step is None:
                raise self._broken(f"unknown opcode 0x{opcode:02x}")
            self._left -= 1
            if self._left < 0:
                raise self._too_much()
            step(self)

    # Errors

    def _broken(self, message: str) -> FormatError:
        return broken(message, self._path, self._offset + self._at)

    def _too_much(self) -> UnsafeFileError:
        return UnsafeFileError(
            "S202",
            "the pickle does more work than a file of this size has reason to",
            path=self._path,
            offset=self._offset + self._at,
            hint="this is what a decompression bomb does; nothing was kept",
        )

    def _refused(self, what: Global, written: str | None = None) -> UnsafeFileError:
        also = f" (written '{written}')" if written not in (None, str(what)) else ""
        return UnsafeFileError(
            "S201",
            f"the pickle asks for '{what}'{also}, which reading weights never needs; nothing was run",
            path=self._path,
            offset=self._offset + self._at,
            hint="do not load this file in the framework either, unless you trust who made it",
        )

    # Reading

    def _take(self, count: int) -> memoryview:
        start = self.position
        stop = start + count
        if count < 0 or stop > self._data.nbytes:
            raise self._broken(f"it claims {count} bytes where {self._data.nbytes - start} are left")
        self.position = stop
        return self._data[start:stop]

    def _take_run(self, count: int) -> memoryview | ByteRun:
        data = self._take(count)
        if self._runs_from is None or count < self._runs_from:
            return data
        return ByteRun(self.position - count, count)

    def _byte(self) -> int:
        at = self.position
        self.position = at + 1
        return self._data[at]

    def _uint(self, width: int) -> int:
        start = self.position
        stop = start + width
        if stop > self._data.nbytes:
            raise self._broken(f"it ends within an operand of {width} bytes")
        self.position = stop
        return int.from_bytes(self._data[start:stop], "little")

    def _line(self) -> bytes:
        start, window = self.position, 128
        while True:
            part = bytes(self._data[start : start + window])
            found = part.find(b"\n")
            if found >= 0:
                self.position = start + found + 1
                return part[:found]
            if len(part) < window or window > _LINE:
                raise self._broken("a line has no end")
            window *= 8

    # The stack

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _charge(self, work: int) -> None:
        self._work -= work
        if self._work < 0:
            raise self._too_much()

    # Globals and calls

    def _global(self, module: str, name: str) -> None:
        key = (module, name)
        what = self._globals.get(key)
        if what is None:
            try:
                what = named(module, name)
            except Refused as refused:
                what = refused.what
                if (what.module, what.name) not in self._allowed and (what.module, what.name) not in _NEW:
                    raise self._refused(what, f"{module}.{name}") from None
            if not self._placeholder and (what.module, what.name) not in self._allowed:
                raise self._refused(what, f"{module}.{name}")
            self._globals[key] = what
        self._stack.append(what)

    def _call(self, function: object, args: object, kwargs: object = None, *, instantiates: bool = False) -> object:
        if not isinstance(function, Global):
            raise self._broken(f"a call of a {type(function).__name__}")
        if type(args) is not tuple or (kwargs is not None and not isinstance(kwargs, dict)):
            raise self._broken(f"the arguments for {function} are not a tuple and a dictionary")
        key = (function.module, function.name)
        if key in _NEW:
            return self._call_new(args)
        constructor = self._allowed.get(key)
        if constructor is None:
            if not (key in self._allowed and instantiates):
                refuse_call(function, instantiates=instantiates)
            self._charge(4 * len(args))
            return Instance(function, args, kwargs or None)
        return self._construct(constructor, function, args, kwargs)

    def _call_new(self, args: tuple[Any, ...]) -> object:
        """`copyreg.__newobj__(cls, *args)` and `copyreg.__newobj_ex__(cls, args, kwargs)`: what NEWOBJ and NEWOBJ_EX abbreviate."""
        if len(args) == 3 and type(args[1]) is tuple and isinstance(args[2], dict):
            return self._call(args[0], args[1], args[2], instantiates=True)
        return self._call(args[0], args[1:], instantiates=True)

    def _construct(self, constructor: Constructor, function: Global, args: tuple[Any, ...], kwargs: Any) -> object:
        for value in args:
            if isinstance(value, str | bytes | ByteRun):
                # These may be taken apart as pickles of their own, and no honest pickle has that done many times over.
                self._charge(8 * (value.nbytes if isinstance(value, ByteRun) else len(value)))
            elif isinstance(value, list | tuple | dict | set | frozenset):
                self._charge(len(value))
        if not all(isinstance(k, str) for k in kwargs or ()):
            raise self._broken(f"the arguments for {function} are not named by strings")
        try:
            return constructor(*args, **(kwargs or {}))
        except PorterError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise self._broken(f"the arguments for {function} make no sense ({_reason(error)})") from error

    def _set_items(self, target: object, flat: list[Any]) -> None:
        if len(flat) % 2:
            raise self._broken("a key without a value")
        keys, values = flat[::2], flat[1::2]
        if type(target) is dict or type(target) is Dictionary:
            for key, value in zip(keys, values, strict=True):
                target[key if type(key) is str else check_key(key)] = value
        elif isinstance(target, Instance):
            if target.pairs is None:
                target.pairs = []
            target.pairs.extend(zip(keys, values, strict=True))
        else:
            raise self._broken(f"items for a {type(target).__name__}")

    def _extend(self, target: object, values: list[Any]) -> None:
        if type(target) is list:
            target.extend(values)
        elif isinstance(target, Instance):
            if target.items is None:
                target.items = []
            target.items.extend(values)
        else:
            raise self._broken(f"items for a {type(target).__name__}")

    # Opcodes: numbers, strings, bytes

    def _int(self) -> None:
        text = self._line()
        self._stack.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))

    def _long(self) -> None:
        self._stack.append(int(self._line().removesuffix(b"L")))

    def _long_binary(self, width: int) -> None:
        self._stack.append(int.from_bytes(self._take(self._uint(width)), "little", signed=True))

    def _binint(self) -> None:
        self._stack.append(int.from_bytes(self._take(4), "little", signed=True))

    def _binint1(self) -> None:
        at = self.position
        self.position = at + 1
        self._stack.append(self._data[at])

    def _binint2(self) -> None:
        at = self.position
        self.position = at + 2
        self._stack.append(_UINT2.unpack_from(self._data, at)[0])

    def _float(self) -> None:
        self._stack.append(float(self._line()))

    def _binfloat(self) -> None:
        self._stack.append(_FLOAT.unpack(self._take(8))[0])

    def _string(self) -> None:
        text = self._line().strip()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise self._broken("a string without quotes")
        decoded = codecs.escape_decode(text[1:-1])[0]
        self._stack.append(ByteString(decoded.decode("latin-1")))

    def _binstring(self, width: int) -> None:
        data = self._take_run(self._uint(width))
        self._stack.append(data if isinstance(data, ByteRun) else ByteString(str(data, "latin-1")))

    def _unicode(self) -> None:
        self._stack.append(str(self._line(), "raw-unicode-escape"))

    def _binunicode4(self) -> None:
        start = self.position + 4
        self.position = stop = start + _UINT4.unpack_from(self._data, start - 4)[0]
        if stop > self._data.nbytes:
            raise self._broken(f"it claims {stop - start} bytes where {self._data.nbytes - start} are left")
        self._stack.append(str(self._data[start:stop], "utf-8", "surrogatepass"))

    def _binunicode(self, width: int) -> None:
        self._stack.append(str(self._take(self._uint(width)), "utf-8", "surrogatepass"))

    def _binbytes(self, width: int) -> None:
        data = self._take_run(self._uint(width))
        self._stack.append(data if isinstance(data, ByteRun) else bytes(data))

    # Opcodes: containers

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _discard_mark(self) -> None:
        self._pop_mark()

    def _dup(self) -> None:
        self._stack.append(self._stack[-1])

    def _empty_set(self) -> None:
        self._left -= 16  # an empty set takes as much memory as many other values
        self._stack.append(set())

    def _marked_list(self) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _marked_tuple(self) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _tuple1(self) -> None:
        self._stack[-1] = (self._stack[-1],)

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise self._broken("a tuple of values that are not there")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _dict(self) -> None:
        flat = self._pop_mark()
        result: dict[object, object] = {}
        self._set_items(result, flat)
        self._stack.append(result)

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend(self._stack[-1], [value])

    def _appends(self) -> None:
        values = self._pop_mark()
        self._extend(self._stack[-1], values)

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items(self._stack[-1], [key, value])

    def _setitems(self) -> None:
        flat = self._pop_mark()
        self._set_items(self._stack[-1], flat)

    def _additems(self) -> None:
        values = self._pop_mark()
        target = self._stack[-1]
        if type(target) is set:
            target.update(check_key(v) for v in values)
        else:
            self._extend(target, values)

    def _frozenset(self) -> None:
        self._left -= 16
        values = self._pop_mark()
        self._stack.append(frozenset(check_key(v) for v in values))

    # Opcodes: memo

    def _get(self) -> None:
        self._stack.append(self._memo[int(self._line())])

    def _binget1(self) -> None:
        at = self.position
        self.position = at + 1
        self._stack.append(self._memo[self._data[at]])

    def _binget(self, width: int) -> None:
        self._stack.append(self._memo[self._uint(width)])

    def _put(self) -> None:
        index = int(self._line())
        if not 0 <= index < 1 << 32:
            raise self._broken(f"it stores value {index}")
        self._memo[index] = self._stack[-1]

    def _binput1(self) -> None:
        self._memo[self._byte()] = self._stack[-1]

    def _binput4(self) -> None:
        at = self.position
        self.position = at + 4
        self._memo[_UINT4.unpack_from(self._data, at)[0]] = self._stack[-1]

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    # Opcodes: names and calls

    def _global_line(self) -> None:
        module, name = str(self._line(), "utf-8"), str(self._line(), "utf-8")
        self._global(module, name)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self._broken("a global that is not named by strings")
        self._global(str(module), str(name))

    def _extension(self, width: int) -> None:
        raise Refused(Global("copyreg", f"extension {self._uint(width)}"))

    def _reduce(self) -> None:
        args = self._stack.pop()
        self._stack[-1] = self._call(self._stack[-1], args)

    def _newobj(self) -> None:
        args = self._stack.pop()
        self._stack[-1] = self._call(self._stack[-1], args, instantiates=True)

    def _newobj_ex(self) -> None:
        kwargs, args = self._stack.pop(), self._stack.pop()
        self._stack[-1] = self._call(self._stack[-1], args, kwargs, instantiates=True)

    def _inst(self) -> None:
        args = tuple(self._pop_mark())
        self._global_line()
        self._stack[-1] = self._call(self._stack[-1], args)

    def _obj(self) -> None:
        function, *args = self._pop_mark()
        self._stack.append(self._call(function, tuple(args)))

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not isinstance(target, Buildable):
            raise self._broken(f"a state for a {type(target).__name__}")
        target.build(state)

    def _persid(self) -> None:
        self._persistent(str(self._line(), "ascii"))

    def _binpersid(self) -> None:
        self._persistent(self._stack.pop())

    def _persistent(self, name: object) -> None:
        if self._persistent_load is None:
            raise self._broken("a reference to an object outside the pickle, and there is no outside")
        self._stack.append(self._persistent_load(name))

    def _out_of_band(self) -> None:
        raise self._broken("a buffer that was to be kept outside the pickle")

    def _proto(self) -> None:
        version = self._uint(1)
        if version > 5:
            raise self._broken(f"protocol {version}; 5 is the latest")

    def _frame(self) -> None:
        length = self._uint(8)
        if self.position + length > self._data.nbytes:
            raise self._broken(f"a frame of {length} bytes where {self._data.nbytes - self.position} are left")


_NEW = frozenset({("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__")})

Step = Callable[[Unpickler], None]


def _push(value: object) -> Step:
    return lambda machine: machine._stack.append(value)


def _push_new(make: Callable[[], object]) -> Step:
    return lambda machine: machine._stack.append(make())


def _with(step: Callable[[Unpickler, int], None], operand: int) -> Step:
    return lambda machine: step(machine, operand)


_U = Unpickler
_OPCODES: Mapping[int, Step] = {
    ord(code): step
    for code, step in {
        "(": _U._mark, "0": _U._pop, "1": _U._discard_mark, "2": _U._dup, "N": _push(None), "\x88": _push(True), "\x89": _push(False),
        "I": _U._int, "L": _U._long, "J": _U._binint, "K": _U._binint1, "M": _U._binint2,
        "\x8a": _with(_U._long_binary, 1), "\x8b": _with(_U._long_binary, 4), "F": _U._float, "G": _U._binfloat,
        "S": _U._string, "T": _with(_U._binstring, 4), "U": _with(_U._binstring, 1), "V": _U._unicode,
        "X": _U._binunicode4, "\x8c": _with(_U._binunicode, 1), "\x8d": _with(_U._binunicode, 8),
        "B": _with(_U._binbytes, 4), "C": _with(_U._binbytes, 1), "\x8e": _with(_U._binbytes, 8), "\x96": _with(_U._binbytes, 8),
        "]": _push_new(list), "l": _U._marked_list, "a": _U._append, "e": _U._appends,
        ")": _push(()), "t": _U._marked_tuple,
        "\x85": _U._tuple1, "\x86": _with(_U._tuple, 2), "\x87": _with(_U._tuple, 3),
        "}": _push_new(dict), "d": _U._dict, "s": _U._setitem, "u": _U._setitems,
        "\x8f": _U._empty_set, "\x90": _U._additems, "\x91": _U._frozenset,
        "g": _U._get, "h": _U._binget1, "j": _with(_U._binget, 4),
        "p": _U._put, "q": _U._binput1, "r": _U._binput4, "\x94": _U._memoize,
        "c": _U._global_line, "\x93": _U._stack_global,
        "\x82": _with(_U._extension, 1), "\x83": _with(_U._extension, 2), "\x84": _with(_U._extension, 4),
        "R": _U._reduce, "\x81": _U._newobj, "\x92": _U._newobj_ex, "i": _U._inst, "o": _U._obj, "b": _U._build,
        "P": _U._persid, "Q": _U._binpersid, "\x97": _U._out_of_band, "\x98": _U._out_of_band,
        "\x80": _U._proto, "\x95": _U._frame,
    }.items()
}  # fmt: skip


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error):
        return "it ends within an operand"
    if isinstance(error, IndexError):
        return "it takes values, or bytes, that are not there"
    if isinstance(error, KeyError):
        return f"it recalls value {error}, which it never stored"
    return str(error)
