"""The restricted unpickler: it gives what Python's gives for plain values, runs nothing, and ends on any input."""

from __future__ import annotations

import argparse
import collections
import datetime
import math
import pathlib
import pickle
import pickletools
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter.errors import FormatError, PorterError, UnsafeFileError
from porter.io.pickle_globals import PYTHON_GLOBALS, ByteString, Dictionary, Global, Instance
from porter.io.unpickle import Unpickler, load_pickle

PROTOCOLS = range(6)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def load(data: bytes, **options: Any) -> Any:
    return load_pickle(data, allowed=PYTHON_GLOBALS, **options)


def same(a: Any, b: Any) -> bool:
    """Equality that knows NaN, signed zeros and the difference between True and 1."""
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple):
        return isinstance(b, type(a)) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) and isinstance(b, type(a))


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**40, -(2**63), 2**100, -(2**100), 3**500,
    0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, "", "text", "größe 重み \U0001f600", "line\nbreak\\u0041", "\ud800", "x" * 70_000,
    b"", b"bytes\xff\x00", b"y" * 300, [], [1, [2, [3]]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {"a": 1, 2: (3, None), None: [4]},
    {1, 2, "x"}, set(), frozenset({3}), frozenset(), 1 + 2j, list(range(3000)), {i: str(i) for i in range(3000)},
    {("a", 1): 2},
]  # fmt: skip


def named(value: Any) -> str:
    """A test's name; a set's text would follow the hash seed, which differs between pytest-xdist's workers."""
    text = str(sorted(value, key=str)) if isinstance(value, set | frozenset) else str(value)
    return f"{type(value).__name__}-{text[:12]}"


@every_protocol
@pytest.mark.parametrize("value", VALUES, ids=named)
def test_plain_values(value: Any, protocol: int) -> None:
    assert same(value, load(pickle.dumps(value, protocol)))


@every_protocol
def test_collections(protocol: int) -> None:
    ordered = collections.OrderedDict([("b", 1), ("a", [2])])
    assert list(load(pickle.dumps(ordered, protocol)).items()) == [("b", 1), ("a", [2])]
    assert load(pickle.dumps(collections.defaultdict(list, {"a": [1]}), protocol)) == {"a": [1]}
    assert load(pickle.dumps(collections.Counter("aab"), protocol)) == {"a": 2, "b": 1}
    assert load(pickle.dumps(bytearray(b"ab\xff"), protocol)) == b"ab\xff"
    assert load(pickle.dumps(math.nan, protocol)) != load(pickle.dumps(math.nan, protocol))


@every_protocol
def test_sharing_and_cycles(protocol: int) -> None:
    shared: list[Any] = [1]
    value = {"a": shared, "b": shared}
    back = load(pickle.dumps(value, protocol))
    assert back["a"] is back["b"]
    shared.append(value)
    back = load(pickle.dumps(value, protocol))
    assert back["a"][1] is back


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda v: st.lists(v) | st.lists(v).map(tuple) | st.dictionaries(st.text() | st.integers(-(2**63), 2**63), v) | st.sets(st.text()),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(plain, st.sampled_from(PROTOCOLS), st.booleans())
def test_what_pickle_writes_comes_back(value: Any, protocol: int, optimized: bool) -> None:
    data = pickle.dumps(value, protocol)
    back = load(pickletools.optimize(data) if optimized else data)
    assert same(pickle.loads(data), back)


class Thing:
    def __init__(self) -> None:
        self.a = 1
        self.b = [2]


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 5


class Listing(list[Any]): ...


class Table(dict[Any, Any]): ...


class Keyword:
    def __getnewargs_ex__(self) -> Any:
        return (1,), {"k": 2}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)


@every_protocol
def test_instances_are_records(protocol: int) -> None:
    back = load(pickle.dumps([Thing(), Thing()], protocol), placeholder=True)
    assert [type(b) for b in back] == [Instance, Instance]
    assert str(back[0].of) == "test_unpickle.Thing"
    assert back[0].attributes() == {"a": 1, "b": [2]}
    listing, table = Listing([1, 2]), Table(a=1)
    listing.extra = 1  # type: ignore[attr-defined]
    back = load(pickle.dumps([listing, table], protocol), placeholder=True)
    assert (back[0].items, back[0].attributes()) == ([1, 2], {"extra": 1})
    assert back[1].pairs == [("a", 1)]


def test_slots_and_keyword_arguments() -> None:
    assert load(pickle.dumps(Slotted(), 2), placeholder=True).attributes() == {"x": 5}
    back = load(pickle.dumps(Keyword(), 4), placeholder=True)
    assert (back.args, back.kwargs) == ((1,), {"k": 2})


@every_protocol
def test_values_beside_weights(protocol: int) -> None:
    value = [datetime.datetime(2020, 1, 2), argparse.Namespace(lr=1), pathlib.PurePosixPath("/a/b"), random.Random(3)]
    back = load(pickle.dumps(value, protocol), placeholder=True)
    assert all(isinstance(b, Instance) for b in back)
    assert back[1].attributes() == {"lr": 1}
    with pytest.raises(UnsafeFileError):
        load(pickle.dumps(value, protocol))


def test_python_2_strings_keep_their_bytes() -> None:
    back = load(b"U\x03\xc3\xa4x.")
    assert isinstance(back, ByteString)
    assert (back.encode("latin-1"), back.text()) == (b"\xc3\xa4x", "äx")
    assert load(b"T\x02\x00\x00\x00\xff\xfe.").text() == "ÿþ"
    assert load(b"S'a\\xff\\n'\n.").encode("latin-1") == b"a\xff\n"
    assert load(b'S"it\'s"\n.') == "it's"


def test_one_pickle_after_another() -> None:
    data = pickle.dumps([1], 2) + pickle.dumps({"a": 2}, 4) + b"rest"
    machine = Unpickler(data, allowed=PYTHON_GLOBALS)
    assert machine.load() == [1]
    assert machine.load() == {"a": 2}
    assert data[machine.position :] == b"rest"


def test_persistent_ids() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("id", value.a) if isinstance(value, Thing) else None

    import io

    stream = io.BytesIO()
    Pickler(stream, 2).dump([Thing(), 3])
    assert load(stream.getvalue(), persistent_load=lambda pid: f"<{pid[1]}>") == ["<1>", 3]  # type: ignore[index]
    assert load(b"P12\n.", persistent_load=lambda pid: pid) == "12"
    with pytest.raises(FormatError):
        load(stream.getvalue())


# Code that wants to run


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


ATTACKS = """
os.system posix.system nt.system builtins.eval builtins.exec __builtin__.eval __builtin__.execfile builtins.compile
builtins.__import__ builtins.open builtins.setattr builtins.globals subprocess.Popen subprocess.check_output
runpy.run_path importlib.import_module pty.spawn socket.socket webbrowser.open operator.attrgetter operator.methodcaller
_operator.attrgetter sys.exit shutil.rmtree pickle.loads _pickle.loads cPickle.loads marshal.loads types.FunctionType
types.CodeType ctypes.CDLL commands.getoutput popen2.popen2 code.interact timeit.timeit cProfile.run pdb.run bdb.Bdb
asyncio.run multiprocessing.Process threading.Thread tempfile.mktemp pip.main torch.load torch.hub.load
torch.utils.cpp_extension.load torch.serialization.os.system numpy.load numpy.testing._private.utils.runstring
urllib.request.urlopen requests.get dill._dill._create_function cloudpickle.cloudpickle._make_function joblib.load
functools.reduce builtins.map builtins.print os.path.join site.main profile.run trace.Trace ensurepip.bootstrap
logging.config.listen builtins.input torch._inductor.codecache.compile_file evil.run my_package.train.start
builtins.Exception codecs.decode _codecs.decode builtins.classmethod inspect.getsource gc.get_objects atexit.register
sched.scheduler unittest.main xmlrpc.client.loads
"""


def named(what: str) -> bytes:
    module, _, name = what.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def stack_named(what: str) -> bytes:
    module, _, name = what.rpartition(".")
    return text(module) + text(name) + b"\x93"


X = text("x")
CALLS: dict[str, Callable[[str], bytes]] = {
    "GLOBAL REDUCE": lambda what: named(what) + b"(" + X + b"tR.",
    "STACK_GLOBAL REDUCE": lambda what: b"\x80\x04" + stack_named(what) + X + b"\x85R.",
    "INST": lambda what: b"(" + X + b"i" + named(what)[1:] + b".",
    "OBJ": lambda what: b"(" + named(what) + X + b"o.",
    "inside a tuple": lambda what: b"((" + X + named(what) + b"(" + X + b"tRtt.",
    "through the memo": lambda what: named(what) + b"q\x050h\x05(" + X + b"tR.",
    "as persistent id": lambda what: named(what) + b"(" + X + b"tRQ.",
    "as a state": lambda what: b"cmy\nThing\n)\x81" + named(what) + b"(" + X + b"tRb.",
    "after copyreg": lambda what: b"ccopyreg\n__newobj__\n(cmy\nThing\ntR" + named(what) + b"(" + X + b"tR.",
    "NEWOBJ then REDUCE": lambda what: named(what) + b"(" + X + b"t\x81)R.",
}


@pytest.mark.parametrize("what", ATTACKS.split())
def test_attacks_are_refused_by_name(what: str) -> None:
    for how, make in CALLS.items():
        for placeholder in (False, True):
            with pytest.raises(PorterError) as caught:
                load(make(what), placeholder=placeholder, persistent_load=lambda pid: pid)
            if how == "NEWOBJ then REDUCE" and not isinstance(caught.value, UnsafeFileError):
                continue  # an instance of something unknown is a record, and records cannot be called
            assert caught.value.code == "S201", how
            assert caught.value.where.offset is not None
            assert not placeholder or what in caught.value.message


@pytest.mark.parametrize("what", ["os.system", "subprocess.Popen", "builtins.eval", "operator.attrgetter"])
def test_attacks_are_refused_even_as_values(what: str) -> None:
    for data in (named(what) + b".", named(what) + b")\x81.", named(what) + b")}\x92.", b"cfunctools\npartial\n" + named(what) + b"\x85R."):
        with pytest.raises(UnsafeFileError):
            load(data, placeholder=True)


def test_functions_of_other_packages_may_be_values() -> None:
    assert load(b"ctorch.nn.functional\nrelu\n.", placeholder=True) == Global("torch.nn.functional", "relu")
    assert load(b"cmath\nsqrt\n.", placeholder=True) == Global("math", "sqrt")


class Reduces:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


@every_protocol
def test_what_python_itself_would_run(protocol: int, tmp_path: pathlib.Path) -> None:
    import os
    import subprocess

    target = tmp_path / "ran"
    for parts in (
        (os.system, (f"touch {target}",)),
        (exec, (f"open({str(target)!r}, 'w')",)),
        (subprocess.call, (["touch", str(target)],)),
    ):
        with pytest.raises(UnsafeFileError) as caught:
            load(pickle.dumps({"weights": [Reduces(*parts)]}, protocol), placeholder=True)
        assert parts[0].__name__ in caught.value.message
    assert not target.exists()


def test_a_state_never_reaches_setattr() -> None:
    class Witness(Dictionary):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            assert name == "state"
            super().__setattr__(name, value)

    data = b"ccollections\nOrderedDict\n)R}" + text("__class__") + b"cmy\nThing\nsb."
    allowed = {**PYTHON_GLOBALS, ("collections", "OrderedDict"): Witness}
    back = load_pickle(data, allowed=allowed, placeholder=True)
    assert type(back) is Witness
    assert back.state == {"__class__": Global("my", "Thing")}


@pytest.mark.parametrize(
    "data",
    [
        b"cmy\nThing\n}b.",  # a state for a class would be set on the class itself
        b"]}b.",
        b"X\x01\x00\x00\x00a}b.",
        b"cmy\nThing\n)\x81}b}b.",
        b"(lcmy\nThing\n)\x81R.",
        b"X\x09\x00\x00\x00os.system)R.",
        b"cbuiltins\ngetattr\n(cmy\nThing\nX\x06\x00\x00\x00systemtR.",
        b"cbuiltins\ngetattr\n(cos\npath\nX\x06\x00\x00\x00SystemtR.",
        b"cbuiltins\ngetattr\n(]X\x06\x00\x00\x00AppendtR.",
        b"\x82\x01.",
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"\x97.",
        b"]\x98.",
        b"\x80\x06N.",
        b"\xff.",
        b".",
        b"",
        b"N",
        b"t.",
        b"u.",
        b"}(Nu.",
        b"](Ns.",
        b"h\x07.",
        b"g-1\n.",
        b"p\n.",
        b"I1",
        b"Ixyz\n.",
        b"L\n.",
        b"F1.2.3\n.",
        b"S'\n.",
        b"Sabc\n.",
        b"V\\uD8\n.",
        b"X\x02\x00\x00\x00\xff\xff.",
        b"cbuiltins\nset\n(]]]atR.",
        b"}]Ns.",
        b"(]Nd.",
        b"(}N\x91.",
        b"NP\n.",
    ],
    ids=lambda d: d[:24].decode("latin-1").encode("unicode_escape").decode(),
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(PorterError) as caught:
        load(data, placeholder=True)
    assert caught.value.where.offset is not None


# Costs


def refused(data: bytes, seconds: float = 2, mebibytes: int = 64, **options: Any) -> PorterError:
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(PorterError) as caught:
            load(data, **options)
        assert time.process_time() - start < seconds
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"\x8b\xff\xff\xff\x7f1",  # LONG4
        b"\x8b\xff\xff\xff\xff1",
        b"\x8e" + b"\xff" * 8 + b"x",  # BINBYTES8
        b"\x8e" + b"\xff" * 7 + b"\x7fx",
        b"\x8d" + b"\xff" * 8 + b"x",
        b"\x96" + b"\xff" * 8 + b"x",
        b"B\xff\xff\xff\xffx",
        b"X\xff\xff\xff\x7fx",
        b"T\xff\xff\xff\x7fx",
        b"\x95" + b"\xff" * 8 + b"N.",
        b"Nr\xff\xff\xff\x7f",  # LONG_BINPUT: Python's own unpickler allocates a table of that length
        b"Np99999999999999999999\n",
        b"Np-1\n.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"(" * 100_000,
        b"2" * 100_000,
    ],
    ids=lambda d: d[:8].hex(),
)
def test_claims_cost_nothing(data: bytes) -> None:
    refused(data)


def test_nesting_is_not_recursed() -> None:
    depth = 100_000
    for data in (b"]" * depth + b"a" * (depth - 1), b"N" + b"\x85" * depth, b"(" * depth + b"t" * depth):
        back = load(data + b".")
        assert isinstance(back, list | tuple)
        del back
    refused(b"}N" + b"\x85" * depth + b"Ns.", placeholder=True)
    refused(b"\x8f(N" + b"\x85" * depth + b"\x90.", placeholder=True)


def test_keys_that_collide_are_refused() -> None:
    def long(n: int) -> bytes:
        return b"\x8a\x0d" + n.to_bytes(13, "little", signed=True)

    data = b"}(" + b"".join(long(i * (2**61 - 1)) + b"N" for i in range(1 << 16)) + b"u."
    refused(data)


def test_tuples_that_collide_cost_nothing() -> None:
    """Tuples of integers whose plain hashes are equal, as anyone can compute them; here `-1` and `-2` stand for that."""
    pairs = [tuple(-1 - (i >> b & 1) for b in range(14)) for i in range(1 << 14)]
    assert len({hash(p) for p in pairs}) == 1
    data = b"}(" + b"".join(pickle.dumps(p, 2)[2:-1] + b"N" for p in pairs) + b"u."
    start = time.process_time()
    assert len(load(data)) == len(pairs)
    assert time.process_time() - start < 2


def test_integers_and_floats_keep_their_value_as_keys() -> None:
    keys = [0, -1, (1 << 32) - 1, 1 << 32, 140_234_567_890_123, -(1 << 63), 0.5, -1.5, 1e300, (1 << 40, "a", 0.25, (1, 2))]
    back = load(pickle.dumps(dict.fromkeys(keys), 2))
    assert list(back) == keys
    assert all(hash(k) != hash(plain) for k, plain in zip(list(back)[3:], keys[3:], strict=True))


def test_tuples_that_unfold_as_keys_are_refused() -> None:
    """A tuple of the same tuple, again and again: small in the file, and of 65,536 parts to whoever hashes it."""
    data = b"}X\xe8\x03\0\0" + b"a" * 1000 + b"q\x01"
    for level in range(1, 5):
        data += b"(" + (b"h" + bytes([level])) * 16 + b"tq" + bytes([level + 1])
    refused(data + b"0" * 5 + b"h\x05Ns.", seconds=1, mebibytes=16)


def test_objects_in_tuples_are_keys_of_their_own() -> None:
    count = 20_000
    data = b"}(" + b"cm\nNet\nq\x00)\x81\x85N" + b"h\x00)\x81\x85N" * (count - 1) + b"u."
    start = time.process_time()
    assert len(load(data, placeholder=True)) == count
    assert time.process_time() - start < 2


def test_copies_are_paid_for() -> None:
    """A constructor that copies its argument, called again and again with one that the memo remembers."""
    size = 200_000
    head = b"\x80\x02(lq\x00(" + b"N" * size + b"eq\x01c__builtin__\ntuple\nq\x020"
    call = b"h\x02h\x01\x85R"
    error = refused(head + b"(" + call * 20_000 + b"t.", seconds=5, mebibytes=256)
    assert error.code == "S202"


def test_shared_structures_unfold_to_nothing() -> None:
    data = b"]q\x00" + b"".join(b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"e" for i in range(100)) + b"."
    assert load(data) is not None


def test_many_operations_in_a_small_compressed_pickle() -> None:
    data = b"(" + b"\x8f" * 3_000_000 + b"t."
    error = refused(data, seconds=5, mebibytes=512)
    assert error.code == "S202"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    for prefix in (b"", b"\x80\x04", b"(cmy\nThing\n", b"}q\x00("):
        try:
            load(prefix + data, placeholder=True)
        except PorterError as error:
            assert str(error)


def test_truncations_and_flips() -> None:
    value = {"a": [1, 2.5, "x" * 40, b"y"], "t": (1, 2, 3), "o": collections.OrderedDict(a=1), "i": Thing(), "s": {1}, "l": 2**70}
    for protocol in PROTOCOLS:
        data = pickle.dumps(value, protocol)
        variants = [data[:n] for n in range(len(data))]
        variants += [data[:n] + bytes([data[n] ^ mask]) + data[n + 1 :] for n in range(len(data)) for mask in (0x01, 0x80, 0xFF)]
        for variant in variants:
            try:
                load(variant, placeholder=True)
            except PorterError as error:
                assert error.where.offset is not None


def test_errors_say_where() -> None:
    error = refused(b"]\x8cq", path="weights.pth", offset=100)
    assert (error.where.path, error.where.offset) == ("weights.pth", 101)
    assert str(error).startswith("error[F201]: broken pickle: ")
