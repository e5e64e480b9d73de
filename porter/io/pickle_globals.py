"""What a pickle may name, and what becomes of it: inert records, never the thing itself.

A pickle builds objects by naming functions and classes and having them called. Here a name becomes a `Global`, which is
two strings. A call either goes to a constructor that the caller listed for exactly that name, or is recorded as an
`Instance`, or is refused. Which of the two last depends on the name alone, so nothing is imported to find out:

* names that only an attack needs (`os.system`, `builtins.eval`, anything of `subprocess`, `socket` …) are refused
  wherever they stand, called or not;
* a call of anything else in Python's standard library is refused, a short list of plain value classes apart;
* a call of a function of another package (its name starts in lower case) is refused;
* an instance of a class (`vdsr.Net`, `models.yolo.Model`) becomes an `Instance` that holds arguments and state.

Source: opcode and reduce semantics: CPython `Lib/pickle.py` and `Lib/pickletools.py` (3.11); Python 2 module names:
CPython `Lib/_compat_pickle.py` (3.11).
"""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from porter.dataclass import dataclass
from porter.errors import FormatError

Constructor = Callable[..., object]
"""Builds an inert object out of a call's arguments. It may do work in proportion to their length, and nothing else."""

Globals = Mapping[tuple[str, str], Constructor | None]
"""Module and name to what a call of it builds; None for names that may stand as values and be instantiated, not called."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names: its name, not the thing. `module` is the Python 3 name of the module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Buildable:
    """An object that takes the state that a pickle gives it after making it (opcode BUILD)."""

    __slots__ = ()

    def build(self, state: object) -> None:
        """Take `state`; called at most once for an honest object."""
        raise NotImplementedError


class Instance(Buildable):
    """An object of a class that was not imported: what its pickle says of it.

    `args` and `kwargs` went to the constructor; `state` is what `__setstate__` or `__dict__` would get (None where
    there was none); `items` were appended to it as to a list, `pairs` put into it as into a dictionary.
    """

    __slots__ = ("args", "items", "kwargs", "of", "pairs", "state")

    def __init__(self, of: Global, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None) -> None:
        self.of = of
        self.args = args
        self.kwargs = kwargs
        self.state: object = None
        self.items: list[object] | None = None
        self.pairs: list[tuple[object, object]] | None = None

    def build(self, state: object) -> None:
        if self.state is not None:
            raise ValueError("an object gets its state twice")
        self.state = state

    def attributes(self) -> Mapping[object, object]:
        """What `__dict__` would hold: `state` where it is a dictionary, with the slots' values where there are any."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2 and all(part is None or isinstance(part, dict) for part in state):
            return {k: v for part in state if part for k, v in part.items()}
        return state if isinstance(state, dict) else {}

    def __repr__(self) -> str:
        return f"<{self.of} instance>"


class Dictionary(dict[object, object], Buildable):
    """An `OrderedDict`, `defaultdict` or `Counter` as a plain dictionary; `state` holds attributes set on it (`_metadata`)."""

    __slots__ = ("state",)

    def __init__(self, items: Iterable[tuple[object, object]] = ()) -> None:
        super().__init__(items)
        self.state: object = None

    def build(self, state: object) -> None:
        self.state = state


class ByteString(str):
    """A Python 2 `str`, which is bytes: decoded as Latin-1, so `encode("latin-1")` gives the bytes back."""

    __slots__ = ()

    def text(self) -> str:
        """The string as its writer meant it: UTF-8 where it is valid, Latin-1 otherwise."""
        try:
            return self.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return str(self)


class IntegerKey(int):
    """An integer of more than 32 bits as a dictionary's key. Its hash is that of text, which Python seeds: see `check_key`."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(repr(self))


class FloatKey(float):
    """A float as a dictionary's key, hashed as `IntegerKey` is."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(repr(self))


class TupleKey(tuple[object, ...]):
    """A tuple as a dictionary's key, hashed as `IntegerKey` is. Parts of any length count by their own hashes, not by their text."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(repr([part if type(part) in _BRIEF else hash(part) for part in self]))


def check_key(key: object, depth: int = 0) -> object:
    """`key` as a dictionary's key or a set's item.

    Values whose hashes anyone can make collide, or lead from one full place of the table to the next, get another hash;
    what takes long to hash (huge integers, large or deep tuples) is refused: both are ways to make a dictionary hang.
    """
    kind = type(key)
    if kind in _PLAIN_KEYS:
        return key
    if kind is int and -(1 << 64) < key < 1 << 64:  # type: ignore[operator]
        return key if -(1 << 32) < key < 1 << 32 else IntegerKey(key)  # type: ignore[operator, call-overload]
    if kind is float:
        return FloatKey(key)  # type: ignore[arg-type]
    if isinstance(key, tuple) and depth < 2 and len(key) <= (4 if depth else 16):
        return TupleKey(check_key(part, depth + 1) for part in key)
    raise TypeError(f"a {kind.__name__} as a key")


_PLAIN_KEYS = frozenset({str, ByteString, bytes, bool, type(None), Global, Instance})
_BRIEF = frozenset({int, IntegerKey, FloatKey, bool, type(None)})


def dictionary(items: object = ()) -> Dictionary:
    """`OrderedDict(items)`: `items` is a dictionary or a sequence of pairs."""
    pairs = items.items() if isinstance(items, dict) else items
    result = Dictionary()
    for key, value in pairs:  # type: ignore[attr-defined]
        result[check_key(key)] = value
    return result


def default_dictionary(factory: object = None, items: object = ()) -> Dictionary:
    """`defaultdict(factory, items)`; the factory is never called."""
    return dictionary(items)


def _items(values: object = ()) -> list[object]:
    if not isinstance(values, list | tuple | set | frozenset):
        raise TypeError("not a sequence")
    return [check_key(v) for v in values]


def encode_latin1(text: object, encoding: object = "utf-8", errors: object = "strict") -> bytes:
    """`_codecs.encode`, by which Python 2 protocols carry bytes; only Latin-1, the one encoding that is used so."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin-1")


def byte_array(data: object = b"", encoding: object = None) -> bytes:
    """`bytearray` and `bytes` of data that are already there; a length is refused."""
    if isinstance(data, str):
        return encode_latin1(data, encoding)
    if isinstance(data, list | tuple):
        return bytes(data)
    if not isinstance(data, bytes):
        raise TypeError("not bytes")
    return data


def reconstructor(of: object, base: object = None, state: object = None) -> Instance | Dictionary:
    """`copyreg._reconstructor(class, base, state)`, by which protocols 0 and 1 make instances."""
    if not isinstance(of, Global):
        raise TypeError("not a class")
    if of == Global("collections", "OrderedDict"):
        return Dictionary()
    refuse_call(of, instantiates=True)
    instance = Instance(of)
    if isinstance(base, Global) and base.name == "dict" and isinstance(state, dict):
        instance.pairs = list(state.items())
    elif isinstance(base, Global) and base.name == "list" and isinstance(state, list):
        instance.items = list(state)
    elif state is not None:
        instance.args = (state,)
    return instance


_FUNCTIONS_OF_TORCH = frozenset({("torch._C", "_VariableFunctionsClass"), ("torch._C", "_VariableFunctions")})
"""What `torch.relu` and its like are pickled as members of."""


def member(of: object, name: object) -> Global:
    """`getattr(Outer, "Inner")`, by which protocols below 4 name nested classes and members of enumerations; a function of
    torch, or a method of a recorded object, which modules keep as attributes and which stay names. Nothing else.
    """
    plain = isinstance(name, str) and name.isidentifier() and not name.startswith("__")
    if plain and isinstance(of, Global) and (of.module, of.name) in _FUNCTIONS_OF_TORCH:
        return named("torch", str(name))
    if plain and isinstance(of, Instance):
        return named(of.of.module, f"{of.of.name}.{name}")
    return _nested_class(of, name)


def _nested_class(of: object, name: object) -> Global:
    if not isinstance(of, Global) or not isinstance(name, str) or not name.isidentifier() or not _class_like(name):
        raise Refused(Global("builtins", "getattr"))
    inner = Global(of.module, f"{of.name}.{name}")
    refuse_name(inner)
    refuse_call(inner, instantiates=True)
    return inner


def _complex(real: float = 0.0, imag: float = 0.0) -> complex:
    if type(real) not in (int, float) or type(imag) not in (int, float):
        raise TypeError("not numbers")
    return complex(real, imag)


PYTHON_GLOBALS: Globals = {
    ("collections", "OrderedDict"): dictionary,
    ("collections", "Counter"): dictionary,
    ("collections", "defaultdict"): default_dictionary,
    ("builtins", "dict"): dictionary,
    ("builtins", "list"): lambda values=(): list(values) if isinstance(values, list | tuple) else [],
    ("builtins", "tuple"): lambda values=(): tuple(values) if isinstance(values, list | tuple) else (),
    ("builtins", "set"): lambda values=(): set(_items(values)),
    ("builtins", "frozenset"): lambda values=(): frozenset(_items(values)),
    ("builtins", "bytearray"): byte_array,
    ("builtins", "bytes"): byte_array,
    ("builtins", "complex"): _complex,
    ("builtins", "getattr"): member,
    **{("builtins", name): None for name in ("bool", "float", "int", "object", "str", "type")},
    ("_codecs", "encode"): encode_latin1,
    ("copyreg", "_reconstructor"): reconstructor,
}
"""Plain values of Python itself. Put a format's own names on top: `{**PYTHON_GLOBALS, ...}`."""


class Refused(Exception):
    """Internal: this global may not be named, or not be called. The unpickler turns it into an `UnsafeFileError`."""

    def __init__(self, what: Global) -> None:
        super().__init__(str(what))
        self.what = what


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _in(module: str, names: str) -> set[tuple[str, str]]:
    return {(module, name) for name in names.split()}


_ATTACKS = _words(
    "asyncio bdb cgi cloudpickle codeop commands concurrent ctypes _ctypes dill distutils ensurepip faulthandler fileinput "
    "ftplib gc http idlelib imp importlib inspect joblib lib2to3 linecache marshal mmap multiprocessing nt ntpath os pdb pickle "
    "_pickle cPickle pip pkg_resources pkgutil popen2 poplib posix _posixsubprocess pty py_compile pydoc requests runpy "
    "setuptools shelve shutil signal smtplib socket _socket socketserver sqlite3 ssl subprocess symtable sys sysconfig syslog "
    "telnetlib tempfile thread _thread threading timeit turtle unittest urllib urllib2 venv webbrowser winreg wsgiref xmlrpc "
    "zipapp zipimport"
)
"""Modules of which a weight file names nothing."""

_ATTACK_PARTS = _words("builtins __builtins__ importlib nt os pickle posix runpy shutil socket subprocess sys")
"""The same, as a component of a dotted name, for `torch.serialization.os.system`."""

_ATTACK_NAMES = frozenset(
    _in("builtins", "__import__ apply breakpoint compile delattr eval exec execfile exit file globals help input intern locals")
    | _in("builtins", "memoryview open quit raw_input reload setattr vars")
    | _in("operator", "attrgetter methodcaller itemgetter call")
    | _in("_operator", "attrgetter methodcaller itemgetter call")
    | _in("functools", "reduce")
    | _in("types", "CodeType FunctionType MethodType")
    | _in("torch", "load compile")
    | _in("torch.serialization", "load")
    | _in("torch.jit", "load")
    | _in("torch.ops", "load_library")
    | _in("numpy", "load fromfile memmap save")
)

_ATTACK_PREFIXES = (
    "torch.hub",
    "torch.utils.cpp_extension",
    "torch.utils._config_module",
    "numpy.testing",
    "numpy.distutils",
    "numpy.f2py",
)

_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"

_VALUE_CLASSES = frozenset(
    _in("datetime", "date datetime time timedelta timezone tzinfo")
    | _in("pathlib", _PATHS)
    | _in("pathlib._local", _PATHS)
    | _in("collections", "ChainMap UserDict UserList UserString deque")
    | _in("builtins", "bool float int object range slice str")
    | _in("argparse", "Namespace")
    | _in("decimal", "Decimal")
    | _in("fractions", "Fraction")
    | _in("functools", "partial")
    | _in("itertools", "count")
    | _in("logging", "Logger getLogger")
    | _in("random", "Random")
    | _in("re", "_compile")
    | _in("types", "SimpleNamespace")
    | _in("uuid", "UUID SafeUUID")
    | _in("weakref", "WeakKeyDictionary WeakValueDictionary")
)
"""What of the standard library configurations next to the weights hold. Recorded as `Instance`, as everything is."""

_STANDARD = frozenset(sys.stdlib_module_names) | _words(
    "__builtin__ ConfigParser HTMLParser Queue SocketServer StringIO Tkinter copy_reg cStringIO exceptions httplib "
    "robotparser sets sha md5 string urlparse xmlrpclib"
)


def named(module: str, name: str) -> Global:
    """The `Global` that a pickle names, under the name that it has in Python 3.

    Raises:
        Refused: no weight file has a reason to name this.
    """
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    elif module in IMPORT_MAPPING:
        module = IMPORT_MAPPING[module]
    what = Global(module, name)
    refuse_name(what)
    return what


def refuse_name(what: Global) -> None:
    """Raise `Refused` for names that only an attack needs."""
    if (what.module, what.name) in _ATTACK_NAMES or what.module.startswith(_ATTACK_PREFIXES):
        raise Refused(what)
    parts = f"{what.module}.{what.name}".split(".")
    if parts[0] in _ATTACKS or not _ATTACK_PARTS.isdisjoint(parts[1:-1]):
        raise Refused(what)
    if any(part.startswith("__") and part.endswith("__") for part in what.name.split(".")):
        raise Refused(what)


def refuse_call(what: Global, *, instantiates: bool) -> None:
    """Raise `Refused` unless a call of `what` may be recorded. `instantiates`: the opcode makes an instance of a class.

    What the caller lists is not asked here.
    """
    if (what.module, what.name) in _VALUE_CLASSES:
        return
    is_class = _class_like(what.name.rpartition(".")[2])
    # A user's own `test.py` shadows a standard module, so the module's name alone is no reason to refuse an instance.
    if what.module.partition(".")[0] in _STANDARD and not (is_class and instantiates and what.module != "builtins"):
        raise Refused(what)
    if not instantiates and not is_class:
        raise Refused(what)


def _class_like(name: str) -> bool:
    """Classes start in upper case and functions do not (PEP 8): all that can be known without importing."""
    return name.lstrip("_")[:1].isupper()


def broken(message: str, path: str | None, offset: int) -> FormatError:
    """The error for a pickle that makes no sense at `offset`."""
    return FormatError("F201", f"broken pickle: {message}", path=path, offset=offset, hint="the file is damaged or cut off; fetch it again")


def describe_value(value: Any) -> str:
    """A few words on a value out of a pickle, for messages; never walks it."""
    if isinstance(value, Instance | Global):
        return str(value.of if isinstance(value, Instance) else value)
    if isinstance(value, str) and len(value) <= 40:
        return repr(str(value))
    if isinstance(value, bool | int | float | None) and not (isinstance(value, int) and abs(value) >= 1 << 64):
        return repr(value)
    return "dict" if isinstance(value, dict) else type(value).__name__
