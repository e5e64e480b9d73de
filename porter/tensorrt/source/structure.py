"""Layers that a network repeats, as functions: ResNet's bottlenecks, MobileNet's pairs, the modules of SqueezeNet and GoogLeNet.

A block is a run of calls that stands in the network more than once with the same functions and the same wiring, and that gives
one tensor to what follows. What differs, names and numbers, becomes parameters. The block that saves most lines is taken first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from porter.dataclass import dataclass, replace
from porter.tensorrt.source.call import Block, Call, Parameter, Program, Reference, Value
from porter.tensorrt.source.naming import Identifiers, block_name, words
from porter.tensorrt.source.texts import Column, Pieces, parametrised, stem

LONGEST = 64
"""Calls of the longest block that is looked for."""

_STEPS = 3_000_000
"""How many calls are looked at for all lengths together, or so: where a network has thousands, only shorter blocks are looked for."""

_INPUTS, _TEXTS, _PARAMETERS = 3, 3, 12
_COST, _WORTH = 4.0, 4.0
"""Lines that a function costs beside its body, and lines that it has to save."""

_FORKED = 0.7
"""What a block is worth that leaves a way around it outside: a residual block had better have its sum in it."""

_JOINS = frozenset(["elementwise", "concatenation"])
_FINISHED = frozenset(["convolution", "deconvolution", "linear", "batch_norm", "scale", "elementwise"])
_FINISHING = frozenset(["batch_norm", "scale", "activation", "prelu"])
"""Layers that belong to the one before them, where nothing else reads that."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Runs of `length` calls that are alike, and what differs between them."""

    starts: tuple[int, ...]
    length: int
    texts: Mapping[tuple[int, str], str | Pieces]
    text_values: tuple[Column, ...]
    numbers: Mapping[tuple[int, str], tuple[Value, ...]]
    score: float


def structured(calls: Sequence[Call], outputs: Sequence[str]) -> Program:
    """The calls with what they repeat as blocks. outputs: tensors that have to stay."""
    body = list(calls)
    blocks: list[Block] = []
    names = Identifiers()
    while (best := _best(body, outputs)) is not None:
        block, uses = _made(body, best, outputs, names)
        blocks.append(block)
        for start, use in sorted(zip(best.starts, uses, strict=True), reverse=True, key=lambda pair: pair[0]):
            body[start : start + best.length] = [use]
    return Program(tuple(blocks), tuple(body))


# ---- what repeats ----------------------------------------------------------------------------------------------------


def _best(calls: Sequence[Call], outputs: Sequence[str]) -> _Candidate | None:
    """The block that saves most. Those that could save most are looked at first."""
    seams = _Seams(calls, outputs)
    best: _Candidate | None = None
    for most, starts, length in sorted(_runs(calls), key=lambda run: -run[0]):
        if most < _WORTH or (best is not None and most < best.score):
            break
        for found in _alike(calls, starts, length, seams):
            if found.score >= _WORTH and (best is None or _rank(found, calls) > _rank(best, calls)):
                best = found
    return best


def _rank(found: _Candidate, calls: Sequence[Call]) -> tuple[float, bool, int]:
    begins = calls[found.starts[0]].function in ("convolution", "deconvolution", "linear")
    return found.score, begins, -found.starts[0]


def _runs(calls: Sequence[Call]) -> Iterator[tuple[float, list[int], int]]:
    """Runs of calls of the same signatures: what they could save at most, where they start, and their length."""
    known: dict[Key, int] = {}
    kinds = [known.setdefault(_signature(c), len(known)) for c in calls]
    places: dict[tuple[int, ...], list[int]] = {(): list(range(len(calls)))}
    longest = min(LONGEST, len(calls) // 2, math.isqrt(_STEPS // max(len(calls), 1)))
    for length in range(1, longest + 1):
        longer: dict[tuple[int, ...], list[int]] = {}
        for run, starts in places.items():
            for start in starts:
                if start + length <= len(calls) and not calls[start + length - 1].block:
                    longer.setdefault((*run, kinds[start + length - 1]), []).append(start)
        places = {run: starts for run, starts in longer.items() if len(starts) > 1}
        if length > 1:
            for starts in places.values():
                uses = len(_apart(starts, length))
                yield uses * length - uses - length - _COST, starts, length


class _Seams:
    """Where a network may be cut: what reads each tensor, and what belongs to the layer before it, as its activation does."""

    def __init__(self, calls: Sequence[Call], outputs: Sequence[str]) -> None:
        self.readers: dict[str, list[int]] = {}
        for place, call in enumerate(calls):
            for name in call.inputs:
                self.readers.setdefault(name, []).append(place)
        for name in outputs:
            self.readers.setdefault(name, []).append(len(calls))
        makers = {o: place for place, call in enumerate(calls) for o in call.outputs}
        self.before: dict[int, int] = {}
        for place, call in enumerate(calls):
            maker = makers.get(call.inputs[0]) if call.inputs else None
            alone = maker is not None and len(self.readers[call.inputs[0]]) == 1
            if alone and maker is not None and call.function in _FINISHING and calls[maker].function in _FINISHED:
                self.before[place] = maker
        self.after = {maker: place for place, maker in self.before.items()}
        constants = {o for call in calls if call.function in ("constant", "numbers") for o in call.outputs}
        self._with_constants = {place for place, call in enumerate(calls) if constants & set(call.inputs)}

    def cuts(self, start: int, length: int) -> bool:
        """Whether a run takes a layer apart from its normalisation or activation."""
        inside = range(start, start + length)
        return any(self.before.get(p, p) not in inside or self.after.get(p, p) not in inside for p in inside)

    def compound(self, calls: Sequence[Call], start: int, length: int) -> bool:
        """Whether a run is a block where branches come together, and more behind it that needs nothing else."""
        inside = range(start, start + length)
        for place in inside:
            if calls[place].function not in _JOINS or place in self._with_constants:
                continue
            end = place
            while self.after.get(end, start + length) in inside:
                end = self.after[end]
            made = {o for p in range(start, end) for o in calls[p].outputs} | set(_given(calls[start : start + length]))
            if end + 1 in inside and not any(end < r < start + length for name in made for r in self.readers.get(name, ())):
                return True
        return False

    def skipped(self, calls: Sequence[Call], start: int, length: int) -> bool:
        """Whether what a run makes is put together with what it reads: then that belongs to it."""
        run = calls[start : start + length]
        given = set(_given(run))
        later = {r for c in run for o in c.outputs for r in self.readers.get(o, ()) if start + length <= r < len(calls)}
        return any(calls[r].function in _JOINS and given & set(calls[r].inputs) for r in later)

    def forks(self, calls: Sequence[Call], start: int, length: int) -> bool:
        """Whether what a run reads is read by others, too."""
        inside = range(start, start + length)
        return any(r not in inside for name in _given(calls[start : start + length]) for r in self.readers[name])


def _alike(calls: Sequence[Call], starts: Sequence[int], length: int, seams: _Seams) -> Iterator[_Candidate]:
    """Those of the runs that have one wiring, all of them and, where that reads better, those with names of one make."""
    wirings: dict[Key, list[int]] = {}
    for start in starts:
        whole = not seams.cuts(start, length) and not seams.compound(calls, start, length)
        wiring = _wiring(calls, start, length, seams.readers) if whole else None
        if wiring is not None:
            wirings.setdefault(wiring, []).append(start)
    for group in wirings.values():
        made = _candidate(calls, _apart(group, length), length, seams)
        if made is None:
            continue
        yield made
        if len(made.text_values) > 1:
            makes: dict[Key, list[int]] = {}
            for start in group:
                makes.setdefault(_make(calls, start, length), []).append(start)
            for some in makes.values():
                fewer = _candidate(calls, _apart(some, length), length, seams)
                if fewer is not None:
                    yield fewer


def _apart(starts: Sequence[int], length: int) -> list[int]:
    """Runs that do not overlap."""
    kept: list[int] = []
    for start in starts:
        if not kept or start >= kept[-1] + length:
            kept.append(start)
    return kept


def _signature(call: Call) -> Key:
    """What two calls must share to be one line of a block."""
    return (
        call.function,
        call.block,
        tuple([bool(i) for i in call.inputs]),
        len(call.outputs),
        tuple([(k, _kind(v)) for k, v in call.settings.items()]),
    )


def _kind(value: Value) -> object:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool) or value is None or not isinstance(value, int | float | tuple):
        return (type(value).__name__, value)
    if isinstance(value, tuple):
        return ("floats" if any(isinstance(n, float) for n in value) else "ints", len(value))
    return type(value).__name__


def _wiring(calls: Sequence[Call], start: int, length: int, readers: Mapping[str, Sequence[int]]) -> Key | None:
    """Where each input of a run comes from, and which tensor leaves it; None where it cannot be a function of few tensors."""
    made: dict[str, tuple[int, int]] = {}
    given: dict[str, int] = {}
    wires: list[object] = []
    for place, call in enumerate(calls[start : start + length]):
        wires.append(tuple([made.get(i) or (given.setdefault(i, len(given)) if i else None) for i in call.inputs]))
        made.update({name: (place, number) for number, name in enumerate(call.outputs)})
    leaves = [where for name, where in made.items() if any(not start <= r < start + length for r in readers.get(name, ()))]
    return (tuple(wires), tuple(leaves)) if len(leaves) == 1 and 0 < len(given) <= _INPUTS else None


def _make(calls: Sequence[Call], start: int, length: int) -> Key:
    """How the names of one run are put together from what they have in common."""
    texts = [v for call in calls[start : start + length] for v in call.settings.values() if isinstance(v, str)]
    common = stem(texts)
    return tuple([t.replace(common, "\0", 1) for t in texts]) if common else (start,)


def _candidate(calls: Sequence[Call], starts: Sequence[int], length: int, seams: _Seams) -> _Candidate | None:
    if len(starts) < 2 or any(seams.skipped(calls, start, length) for start in starts):
        return None
    texts: dict[tuple[int, str], Column] = {}
    numbers: dict[tuple[int, str], tuple[Value, ...]] = {}
    for place in range(length):
        for key in calls[starts[0] + place].settings:
            values = tuple([calls[s + place].settings[key] for s in starts])
            if isinstance(values[0], str):
                texts[place, key] = tuple([str(v) for v in values])
            elif len(set(values)) > 1:
                numbers[place, key] = values
    pieces, parameters = parametrised(list(texts.values()))
    count = len(set(numbers.values()))
    if len(parameters) > _TEXTS or len(parameters) + count > _PARAMETERS:
        return None
    uses = len(starts)
    score = uses * length - uses - length - _COST - 0.3 * uses * max(0, len(parameters) - 1) - 0.15 * uses * max(0, count - 4)
    if any(seams.forks(calls, start, length) for start in starts):
        score *= _FORKED
    return _Candidate(tuple(starts), length, dict(zip(texts, pieces, strict=True)), tuple(parameters), numbers, score)


# ---- the function ----------------------------------------------------------------------------------------------------


def _made(calls: Sequence[Call], found: _Candidate, outputs: Sequence[str], names: Identifiers) -> tuple[Block, list[Call]]:
    """The block, and the calls of it."""
    first = calls[found.starts[0] : found.starts[0] + found.length]
    settings, parameters, columns = _parameters(first, found)
    runs = [calls[s : s + found.length] for s in found.starts]
    inner = _tensors(first, settings)
    given = _given(first)
    local = dict(zip(given, ["x"] if len(given) == 1 else [f"x{i + 1}" for i in range(len(given))], strict=True)) | inner
    body = tuple(
        [
            replace(c, inputs=tuple([local[i] if i else "" for i in c.inputs]), outputs=tuple([local[o] for o in c.outputs]), settings=s)
            for c, s in zip(first, settings, strict=True)
        ]
    )
    output = _output(calls, found, outputs)
    name = names.take(block_name(body, found.text_values[0] if found.text_values else ()))
    block = Block(name, parameters, tuple([local[i] for i in given]), local[first[output[0]].outputs[output[1]]], body)
    uses = []
    for k, run in enumerate(runs):
        said = {p.name: column[k] for p, column in zip(parameters, columns, strict=True)}
        made = (run[output[0]].outputs[output[1]],)
        uses.append(Call(name, tuple(_given(run)), made, said, block=True, weights=block.takes_weights))
    return block, uses


def _given(run: Sequence[Call]) -> list[str]:
    """Tensors that a run reads and does not make, each once."""
    made = {o for call in run for o in call.outputs}
    return list(dict.fromkeys(i for call in run for i in call.inputs if i and i not in made))


def _output(calls: Sequence[Call], found: _Candidate, outputs: Sequence[str]) -> tuple[int, int]:
    """Which call of the run makes the tensor that leaves it, and as which output."""
    wiring = _wiring(calls, found.starts[0], found.length, _Seams(calls, outputs).readers)
    assert wiring is not None
    place: tuple[int, int] = wiring[1][0]  # type: ignore[index]
    return place


def _parameters(first: Sequence[Call], found: _Candidate) -> tuple[list[dict[str, Value]], tuple[Parameter, ...], list[tuple[Value, ...]]]:
    """The settings of the block's calls, its parameters, and their values in each use."""
    taken = Identifiers(("x", "x1", "x2", "x3", "network", "weights"))
    parameters: list[Parameter] = []
    columns: list[tuple[Value, ...]] = []
    for number, column in enumerate(found.text_values):
        users = [at for at, p in found.texts.items() if isinstance(p, Pieces) and p.parameter == number]
        place, key = next((at for at in users if at[1] == "name"), users[0])
        wanted = "tensor" if key.startswith("called") else "prefix" if key != "name" else "name"
        taken_already = any(p.name == wanted for p in parameters)
        parameters.append(Parameter(taken.take(f"{first[place].function} {wanted}" if taken_already else wanted), "text"))
        columns.append(column)
    settings: list[dict[str, Value]] = [dict(c.settings) for c in first]
    for (place, key), pieces in found.texts.items():
        if isinstance(pieces, Pieces):
            settings[place][key] = Reference(parameters[pieces.parameter].name, pieces.before, pieces.after)
    by_values: dict[tuple[Value, ...], str] = {}
    keys = [key for key, _ in {(key, values) for (_, key), values in found.numbers.items()}]
    for (place, key), values in found.numbers.items():
        if values not in by_values:
            keys_of = {k for (_, k), v in found.numbers.items() if v == values}
            wanted = "channels" if keys_of == {"outputs", "groups"} else key
            part = _part(settings[place], short=True) if wanted == key and keys.count(key) > 1 else ""
            by_values[values] = taken.take(f"{wanted} {part}".strip())
            parameters.append(Parameter(by_values[values], str(_kind(values[0])[0] if isinstance(values[0], tuple) else _kind(values[0]))))  # type: ignore[index]
            columns.append(values)
        settings[place][key] = Reference(by_values[values])
    return settings, tuple(parameters), columns


def _part(settings: Mapping[str, Value], short: bool = False) -> str:
    """What a layer is called within its block; `short`: only what stands behind the block's name, where something does."""
    name = next(iter(settings.values()))
    if not isinstance(name, Reference):
        return str(name)
    return name.after if short and words(name.after) else f"{name.before} {name.after}"


def _tensors(run: Sequence[Call], settings: Sequence[Mapping[str, Value]]) -> dict[str, str]:
    """Names for the tensors that a block makes: what their layers are called within it."""
    taken = Identifiers(("x", "x1", "x2", "x3"))
    found: dict[str, str] = {}
    for call, said in zip(run, settings, strict=True):
        part = _part(said)
        for name in call.outputs:
            found[name] = taken.take(part if words(part) and not words(part)[0][0].isdigit() else f"{call.function} {part}")
    return found
