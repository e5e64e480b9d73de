"""From the tensors of one step to what becomes of them: operations, a change of layout, operations, one rounding.

A `Program` is put together when a map is checked, from dtypes and shapes. When a tensor is written it runs: in chunks where
every operation works element by element, otherwise with all tensors of the step in memory, and no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from porter.dataclass import dataclass
from porter.dtypes import DType
from porter.io.source import release
from porter.mapping.layout import Layout
from porter.mapping.ops.base import Operand, Operation, OperationError
from porter.mapping.syntax import Call
from porter.tensor import CHUNK, BytesPayload, Payload, Tensor, TensorSpec, canonical_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from porter.mapping.ops.rounding import Rounding

Report = Callable[[str, str], None]
"""Called with a tensor's name and what rounding did to some of its values, where that is more than rounding."""


@dataclass(frozen=True, slots=True)
class Applied:
    """An operation on certain operands: the place in the map, what goes in and what comes out."""

    operation: Operation
    call: Call
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What a step does to its tensors.

    before: operations on the sources, in order; those of one input and output each stand once for every source.
    layout: the change of layout, or None. after: for each target its operations.
    order: for each target the index of what `before` gives, where there is no layout.
    """

    before: tuple[tuple[Applied, ...], ...]
    layout: Layout | None
    after: tuple[tuple[Applied, ...], ...]
    order: tuple[int, ...]

    @property
    def computes(self) -> bool:
        """Whether values are looked at, rather than only moved."""
        return bool(self.before) or any(self.after)

    def payloads(self, sources: Sequence[Tensor], targets: Sequence[TensorSpec], report: Report) -> tuple[Payload, ...]:
        """The targets' bytes, computed when they are read."""
        arriving: Sequence[Tensor] = sources
        if self.before and not sources:
            (target,) = targets
            return (_Constant(self.before[0][0], target.nbytes),)
        if self.before:
            if any(len(stage) != len(sources) for stage in self.before) or any(not _alone(a) for stage in self.before for a in stage):
                run = _Run(self, tuple(sources), tuple(targets), report)
                return tuple([_Result(run, i, t.nbytes) for i, t in enumerate(targets)])
            chains = list(zip(*self.before, strict=True))
            one = targets[0].name if len(targets) == 1 else None
            arriving = [
                _described(c[-1].outputs[0], _chain(s.payload, c, one or s.name, report)) for s, c in zip(sources, chains, strict=True)
            ]
        return tuple([_chain(p, c, t.name, report) for p, c, t in zip(self.moved(arriving), self.after, targets, strict=True)])

    def moved(self, arriving: Sequence[Tensor]) -> Sequence[Payload]:
        """The bytes of what arrives at the arrow, for each target."""
        return self.layout.payloads(arriving) if self.layout is not None else [arriving[i].payload for i in self.order]


def _alone(applied: Applied) -> bool:
    return len(applied.inputs) == len(applied.outputs) == 1


def _described(operand: Operand, payload: Payload) -> Tensor:
    return Tensor(TensorSpec(operand.name, operand.dtype, operand.shape), payload)


def _chain(payload: Payload, chain: Sequence[Applied], name: str, report: Report) -> Payload:
    """`payload` after a chain of operations that take and give one tensor each."""
    if not chain:
        return payload
    if all(a.operation.elementwise for a in chain) and not any(_packed(a) for a in chain):
        return _Elementwise(payload, tuple(chain), name, report)
    return _Whole(payload, tuple(chain), name, report)


def _collected(chunks: Iterator[memoryview]) -> memoryview:
    whole = bytearray()
    for piece in chunks:
        whole += piece
    return memoryview(whole).toreadonly()


def _packed(applied: Applied) -> bool:
    return applied.inputs[0].dtype.packed or applied.outputs[0].dtype.packed


class _Chained:
    """What another payload becomes by a chain of operations."""

    __slots__ = ()

    chain: tuple[Applied, ...]

    @property
    def nbytes(self) -> int:
        out = self.chain[-1].outputs[0]
        return out.dtype.nbytes(_size(out))

    @property
    def location(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Elementwise(_Chained):
    """A chain of operations that work element by element, chunk by chunk."""

    base: Payload
    chain: tuple[Applied, ...]
    name: str
    report: Report

    def chunks(self, limit: int) -> Iterator[memoryview]:
        import numpy as np

        source = self.chain[0].inputs[0].dtype
        tally = _Tally([self.name], self.report)
        rest = b""
        for chunk in self.base.chunks(CHUNK):
            data = rest + bytes(chunk) if rest else chunk
            whole = len(data) - len(data) % source.itemsize
            rest = bytes(data[whole:])
            values = _run_chain([np.frombuffer(data[:whole], source.numpy())], [(a,) for a in self.chain], tally)[0]
            yield from BytesPayload.of(canonical_bytes(values, self.chain[-1].outputs[0].dtype)).chunks(limit)

    def buffer(self) -> memoryview:
        return _collected(self.chunks(CHUNK))


@dataclass(frozen=True, slots=True)
class _Whole(_Chained):
    """A chain of operations on one whole tensor."""

    base: Payload
    chain: tuple[Applied, ...]
    name: str
    report: Report

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload.of(self.buffer()).chunks(limit)

    def buffer(self) -> memoryview:
        given = self.chain[0].inputs[0]
        tally = _Tally([self.name], self.report)
        (values,) = _run_chain([_array(self.base, given)], [(a,) for a in self.chain], tally)
        release([self.base])
        return canonical_bytes(values, self.chain[-1].outputs[0].dtype).toreadonly()


@dataclass(frozen=True, slots=True)
class _Constant:
    """What an operation without inputs makes: one element, again and again. Never whole in memory unless `buffer` is asked for."""

    applied: Applied
    nbytes: int

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        import numpy as np

        made = self.applied.outputs[0]
        size = _size(made)
        if not size:
            return
        (values,) = _computed(self.applied, ())
        # A multiple of eight elements fills whole bytes, whatever the type.
        piece = np.repeat(values.flat[:1], min(size, CHUNK // 16))
        data = BytesPayload.of(canonical_bytes(piece, made.dtype))
        whole, rest = divmod(size, len(piece))
        for _ in range(whole):
            yield from data.chunks(limit)
        if rest:
            yield from BytesPayload.of(canonical_bytes(piece[:rest], made.dtype)).chunks(limit)

    def buffer(self) -> memoryview:
        return _collected(self.chunks(CHUNK))


class _Run:
    """All targets of one step, computed together when the first is read; each is kept until it has been read once."""

    def __init__(self, program: Program, sources: tuple[Tensor, ...], targets: tuple[TensorSpec, ...], report: Report) -> None:
        self.program = program
        self.sources = sources
        self.targets = targets
        self.report = report
        self.ready: dict[int, memoryview] = {}

    def take(self, index: int) -> memoryview:
        if index not in self.ready:
            self.ready = dict(enumerate(self._compute()))
        return self.ready.pop(index)

    def _compute(self) -> list[memoryview]:
        program = self.program
        made = sorted(zip(program.order, self.targets, strict=True), key=lambda pair: pair[0]) if program.order else []
        tally = _Tally([target.name for _, target in made] or [self.targets[0].name], self.report)
        outputs = [o for applied in program.before[-1] for o in applied.outputs]
        # Two names of one tensor are read once.
        read = {(id(t.payload), t.dtype.name): t for t in self.sources}
        values = {key: t.numpy() for key, t in read.items()}
        arrays = _run_chain([values[id(t.payload), t.dtype.name].reshape(t.shape) for t in self.sources], program.before, tally)
        del values
        arriving = [_described(o, BytesPayload.of(canonical_bytes(a, o.dtype))) for a, o in zip(arrays, outputs, strict=True)]
        del arrays
        release([t.payload for t in self.sources])
        moved = program.moved(arriving)
        return [_chain(p, c, t.name, self.report).buffer() for p, c, t in zip(moved, program.after, self.targets, strict=True)]


@dataclass(frozen=True, slots=True)
class _Result:
    """One target of a `_Run`."""

    run: _Run
    index: int
    nbytes: int

    @property
    def location(self) -> None:
        return None

    def chunks(self, limit: int) -> Iterator[memoryview]:
        return BytesPayload.of(self.run.take(self.index)).chunks(limit)

    def buffer(self) -> memoryview:
        return self.run.take(self.index)


class _Tally:
    """What rounding did to the tensors of these names, in all their chunks."""

    def __init__(self, names: Sequence[str], report: Report) -> None:
        self.names = names
        self.report = report
        self.said: set[tuple[str, str]] = set()

    def add(self, roundings: Sequence[Rounding], operands: Sequence[Operand]) -> None:
        names = self.names if len(self.names) == len(operands) else [self.names[0]] * len(operands)
        for name, rounding, operand in zip(names, roundings, operands, strict=True):
            dtype = operand.dtype
            if rounding.overflowed:
                self._say(name, f"values beyond the range of {dtype} became {_beyond(dtype)}")
            if rounding.underflowed:
                self._say(name, f"values too small for {dtype} became {'its smallest' if _special(dtype) == 'scale' else '0'}")

    def _say(self, name: str, what: str) -> None:
        # At once: whoever reads a tensor need not read on to the end of its last chunk.
        if (name, what) not in self.said:
            self.said.add((name, what))
            self.report(name, what)


def _special(dtype: DType) -> str:
    from porter.io.float_layouts import FLOAT_LAYOUTS

    return FLOAT_LAYOUTS[dtype.name].special


def _beyond(dtype: DType) -> str:
    """What rounding makes of values that are too large; see `porter.mapping.ops.rounding`."""
    return {"ieee": "infinite", "finite": "its largest"}.get(_special(dtype), "NaN")


def _run_chain(arrays: Sequence[NDArray[Any]], stages: Sequence[Sequence[Applied]], tally: _Tally) -> list[NDArray[Any]]:
    """Run stages of operations on arrays of the operands' dtypes; what comes out has the last operands' dtypes.

    Values stay float64 from one operation in float64 to the next, and are rounded before anything that looks at bits, after a
    change of dtype, and in the end.
    """
    values, wide = list(arrays), False
    for number, stage in enumerate(stages):
        inputs = [o for applied in stage for o in applied.inputs]
        arithmetic = stage[0].operation.domain == "float64"
        if arithmetic and not wide:
            values = _widened(values, inputs, stage[0].call)
        elif wide and not arithmetic:
            values = _rounded(values, inputs, tally)
        wide = arithmetic
        results: list[NDArray[Any]] = []
        taken = 0
        for applied in stage:
            given = values[taken : taken + len(applied.inputs)]
            taken += len(given)
            results += _computed(applied, given)
        values = results
        outputs = [o for applied in stage for o in applied.outputs]
        if wide and (number == len(stages) - 1 or any(_alone(a) and a.inputs[0].dtype != a.outputs[0].dtype for a in stage)):
            values, wide = _rounded(values, outputs, tally), False
    return values


def _computed(applied: Applied, given: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    try:
        return applied.operation.compute(given, applied.inputs)
    except OperationError as error:
        name = applied.inputs[error.input or 0].name if applied.inputs else applied.outputs[0].name
        raise applied.call.span.error(error.code, error.message, hint=error.hint, tensor=name) from error


def _widened(arrays: Sequence[NDArray[Any]], operands: Sequence[Operand], call: Call) -> list[NDArray[Any]]:
    from porter.mapping.ops.rounding import widened

    wide = []
    for array, operand in zip(arrays, operands, strict=True):
        try:
            wide.append(widened(array, operand.dtype))
        except OperationError as error:
            raise call.span.error(error.code, error.message, hint=error.hint, tensor=operand.name) from error
    return wide


def _rounded(arrays: Sequence[NDArray[Any]], operands: Sequence[Operand], tally: _Tally) -> list[NDArray[Any]]:
    from porter.mapping.ops.rounding import rounded

    done = [rounded(array, operand.dtype) for array, operand in zip(arrays, operands, strict=True)]
    tally.add([rounding for _, rounding in done], operands)
    return [values for values, _ in done]


def _array(payload: Payload, operand: Operand) -> NDArray[Any]:
    return Tensor(TensorSpec(operand.name, operand.dtype, operand.shape), payload).numpy()


def _size(operand: Operand) -> int:
    return math.prod(operand.shape)
