"""What a Caffe layer says of itself, read by the function that takes the layer over. What is not read is not honoured.

Prototxt text of any fork is read without a schema, so the reader of a parameter says what type it has. In the end `unread`
lists what the text states and nobody asked for; the importer refuses the layer then, rather than ignore it.
"""

from __future__ import annotations

from collections.abc import Sequence

from porter.errors import GraphError
from porter.formats.caffe.message_tree import Message
from porter.formats.caffe.net import CaffeLayer

HARMLESS = frozenset(
    {
        # About training, or about which code computes the same values.
        *(
            "weight_filler",
            "bias_filler",
            "filler",
            "scale_filler",
            "shift_filler",
            "slope_filler",
            "engine",
            "share_in_parallel",
            "sparse",
            "debug_info",
        ),
        *("lr_mult", "decay_mult", "moving_average_fraction", "cudnn_convolution_algo_seeker", "conv_algos_override"),
    }
)
"""Fields of parameter messages that say nothing about what a trained layer computes."""

NOT_PARAMETERS = frozenset(
    {
        *("name", "type", "bottom", "top", "param", "blobs", "include", "exclude", "phase", "loss_weight", "propagate_down"),
        *("blobs_lr", "weight_decay", "blob_share_mode", "forward_type", "backward_type", "forward_math", "backward_math", "debug"),
        # About computing a loss, and about reading or drawing images.
        *("loss_param", "transform_param"),
    }
)
"""Fields of a layer that are about its place in the net and its training."""

_INTEGERS = (-(2**31), 2**32 - 1)
"""What fits an int32 or a uint32."""


class Parameters:
    """The parameters of one layer; each access marks what it reads."""

    def __init__(self, layer: CaffeLayer) -> None:
        self.layer = layer
        self._read: set[str] = set()

    def number(self, path: str, default: float) -> float:
        """A float parameter (`power_param.shift`)."""
        value = self._scalar(path)
        if value is None:
            return default
        if isinstance(value, str):
            value = _special(value)
        if value is None or isinstance(value, bool):
            raise self._wrong(path, "a number")
        return float(value)

    def integer(self, path: str, default: int) -> int:
        """An integer parameter."""
        value = self._scalar(path)
        if value is None:
            return default
        if type(value) is not int or not _INTEGERS[0] <= value <= _INTEGERS[1]:
            raise self._wrong(path, "an integer of 32 bits")
        return value

    def optional_integer(self, path: str) -> int | None:
        """An integer parameter, or None where the text does not state it."""
        return None if self._scalar(path) is None else self.integer(path, 0)

    def optional_number(self, path: str) -> float | None:
        """A float parameter, or None where the text does not state it."""
        return None if self._scalar(path) is None else self.number(path, 0.0)

    def flag(self, path: str, default: bool) -> bool:
        """A bool parameter; text may write it as true, false, 1 or 0."""
        value = self._scalar(path)
        if value is None:
            return default
        words = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
        if isinstance(value, str):
            value = words.get(value)
        if value is None or value not in (0, 1, True, False):
            raise self._wrong(path, "true or false")
        return bool(value)

    def text(self, path: str, default: str) -> str:
        """A string parameter."""
        value = self._scalar(path)
        return default if value is None else str(value)

    def choice(self, path: str, words: Sequence[str], default: str) -> str:
        """An enum parameter by the name of its value; text may write its number, the place in `words`."""
        value = self._scalar(path)
        if value is None:
            return default
        if type(value) is int and 0 <= value < len(words):
            return words[value]
        if value not in words:
            raise self._wrong(path, f"one of {', '.join(words)}")
        return str(value)

    def integers(self, path: str) -> list[int]:
        """All values of a repeated integer parameter; those of a message `shape { dim … }` by `x_param.shape.dim`."""
        self._mark(path)
        values = self.layer.parameters(path)
        found = [v for v in values if type(v) is int and _INTEGERS[0] <= v <= _INTEGERS[1]]
        if len(found) != len(values):
            raise self._wrong(path, "integers of 32 bits")
        return found

    def numbers(self, path: str) -> list[float]:
        """All values of a repeated float parameter."""
        self._mark(path)
        values = self.layer.parameters(path)
        if any(isinstance(v, str | bool) for v in values):
            raise self._wrong(path, "numbers")
        return [float(v) for v in values]

    def messages(self, path: str) -> list[Message]:
        """All messages of this name, for parameters that repeat whole messages; everything in them counts as read."""
        self._mark(path)
        folder, _, name = path.rpartition(".")
        message: Message | None = self.layer.message
        for part in folder.split(".") if folder else ():
            message = message.message(part) if message is not None else None
        return message.messages(name) if message is not None else []

    def stated(self, path: str) -> bool:
        """Whether the text states the parameter at all. Does not count as reading it."""
        folder, _, name = path.rpartition(".")
        message: Message | None = self.layer.message
        for part in folder.split(".") if folder else ():
            message = message.message(part) if message is not None else None
        return message is not None and bool(message.fields(name))

    def ignore(self, *paths: str) -> None:
        """Say that these parameters change nothing here, for a reason that stands in the code beside the call."""
        for path in paths:
            self._mark(path)

    def unread(self) -> list[str]:
        """The paths of parameters that the text states and that nothing read, in order."""
        found: list[str] = []
        self._walk(self.layer.message, "", found)
        return list(dict.fromkeys(found))

    def _walk(self, message: Message, prefix: str, found: list[str]) -> None:
        for entry in message.entries:
            path = prefix + entry.name
            if path in self._read or entry.name in HARMLESS or (not prefix and entry.name in NOT_PARAMETERS):
                continue
            value = getattr(entry, "value", None)
            if isinstance(value, Message):
                self._walk(value, path + ".", found)
            else:
                found.append(path)

    def _scalar(self, path: str) -> bool | int | float | str | None:
        self._mark(path)
        return self.layer.parameter(path)

    def _mark(self, path: str) -> None:
        self._read.add(path)

    def _wrong(self, path: str, wanted: str) -> GraphError:
        value = self.layer.parameter(path)
        return self.error("G010", f"{path} is {value!r}, which is not {wanted}")

    def error(self, code: str, message: str, *, hint: str | None = None) -> GraphError:
        """A `GraphError` about this layer, at its place in the prototxt."""
        layer = self.layer
        return GraphError(
            code, f"layer '{layer.name}' ({layer.type}): {message}", line=layer.line or None, column=layer.column or None, hint=hint
        )


def _special(word: str) -> float | None:
    """inf and nan, which text format spells as identifiers."""
    return {"inf": float("inf"), "infinity": float("inf"), "-inf": float("-inf"), "nan": float("nan")}.get(word.lower())
