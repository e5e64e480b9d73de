"""Python identifiers for the names in a graph: readable, unique, and never a word that means something else.

Source: PyTorch 2.13 `torch/nn/modules/module.py`, the attributes that every module has.
"""

from __future__ import annotations

import keyword
import re

_OF_MODULES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
    state_dict to to_empty train training type xpu zero_grad input_names output_names
"""
MODULE_ATTRIBUTES = frozenset(_OF_MODULES.split())
"""Names that a layer cannot have as an attribute of a module, beside those that begin with an underscore."""

_IN_SOURCE = """
    torch nn F Tensor Net self bool dict enumerate float int len list max min range slice sum tuple zip
    non_maximum_suppression max_roi_pool _parts
    False None True match case type l O I
"""
_IN_FORWARD = frozenset(_IN_SOURCE.split())
"""Names that variables of `forward` cannot have: what the source itself uses, and letters that are hard to tell from digits."""

LONGEST = 48
"""Characters of a name that are kept."""


class Names:
    """Hands out names of one namespace, each once. `fallback` is what a name without letters or digits becomes."""

    def __init__(self, reserved: frozenset[str], fallback: str) -> None:
        self._taken: set[str] = set(reserved)
        self._fallback = fallback

    def take(self, wanted: str) -> str:
        """An identifier close to `wanted`: `conv2/3x3` becomes `conv2_3x3`; a number goes behind one that is taken."""
        base = self._identifier(wanted)
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def _identifier(self, name: str) -> str:
        word = re.sub(r"_+", "_", re.sub(r"[^0-9A-Za-z_]", "_", name)).strip("_")[:LONGEST].strip("_")
        if not word:
            return self._fallback
        if word[0].isdigit():
            word = f"{self._fallback}_{word}"
        return f"{word}_" if keyword.iskeyword(word) or word in self._taken & _RESERVED else word


_RESERVED = MODULE_ATTRIBUTES | _IN_FORWARD


def attribute_names() -> Names:
    """Names of a module's attributes."""
    return Names(MODULE_ATTRIBUTES, "layer")


def variable_names() -> Names:
    """Names of the variables in `forward`."""
    return Names(_IN_FORWARD, "x")
