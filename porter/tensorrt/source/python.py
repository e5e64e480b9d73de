"""A network as Python that people could have written: `net.py`, for the packages `tensorrt` and `tensorrt_rtx`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from porter.graph.python_layout import WIDTH, float_literal, statement, text_literal, tuple_literal
from porter.tensorrt.layers import DTYPES, Network
from porter.tensorrt.source.call import DOUBLES, EXPORTED, Block, Call, Program, Reference, Value, Word
from porter.tensorrt.source.calls import Calls, form_of, helpers_of
from porter.tensorrt.source.naming import Identifiers
from porter.tensorrt.source.python_layers import FORMS, HELPERS
from porter.tensorrt.source.python_program import IMPORTS, NAMED, PROGRAM, TENSOR
from porter.tensorrt.source.stages import signatures, stages, with_stage

_PLAIN = frozenset(chr(c) for c in range(0x20, 0x7F)) - frozenset("{}\"\\'")
"""Characters that stand for themselves in any string."""


def print_python(network: Network, program: Program, title: str, made: Calls) -> str:
    """The source of a network. title: what it is called, any text. made: what the program was made of."""
    helpers = helpers_of(program, HELPERS)
    blocks = ["\n".join(_block(b)) + "\n" for b in program.blocks]
    build = "\n".join(_build(network, program)) + "\n"
    parts = [_heading(title) + "\n" + IMPORTS, _named(made), *helpers, *blocks, build, PROGRAM]
    return "\n\n".join(parts)


def _heading(title: str) -> str:
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in title)
    text = f'"""{plain}: a network of TensorRT, written by porter."""\n'
    return text if len(text) <= WIDTH else '"""A network of TensorRT, written by porter."""\n'


def _named(made: Calls) -> str:
    """The function that names layers, and their tensors where these are called after them."""
    if made.suffix is None:
        return NAMED.format(tensor="", others="")
    name = f'f"{{name}}{made.suffix}"' if made.suffix else "name"
    others = "\n".join(statement(f"OTHERS = [{', '.join(map(text_literal, made.clashes))}]", 0))
    others = f"# Layers after which another tensor is called.\n{others}\n\n\n" if made.clashes else ""
    known = " and name not in OTHERS" if made.clashes else ""
    return NAMED.format(tensor=TENSOR.format(name=name, known=known), others=others)


# ---- functions -------------------------------------------------------------------------------------------------------


def _block(block: Block) -> list[str]:
    """The function of a block."""
    parameters = ["network", *(["weights"] if block.takes_weights else []), *block.inputs, *(p.name for p in block.parameters)]
    lines = _definition(f"def {block.name}({', '.join(parameters)}):", parameters)
    variables = {i: i for i in block.inputs}
    for call in block.body:
        last = call.outputs == (block.output,) and call is block.body[-1]
        lines += _call(call, variables, result=last)
    return lines if block.body[-1].outputs == (block.output,) else [*lines, f"    return {variables[block.output]}"]


def _definition(text: str, parameters: Sequence[str]) -> list[str]:
    if len(text) <= WIDTH:
        return [text]
    head, inner = text[: text.index("(") + 1], f"    {', '.join(parameters)}"
    return [head, *([inner] if len(inner) <= WIDTH else [f"    {p}," for p in parameters]), "):"]


def _build(network: Network, program: Program) -> list[str]:
    """The function that adds the whole network."""
    names = Identifiers([b.name for b in program.blocks], fallback="t")
    variables: dict[str, str] = {}
    lines = ["def build(network, weights):", *_docstring(network)]
    for given in network.inputs:
        variables[given.name] = names.take(given.name)
        kind = f"trt.DataType.{DTYPES[given.dtype]}"
        text = f"{variables[given.name]} = network.add_input({text_literal(given.name)}, {kind}, {tuple_literal(given.shape)})"
        lines += statement(text, 1)
    shown = stages(program.body, network.shapes)
    for place, call in enumerate(program.body):
        lines += with_stage(_call(call, variables, names), shown, place, len(program.body), "# ", WIDTH)
    lines.append("")
    for name in network.outputs:
        lines += [*statement(f"{variables[name]}.name = {text_literal(name)}", 1), f"    network.mark_output({variables[name]})"]
    return lines


def _docstring(network: Network) -> list[str]:
    """What goes in and comes out."""
    given, made = signatures(network)
    lines = ['    """Add the layers of the network to an empty one.', ""]
    for what, text in (("Inputs", given), ("Outputs", made)):
        plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)
        line = f"    {what}: {plain}"
        lines.append(line if len(line) <= WIDTH else f"    {what}: {len(network.inputs if what == 'Inputs' else network.outputs)} tensors")
    return [*lines, '    """']


def _call(call: Call, variables: dict[str, str], names: Identifiers | None = None, result: bool = False) -> list[str]:
    """The statement for a call. result: its value is what the block returns."""
    inputs = [variables[i] if i else "None" for i in call.inputs]
    for name in call.outputs:
        variables[name] = names.take(name.removesuffix(EXPORTED)) if names is not None else name
    targets = ", ".join(variables[o] for o in call.outputs)
    called = [(variables[o], call.settings.get(f"called_{i}")) for i, o in enumerate(call.outputs)]
    extra = [line for v, name in called if name is not None for line in statement(f"{v}.name = {_value(name)}", 1)]
    extra += [f"    return {targets}"] if result and extra else []
    head = "return " if result and not extra else f"{targets} = "
    if call.block:
        given = ["network", *(["weights"] if call.weights else []), *inputs, *(_value(v) for v in call.settings.values())]
        return statement(f"{head}{call.function}({', '.join(given)})", 1)
    return [*statement(head + FORMS[form_of(call)].format_map(_Words(call, inputs)), 1), *extra]


# ---- settings --------------------------------------------------------------------------------------------------------


class _Words(dict[str, str]):
    """What stands for the words of a form."""

    def __init__(self, call: Call, inputs: Sequence[str]) -> None:
        super().__init__({f"x{n}": v for n, v in enumerate(inputs)})
        self._call = call
        self._inputs = inputs

    def __missing__(self, word: str) -> str:
        if word in _SPECIAL:
            return _SPECIAL[word](self._call, self._inputs)
        return _value(self._call.settings[word], double=(self._call.function, word) in DOUBLES)


def _value(value: Value, double: bool = False) -> str:
    if isinstance(value, Reference):
        return _joined(value)
    if isinstance(value, Word):
        return f"trt.{value.kind}.{value.member}" if value.kind else text_literal(value.member)
    if isinstance(value, str):
        return text_literal(value)
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return float_literal(value, 64 if double else 32)
    if isinstance(value, tuple):
        return tuple_literal(float_literal(n) if isinstance(n, float) else n for n in value)
    return str(value)


def _joined(value: Reference) -> str:
    if not value.before and not value.after:
        return value.parameter
    if set(value.before + value.after) <= _PLAIN:
        return f'f"{value.before}{{{value.parameter}}}{value.after}"'
    parts = [text_literal(value.before)] if value.before else []
    return " + ".join([*parts, value.parameter, *([text_literal(value.after)] if value.after else [])])


def _origin(call: Call, _: Sequence[str]) -> str:
    """Where weights come from whose names do not begin with their layer's."""
    if "weights" in call.settings:
        return f", prefix={_value(call.settings['weights'])}"
    tensors = [_value(v) for key, v in call.settings.items() if key.endswith("_from")]
    return f", tensors=[{', '.join(tensors)}]" if tensors else ""


def _windows(call: Call, _: Sequence[str]) -> str:
    """The settings of a convolution or pooling that are not as usual."""
    said: Mapping[str, Value] = call.settings
    text = ""
    for key, word, usual in (
        ("stride", "stride", 1),
        ("padding", "padding", 0),
        ("pre_padding", "padding", None),
        ("dilation", "dilation", 1),
    ):
        value = said.get(key)
        if value is not None and not (isinstance(value, tuple) and usual is not None and set(value) <= {usual}):
            text += f", {word}={_value(value)}"
    text += f", post_padding={_value(said['post_padding'])}" if "post_padding" in said else ""
    text += f", groups={_value(said['groups'])}" if said.get("groups", 1) != 1 else ""
    text += "" if said.get("bias", True) else ", bias=False"
    return text if said.get("count_excludes_padding", True) else f"{text}, counts_padding=True"


def _terms(call: Call, _: Sequence[str]) -> str:
    return "".join(f", {role}=False" for role in ("weight", "bias") if not call.settings[f"has_{role}"])


def _setting(key: str, call: Call) -> str:
    """A scale's setting is a tensor's name, others are as they stand."""
    value = call.settings[key]
    if call.function != "general_scale":
        return _value(value)
    return f"weights[{_value(value)}]" if value is not None else "trt.Weights()"


_SPECIAL: Mapping[str, Callable[[Call, Sequence[str]], str]] = {
    "origin": _origin,
    "windows": _windows,
    "terms": _terms,
    "no_bias": lambda call, _: "" if call.settings["bias"] else ", bias=False",
    "given": lambda _, inputs: f", [{', '.join(inputs[1:])}]" if len(inputs) > 1 else "",
    "thresholds": lambda _, inputs: f", [{', '.join(inputs[3:])}]" if len(inputs) > 3 else "",
    "zero": lambda _, inputs: f", {inputs[2]}" if len(inputs) > 2 else "",
    "xs": lambda _, inputs: f"[{', '.join(inputs)}]",
    "shift": lambda call, _: _setting("shift", call),
    "scale": lambda call, _: _setting("scale", call),
    "power": lambda call, _: _setting("power", call),
    "element_type": lambda call, _: f"np.{call.numbers.dtype.replace('bool', 'bool_')}",
    "element_shape": lambda call, _: tuple_literal(call.numbers.shape),
    "element_values": lambda call, _: f"[{', '.join(map(str, call.numbers.values))}]",
}
"""Words of forms that are put together from several settings, or from the inputs."""
