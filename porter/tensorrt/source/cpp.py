"""A network as C++ that people could have written: `net.hpp` and `net.cpp`, against `porter/wts_tensorrt.hpp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from porter.dataclass import dataclass
from porter.tensorrt.layers import DTYPES, Network
from porter.tensorrt.source.call import DOUBLES, EXPORTED, Block, Call, Program, Reference, Value, Word
from porter.tensorrt.source.calls import form_of, helpers_of
from porter.tensorrt.source.cpp_layers import FORMS, HELPERS
from porter.tensorrt.source.cpp_program import HEADER, INCLUDES, MAIN
from porter.tensorrt.source.layout import WIDTH, double_literal, float_literal, integer_literal, statement, text_literal
from porter.tensorrt.source.naming import Identifiers, camel
from porter.tensorrt.source.stages import signatures, stages, with_stage

_TYPES = {
    "text": "const std::string&",
    "int": "std::int64_t",
    "float": "double",
    "ints": "const Shape&",
    "floats": "const std::vector<float>&",
}
_ELEMENTS = {"bool": "std::uint8_t", "int8": "std::int8_t", "uint8": "std::uint8_t", "int32": "std::int32_t", "int64": "std::int64_t"}


@dataclass(frozen=True, slots=True)
class CppSource:
    """The texts of the two files."""

    header: str
    source: str


def print_cpp(network: Network, program: Program, title: str) -> CppSource:
    """The sources of a network. title: what it is called, any text."""
    given, made = signatures(network)
    header = HEADER.format(title=_comment(title), inputs=_comment(given), outputs=_comment(made))
    helpers = helpers_of(program, HELPERS)
    hidden = "\n".join([*helpers, *("\n".join(_block(b)) + "\n" for b in program.blocks)])
    parts = [
        INCLUDES.format(title=_comment(title))
        + _standard("\n".join(helpers))
        + "\nusing namespace nvinfer1;\nusing namespace porter::trt;\n"
    ]
    parts += [f"namespace {{\n\n{hidden}\n}} // namespace\n"] if hidden else []
    parts += ["\n".join(_build(network, program)) + "\n", MAIN]
    return CppSource(header, "\n".join(parts))


def _comment(text: str) -> str:
    """Text that can stand behind `//`: in one line that does not go on in the next, and is no trigraph."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text.replace("??", "?"))
    return plain.rstrip("\\ ")


def _standard(text: str) -> str:
    """Headers that the functions before the network need."""
    wanted = {"optional": "std::optional"}
    return "".join(f"#include <{name}>\n" for name, word in wanted.items() if word in text)


# ---- functions -------------------------------------------------------------------------------------------------------


def _block(block: Block) -> list[str]:
    """The function of a block."""
    parameters = ["INetworkDefinition& network", *(["WeightMap& weights"] if block.takes_weights else [])]
    parameters += [f"ITensor& {i}" for i in block.inputs]
    parameters += [f"{_TYPES[p.kind]} {camel(p.name)}" for p in block.parameters]
    variables = {i: i for i in block.inputs}
    lines = statement(f"ITensor* {camel(block.name)}({', '.join(parameters)})", 0)
    body: list[str] = []
    for call in block.body:
        last = call.outputs == (block.output,) and call is block.body[-1]
        body += _call(call, variables, references=frozenset(block.inputs), result="return" if last else "")
    if not body[-1].lstrip().startswith("return") and block.body[-1].outputs != (block.output,):
        body.append(f"    return {variables[block.output]};")
    lines[-1] += " {"
    return [*lines, *body, "}"]


def _build(network: Network, program: Program) -> list[str]:
    """The function that adds the whole network."""
    names = Identifiers([b.name for b in program.blocks], fallback="t")
    variables: dict[str, str] = {}
    # A parameter that nothing reads has no name: it would be warned of.
    read = any(i.dtype == "float32" for i in network.inputs) or any(c.takes_weights for c in program.body)
    lines = [f"void net::build(INetworkDefinition& network, WeightMap&{' weights' if read else ''}) {{"]
    for given in network.inputs:
        variables[given.name] = names.take(given.name)
        kind = f"DataType::k{DTYPES[given.dtype]}"
        text = f"addInput(network, {text_literal(given.name)}, {kind}, {_shape(given.shape)})"
        if given.dtype == "float32":
            text = f"addCast(network, *{text}, {text_literal(f'{given.name}/cast')}, weights.type())"
        lines += statement(f"auto* const {variables[given.name]} = {text};", 1)
    shown = stages(program.body, network.shapes)
    for place, call in enumerate(program.body):
        lines += with_stage(_call(call, variables, names), shown, place, len(program.body), "// ", WIDTH)
    lines.append("")
    for name in network.outputs:
        text = variables[name]
        if network.dtypes.get(name, "float32") == "float32":
            text = f"addCast(network, *{text}, {text_literal(f'{name}/cast')}, DataType::kFLOAT)"
        lines += statement(f"markOutput(network, *{text}, {text_literal(name)});", 1)
    return [*lines, "}"]


def _call(
    call: Call, variables: dict[str, str], names: Identifiers | None = None, references: frozenset[str] = frozenset(), result: str = ""
) -> list[str]:
    """The statements for a call. references: variables that are no pointers. result: `return` for the last of a block."""
    inputs = [variables[i] if i else "" for i in call.inputs]
    values = {f"x{n}": v if v in references else f"*{v}" for n, v in enumerate(inputs) if v}
    pointers = ["nullptr" if not v else f"&{v}" if v in references else v for v in inputs]
    for name in call.outputs:
        variables[name] = names.take(name.removesuffix(EXPORTED)) if names is not None else name
    first = variables[call.outputs[0]]
    head = "return " if result else f"auto* const {first} = "
    if call.block:
        given = ["network", *(["weights"] if call.weights else []), *values.values(), *(_value(v) for v in call.settings.values())]
        return statement(f"{head}{camel(call.function)}({', '.join(given)});", 1)
    text = FORMS[form_of(call)].format_map(_Words(call, values, pointers))
    if len(call.outputs) == 1:
        return statement(f"{head}{text}->getOutput(0);", 1)
    layer = (names or Identifiers(variables.values())).take(f"{first}_layer")
    lines = statement(f"auto* const {layer} = {text};", 1)
    for number, name in enumerate(call.outputs):
        lines += [f"    [[maybe_unused]] auto* const {variables[name]} = {layer}->getOutput({number});"]
    return lines


# ---- settings --------------------------------------------------------------------------------------------------------


class _Words(dict[str, str]):
    """What stands for the words of a form."""

    def __init__(self, call: Call, values: Mapping[str, str], pointers: Sequence[str]) -> None:
        super().__init__(values)
        self._call = call
        self._pointers = pointers

    def __missing__(self, word: str) -> str:
        if word in _SPECIAL:
            return _SPECIAL[word](self._call, self._pointers)
        return _value(self._call.settings[word], double=(self._call.function, word) in DOUBLES)


def _value(value: Value, double: bool = False) -> str:
    if isinstance(value, Reference):
        return _joined(value)
    if isinstance(value, Word):
        return f"{value.kind}::k{value.member}" if value.kind else text_literal(value.member)
    if isinstance(value, str):
        return text_literal(value)
    if value is None:
        return "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return integer_literal(value)
    if isinstance(value, float):
        return double_literal(value) if double else float_literal(value)
    assert isinstance(value, tuple)
    return _shape(value)


def _shape(values: Sequence[int | float]) -> str:
    return f"{{{', '.join(float_literal(n) if isinstance(n, float) else integer_literal(n) for n in values)}}}"


def _joined(value: Reference) -> str:
    parts = [*([text_literal(value.before)] if value.before else []), camel(value.parameter)]
    return " + ".join([*parts, *([text_literal(value.after)] if value.after else [])])


def _named(call: Call, _: Sequence[str]) -> str:
    """A layer's name, and where its weights come from if their names do not begin with it."""
    name = _value(call.settings["name"])
    if "weights" in call.settings:
        return f"{{{name}, {_value(call.settings['weights'])}}}"
    tensors = [_value(v) for key, v in call.settings.items() if key.endswith("_from")]
    return f"Name({name}).from({{{', '.join(tensors)}}})" if tensors else name


def _windows(call: Call, _: Sequence[str]) -> str:
    """The settings of a convolution or pooling that are not as usual."""
    said = call.settings
    text = ""
    for key, usual in (("stride", 1), ("padding", 0), ("pre_padding", None), ("dilation", 1)):
        value = said.get(key)
        if value is None or (isinstance(value, tuple) and usual is not None and set(value) <= {usual}):
            continue
        if key == "pre_padding":
            text += f".padding({_value(value)}, {_value(said['post_padding'])})"
        else:
            text += f".{key}({_value(value)})"
    if said.get("groups", 1) != 1:
        text += f".groups({_value(said['groups'])})"
    text += "" if said.get("bias", True) else ".noBias()"
    text += "" if said.get("count_excludes_padding", True) else ".countPadding()"
    return f", {'Pool' if call.function == 'pooling' else 'Conv'}(){text}" if text else ""


def _terms(call: Call, _: Sequence[str]) -> str:
    if call.settings["has_weight"] and call.settings["has_bias"]:
        return ""
    return ", Terms::weight" if call.settings["has_weight"] else ", Terms::bias"


def _weights(role: str, call: Call) -> str:
    value = call.settings[role]
    return f"weights.at({_value(value)})" if value is not None else "Weights{DataType::kFLOAT, nullptr, 0}"


def _given(call: Call, pointers: Sequence[str]) -> str:
    """The inputs after the first."""
    return f", {{{', '.join(pointers[1:])}}}" if len(pointers) > 1 else ""


def _setting(key: str, call: Call) -> str:
    """A scale's setting is a tensor's name, others are as they stand."""
    if call.function == "general_scale":
        return _weights(key, call)
    return _value(call.settings[key])


_SPECIAL: Mapping[str, Callable[[Call, Sequence[str]], str]] = {
    "named": _named,
    "windows": _windows,
    "terms": _terms,
    "no_bias": lambda call, _: "" if call.settings["bias"] else ", false",
    "given": _given,
    "thresholds": lambda _, pointers: f", {{{', '.join(pointers[3:])}}}" if len(pointers) > 3 else "",
    "zero": lambda _, pointers: f", {pointers[2]}" if len(pointers) > 2 else "",
    "xs": lambda _, pointers: f"{{{', '.join(pointers)}}}",
    "shift": lambda call, _: _setting("shift", call),
    "scale": lambda call, _: _setting("scale", call),
    "power": lambda call, _: _setting("power", call),
    "shape_pointer": lambda call, _: "std::nullopt" if call.settings["shape"] is None else f"Shape{_value(call.settings['shape'])}",
    "element": lambda call, _: _ELEMENTS[call.numbers.dtype],
    "element_type": lambda call, _: f"DataType::k{DTYPES[call.numbers.dtype]}",
    "element_shape": lambda call, _: _shape(call.numbers.shape),
    "element_values": lambda call, _: _shape([int(n) for n in call.numbers.values]),
}
"""Words of forms that are put together from several settings, or from the inputs."""
