"""Which part of a checkpoint is the model's weights, and what their names are.

A checkpoint is whatever the script that wrote it put into a dictionary. By default the one part that is a model's
weights is read, names flattened with dots; what was left out is said. Pickled modules are walked as `state_dict()`
would: parameters, then persistent buffers, then submodules.

Values out of a pickle may be shared, cyclic and deep, so every walk here is bounded.

Source: pytorch `torch/nn/modules/module.py` (`_save_to_state_dict`, `state_dict`), 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from porter.dataclass import dataclass
from porter.errors import FormatError, UnsafeFileError, UsageError
from porter.formats.pytorch.archive import Checkpoint
from porter.formats.pytorch.values import (
    describe,
    entries_of,
    identity,
    is_container,
    is_empty,
    is_module,
    is_tensor,
    key_text,
    module_entries,
    tensor_bytes,
)
from porter.io.pickle_globals import Dictionary, Instance
from porter.store import NoticeKind

_DEPTH = 100
_VISITS = 1_000_000

# Patterns are left as text: most files hold one state_dict and need none of them, and compiling takes milliseconds.
_WEIGHTS = (
    r"(?i)(model_?|net(work)?_?|module_?)?(state_?dict|weights?|params?|parameters)"
    r"|model|net|network|module|model_state|state_dicts?|models?"
)
_AVERAGES = r"(?i)(^|_)(ema|swa|averaged?|shadow|teacher|target)(_|$)|^ema|ema$"
_OTHER = (
    r"(?i)optim|(^|_)opts?($|_)|sched|scaler|(^|_)amp($|_)|rng|random|callback|loops?$|hyper|momentum|grads?$|history|loss|metric|meta|config"
    r"|cfg|args|epoch|iter|best_|param_groups"
)

CONSTANTS = "constants"
"""The path of the tensors in a TorchScript archive that are constants of its code, not of its module."""

Note = tuple[NoticeKind, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read: `entries` are names and records in order; `path` is where they lie, () for the whole file."""

    path: tuple[str, ...]
    entries: tuple[tuple[str, object], ...]
    metadata: object = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class _Child:
    key: str
    node: object
    tensors: int
    nbytes: int

    def __str__(self) -> str:
        if not self.tensors:
            return f"{self.key} ({describe(self.node)})"
        return f"{self.key} ({self.tensors} {'tensor' if self.tensors == 1 else 'tensors'}, {self.nbytes:,} bytes)"


def select(checkpoint: Checkpoint, path: str | None) -> Selection:
    """The entries at `path` (dotted; "." for the whole file), or the weights if `path` is None.

    Raises:
        UsageError: nothing is at `path`, or several parts could be the weights.
        FormatError: the file holds no tensors.
        UnsafeFileError: its containers unfold to more than a file can hold.
    """
    search = _Search(checkpoint)
    value = checkpoint.value
    if path is not None:
        if path == CONSTANTS and checkpoint.constants is not None:
            return search.selection((CONSTANTS,), checkpoint.constants, [], everything=True)
        keys, node = search.find(value, path)
        return search.selection(keys, node, [], everything=True)
    return search.weights(value)


class _Search:
    """One search; `_weights` remembers how many tensors are under each container, so shared ones are counted once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._declared = checkpoint.declared
        self._sizes: dict[int, tuple[int, int]] = {}
        self._visits = _VISITS
        self._strays: list[str] = []

    # Finding the weights

    def weights(self, value: object) -> Selection:
        """The default choice; see the module's docstring."""
        count, _ = self._size(value)
        if not count and self._size(self._checkpoint.constants)[0]:
            note: Note = ("assumed", "the module has no tensors of its own; the constants of its code are read, as in frozen modules")
            return self.selection((CONSTANTS,), self._checkpoint.constants, [note])
        if not count and isinstance(value, dict) and not value:
            return Selection((), (), notes=(("note", "the file holds an empty dictionary"),))
        if not count:
            raise FormatError("F207", f"the file holds no tensors: {self._outline(value)}")
        if is_tensor(value):
            return Selection(
                (), (("tensor", value),), notes=(("assumed", "the file holds one tensor without a name; it is called 'tensor' here"),)
            )
        path: tuple[str, ...] = ()
        notes: list[Note] = []
        if constants := self._size(self._checkpoint.constants)[0]:
            notes.append(("note", f"{constants} constants of its code left out; --select {CONSTANTS} reads them instead"))
        inner = False
        while (chosen := self._choose(value, inner)) is not None:
            left = [c for c in self._children(value) if c is not chosen and c.key != chosen.key]
            path, value, inner = (*path, chosen.key), chosen.node, inner or re.fullmatch(_WEIGHTS, chosen.key) is not None
            notes.append(("note", self._left_out(path, left)))
        return self.selection(path, value, notes)

    def _choose(self, value: object, inner: bool) -> _Child | None:
        """The child of `value` that holds the weights, or None if `value` itself does. `inner`: the parent was called so."""
        if is_tensor(value) or is_module(value) or isinstance(value, list | tuple):
            return self._only_part(value) if isinstance(value, list | tuple) else None
        children = self._children(value)
        direct = [c for c in children if is_tensor(c.node)]
        parts = [c for c in children if c.tensors and not is_tensor(c.node)]
        kinds = {c.key: _kind(c) for c in parts}
        named = [c for c in parts if kinds[c.key] == "weights"]
        if inner and (direct or len(named) != 1):
            return None
        if direct and (not named or max(c.tensors for c in named) < len(direct)):
            return None
        averages = [c for c in parts if kinds[c.key] == "averages"]
        unknown = [c for c in parts if kinds[c.key] == "unknown"]
        others = [c for c in parts if kinds[c.key] == "other" and not _is_optimizer(c.node)]
        candidates = named or unknown or averages or (others if len(others) == 1 else [])
        if not candidates:
            raise self._ambiguous("holds no part that looks like a model's weights", parts)
        if len(candidates) > 1:
            raise self._ambiguous(f"holds {len(candidates)} parts that could be the weights", candidates)
        return candidates[0]

    def _only_part(self, value: list[object] | tuple[object, ...]) -> _Child | None:
        """The one item of a list or tuple that has tensors and is none itself: `(weights, epoch)`."""
        children = self._children(value)
        parts = [c for c in children if c.tensors and not is_tensor(c.node)]
        if not parts or any(is_tensor(c.node) for c in children):
            return None
        kept = [c for c in parts if not _is_optimizer(c.node)]
        if len(kept) != 1:
            raise self._ambiguous(f"holds {len(parts)} parts that could be the weights", parts)
        return kept[0]

    def _ambiguous(self, what: str, parts: list[_Child]) -> UsageError:
        listed = ", ".join(str(c) for c in parts[:12]) + (" …" if len(parts) > 12 else "")
        return UsageError(
            "U201", f"the checkpoint {what}: {listed}", hint=f"choose one with --select {parts[0].key}, or everything with --select ."
        )

    def _left_out(self, path: tuple[str, ...], left: list[_Child]) -> str:
        text = f"the weights are '{'.'.join(path)}'"
        if not left:
            return text
        listed = ", ".join(str(c) for c in left[:12]) + (f" and {len(left) - 12} more" if len(left) > 12 else "")
        selectable = next((c for c in left if c.tensors), None)
        hint = f"; --select {'.'.join((*path[:-1], selectable.key))} reads that instead" if selectable else ""
        return f"{text}; left out: {listed}{hint}"

    def _outline(self, value: object) -> str:
        if isinstance(value, dict):
            keys = ", ".join(key_text(k) for k in list(value)[:8])
            return f"it is a dictionary of {len(value)} entries ({keys})" if value else "it is an empty dictionary"
        return f"it is a {describe(value) if isinstance(value, Instance) else type(value).__name__}"

    # Containers

    def _children(self, node: object) -> list[_Child]:
        return [_Child(key, child, *self._size(child)) for key, child in entries_of(node)]

    def _size(self, node: object) -> tuple[int, int]:
        """Tensors under `node`, and their bytes. A container that was counted, or is being counted, costs nothing."""
        stack: list[tuple[object, bool]] = [(node, False)]
        while stack:
            current, done = stack.pop()
            if id(current) in self._sizes and not done:
                continue
            if is_tensor(current):
                self._sizes[id(current)] = (1, tensor_bytes(current))
                continue
            children = [child for _, child in self._entries(current)]
            if done:
                counted = [self._sizes.get(id(c), (0, 0)) for c in children]
                self._sizes[id(current)] = (sum(c for c, _ in counted), sum(b for _, b in counted))
                continue
            self._sizes[id(current)] = (0, 0)
            self._visit(1 + len(children))
            stack.append((current, True))
            stack.extend((c, False) for c in children if is_container(c) or is_tensor(c))
        return self._sizes.get(id(node), (0, 0))

    def _visit(self, cost: int) -> None:
        self._visits -= cost
        if self._visits < 0:
            raise UnsafeFileError(
                "S204", "the values in the pickle unfold to more than a file can hold", hint="no honest checkpoint does this"
            )

    def _entries(self, node: object) -> Iterator[tuple[str, object]]:
        return module_entries(node, self._declared) if is_module(node) else entries_of(node)

    # Paths

    def find(self, value: object, path: str) -> tuple[tuple[str, ...], object]:
        """What lies at the dotted `path`: keys may hold dots themselves, so the longest that fits is taken first."""
        keys: tuple[str, ...] = ()
        rest = path if path != "." else ""
        while rest:
            children = dict(self._entries(value)) | dict(entries_of(value))
            parts = rest.split(".")
            for n in range(len(parts), 0, -1):
                key = ".".join(parts[:n])
                if key in children:
                    keys, value, rest = (*keys, key), children[key], ".".join(parts[n:])
                    break
            else:
                known = ", ".join(list(children)[:12]) or "nothing"
                where = f"'{'.'.join(keys)}'" if keys else "the file"
                raise UsageError("U202", f"there is no '{rest}' in {where}", hint=f"it holds: {known}")
        if not self._size(value)[0]:
            raise UsageError("U202", f"there are no tensors in '{path}'", hint=f"{self._outline(value)}")
        return keys, value

    # Names

    def selection(self, path: tuple[str, ...], node: object, notes: list[Note], *, everything: bool = False) -> Selection:
        """All tensors under `node`, with their names; states of optimisers next to weights only with `everything`."""
        if is_tensor(node):
            return Selection(path, ((path[-1] if path else "tensor", node),), notes=tuple(notes))
        if not path and isinstance(node, dict) and not everything:
            optimizers = [c for c in self._children(node) if c.tensors and _is_optimizer(c.node)]
            if optimizers:
                listed = ", ".join(str(c) for c in optimizers)
                notes.append(("note", f"left out: {listed}; --select {optimizers[0].key} reads that instead"))
                node = {k: v for k, v in node.items() if not _is_optimizer(v)}
        entries = tuple(self._flat(node, "", 0))
        if self._strays:
            shown = ", ".join(self._strays[:8]) + (f" and {len(self._strays) - 8} more" if len(self._strays) > 8 else "")
            notes.append(("skipped", f"entries that are no tensors left out: {shown}"))
        if outside := self._outside(node, entries):
            shown = ", ".join(outside[:5]) + (f" and {len(outside) - 5} more" if len(outside) > 5 else "")
            notes.append(("skipped", f"tensors that are no part of a module's state_dict() left out: {shown}"))
        state = node.state if isinstance(node, Dictionary) else None
        metadata = state.get("_metadata") if isinstance(state, dict) else None
        return Selection(path, entries, metadata, tuple(notes))

    def _flat(self, node: object, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
        if depth > _DEPTH:
            raise UnsafeFileError(
                "S204", f"containers are nested more than {_DEPTH} deep, or hold themselves", hint="no honest checkpoint does this"
            )
        for key, child in self._entries(node):
            name = prefix + key
            self._visit(1 + len(name) // 64)
            if is_tensor(child):
                yield name, child
            elif self._size(child)[0]:
                yield from self._flat(child, name + ".", depth + 1)
            elif not (child is None or is_empty(child) or is_module(child)):
                self._strays.append(f"{name} ({describe(child)})")

    def _outside(self, node: object, entries: tuple[tuple[str, object], ...]) -> list[str]:
        """Paths of tensors under `node` that `entries` do not show: plain attributes of modules, transient buffers."""
        shown = {identity(leaf) for _, leaf in entries}
        found: list[str] = []
        seen: set[int] = set()
        waiting: list[tuple[str, object]] = [("", node)]
        while waiting:
            prefix, current = waiting.pop()
            if id(current) in seen:
                continue
            seen.add(id(current))
            self._visit(1)
            prefix = prefix if len(prefix) < 200 else "….."
            for key, child in entries_of(current):
                if is_tensor(child) and identity(child) not in shown:
                    shown.add(identity(child))
                    found.append(f"{prefix}{key}")
                elif is_container(child):
                    waiting.append((f"{prefix}{key}.", child))
        return found


def _is_optimizer(node: object) -> bool:
    return isinstance(node, dict) and "param_groups" in node


def _kind(child: _Child) -> str:
    if _is_optimizer(child.node) or re.search(_OTHER, child.key):
        return "other"
    if re.search(_AVERAGES, child.key):
        return "averages"
    return "weights" if re.fullmatch(_WEIGHTS, child.key) else "unknown"
