"""What layers of other frameworks are called as modules of PyTorch: names that Python and `torch.nn.Module` accept.

Source: PyTorch 2.13 `torch/nn/modules/module.py`: `add_module` refuses names with dots and names of attributes.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

_ATTRIBUTES = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
    state_dict to to_empty train training type xpu zero_grad
"""


def is_module_path(name: str, *, numbers_first: bool = False) -> bool:
    """Whether `name` is the path of a module: identifiers, and numbers as in a `Sequential`, joined by dots.

    A path that begins with a number is one only with `numbers_first`: nothing but a `Sequential` has such modules.
    """
    first, *others = name.split(".")
    return (_is_identifier(first) or (numbers_first and _is_number(first))) and all(_is_identifier(p) or _is_number(p) for p in others)


def module_names(names: Iterable[str], kept: Iterable[str] = ()) -> dict[str, str]:
    """A module for every name, no two alike.

    Paths of modules stay as they are (`conv1`, `layer1.0.conv1`), and so do those in `kept`. In others everything but ASCII
    letters and digits becomes `_` (`conv4-1` is `conv4_1`), `_` goes in front of a digit and behind a word that Python
    or PyTorch uses; a name that is taken by then gets a number.
    """
    ordered = list(dict.fromkeys(names))
    stay = {*kept, *filter(is_module_path, ordered)}
    found = {name: name for name in ordered if name in stay}
    taken = set(found.values())
    for name in ordered:
        if name not in found:
            found[name] = module = _unused(_identifier(name), taken)
            taken.add(module)
    return {name: found[name] for name in ordered}


def _identifier(name: str) -> str:
    word = re.sub(r"^__+", "_", re.sub(r"[^0-9A-Za-z_]", "_", name))
    if not word.strip("_"):
        return "layer"
    if word[0].isdigit():
        word = f"_{word}"
    return word if _is_identifier(word) else f"{word}_"


def _unused(word: str, taken: set[str]) -> str:
    number = 2
    found = word
    while found in taken:
        found = f"{word}_{number}"
        number += 1
    return found


def _is_identifier(word: str) -> bool:
    plain = word.isascii() and word.isidentifier()
    return plain and not keyword.iskeyword(word) and word not in _ATTRIBUTES.split() and not word.startswith("__")


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and str(int(word[:9])) == word
