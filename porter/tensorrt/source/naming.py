"""Identifiers that are good in C++ and in Python, for tensors, parameters and blocks."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Sequence

from porter.tensorrt.source import python_layers, python_program
from porter.tensorrt.source.call import Call, Reference

LONGEST = 48
"""Characters of a name that are kept."""

_CPP = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl concept const
    consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do double dynamic_cast else
    enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public register reinterpret_cast requires return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor xor_eq override final import module
    std nvinfer1 porter trt main assert errno stdin stdout stderr EOF NULL linux unix
"""
_OURS = """
    OTHERS network weights manifest build load check check_layers np trt sys json hashlib argparse Path named read values layers layer
    Shape Conv Pool Name Terms WeightMap Size Logger DataType
"""
_TEXTS = [python_program.PROGRAM, python_program.NAMED, *(text for texts in python_layers.HELPERS.values() for text in texts)]
_DEFINED = re.findall(r"^def (\w+)", "\n".join(_TEXTS), re.MULTILINE)
RESERVED = frozenset([*_CPP.split(), *_OURS.split(), *_DEFINED, *keyword.kwlist, *keyword.softkwlist, *dir(builtins), "l", "O", "I"])
"""What no variable is called: words of both languages, and names that the source itself uses."""


class Identifiers:
    """Hands out identifiers, each once, as `conv2_3x3`; they stay different when underscores and capitals are gone."""

    def __init__(self, taken: Iterable[str] = (), fallback: str = "x") -> None:
        self._taken = {_bare(name) for name in taken}
        self._fallback = fallback

    def take(self, wanted: str) -> str:
        """One close to `wanted`; a number goes behind one that is taken."""
        base = "_".join(words(wanted))[:LONGEST].strip("_") or self._fallback
        if base[0].isdigit():
            base = f"{self._fallback}{base}"
        # Names in capitals alone may be macros of C++.
        if base in RESERVED or (base.isupper() and len(base) > 2):
            base += "_"
        name, number = base, 1
        while _bare(name) in self._taken:
            number += 1
            name = f"{base.rstrip('_')}_{number}"
        self._taken.add(_bare(name))
        return name


def _bare(name: str) -> str:
    return name.rstrip("_").replace("_", "").lower() + ("_" if name.endswith("_") else "")


def words(text: str) -> list[str]:
    """Runs of letters and digits."""
    return re.findall(r"[0-9A-Za-z]+", text)


def camel(name: str) -> str:
    """`conv_bn_relu` as `convBnRelu`."""
    first, *others = name.split("_")
    return first + "".join(w[:1].upper() + w[1:] for w in others)


# ---- blocks ------------------------------------------------------------------------------------------------------------

_SHORT = {"convolution": "conv", "deconvolution": "deconv", "batch_norm": "bn", "pooling": "pool", "concatenation": "concat"}


def block_name(body: Sequence[Call], names: Sequence[str]) -> str:
    """What a repeated block is called: after the architecture that it is known from, or what its uses' names share, or its layers."""
    known = _architecture(body)
    if known:
        return known
    kinds = [_kind(call) for call in body]
    if len(body) <= 4 and all(len(call.inputs) == 1 for call in body):
        return " ".join(dict.fromkeys(kinds))
    shared = _shared(names)
    return shared if shared else "block"


def _kind(call: Call) -> str:
    if call.function == "activation":
        kind = call.settings["kind"]
        return getattr(kind, "member", "activation").lower()
    return _SHORT.get(call.function, call.function)


def _architecture(body: Sequence[Call]) -> str:
    """Blocks that have a name of their own in the literature."""
    convolutions = [c for c in body if c.function == "convolution"]
    inner = {o for c in body for o in c.outputs}
    sums = [c for c in body if c.function == "elementwise" and getattr(c.settings["kind"], "member", "") == "SUM"]
    if len(sums) == 1 and not any(c.function == "concatenation" for c in body):
        projected = all(i in inner for i in sums[0].inputs)
        depth = len(convolutions) - projected
        if depth in (2, 3):
            return ("bottleneck" if depth == 3 else "basic block") + (" projected" if projected else "")
    if len(convolutions) == 2 and not sums and all(len(c.inputs) == 1 for c in body):
        groups = [c.settings["groups"] for c in convolutions]
        if groups[1] == 1 and (isinstance(groups[0], Reference) or (isinstance(groups[0], int) and groups[0] > 1)):
            return "depthwise separable"
    return ""


def _shared(names: Sequence[str]) -> str:
    """Letters that all names begin with."""
    found = {(re.findall(r"[A-Za-z]{3,}", n) or [""])[0].lower() for n in names}
    return found.pop() if len(found) == 1 else ""
