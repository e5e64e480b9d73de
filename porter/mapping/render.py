"""Writes the tree of `porter.mapping.syntax` as the text of a map, such that `porter.mapping.parser` reads the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from porter.mapping.lalr import tables
from porter.mapping.node_building import RESERVED
from porter.mapping.syntax import (
    Arithmetic,
    Axes,
    Axis,
    AxisElement,
    Call,
    Capture,
    CaptureType,
    Choice,
    Count,
    Drop,
    Expect,
    Expression,
    Fill,
    Group,
    Int,
    InTable,
    Keep,
    Map,
    Number,
    Param,
    Path,
    Pattern,
    Ranges,
    Remaining,
    Rest,
    Rule,
    Side,
    Statement,
    Table,
    Term,
    Tie,
    Variable,
)

WIDTH = 120
"""Characters that a line has at most, where it can be broken."""

ALIGNED = 48
"""Characters that the left of a statement has at most, for its arrow to stand below those of its neighbours."""

_INDENT = "    "
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def dumps(map: Map) -> str:
    """The text of a map, with a newline at its end. Comments and includes of the text that a map was read from are not in its tree."""
    return "\nthen\n\n".join("".join(_paragraphs(stage.statements)) for stage in map.stages)


def statement_text(statement: Statement) -> str:
    """One statement, without a newline at its end; long ones have newlines in them."""
    match statement:
        case Table():
            return _table_text(statement)
        case Param(name, kind, default):
            return f"param {name} : {kind}" + ("" if default is None else f" = {value_text(default)}")
        case Expect(sources, targets):
            return f"expect sources={sources} targets={targets}"
        case Rule() | Drop() | Keep() | Remaining() | Tie() | Fill():
            return _joined(*_halves(statement))


def pattern_text(pattern: Pattern) -> str:
    """A name, in quotes where it needs them."""
    bare = "".join(part if isinstance(part, str) else _capture_text(part) for part in pattern.parts)
    if bare not in RESERVED and bare != "..." and _is_bare(pattern, bare):
        return bare
    return '"' + "".join(_escaped(part, '"\\{}*') if isinstance(part, str) else _capture_text(part) for part in pattern.parts) + '"'


def axes_text(axes: Axes) -> str:
    """An axis pattern, without the colon."""
    return _elements_text(axes.elements) if axes.elements else "()"


def expression_text(expression: Expression) -> str:
    """An expression, without blanks: `2*i+1`."""
    match expression:
        case Number(value):
            return str(value)
        case Variable(name):
            return name
        case Arithmetic(op, left, right):
            product = op in "*/"
            texts = [expression_text(left), expression_text(right)]
            if product and isinstance(left, Arithmetic) and left.op in "+-":
                texts[0] = f"({texts[0]})"
            if (isinstance(right, Arithmetic) and (product or right.op in "+-")) or texts[1].startswith("-"):
                texts[1] = f"({texts[1]})"
            return op.join(texts)


def call_text(call: Call) -> str:
    """An operation with its arguments."""
    arguments = [(f"{a.name}=" if a.name is not None else "") + value_text(a.value) for a in call.arguments]
    return call.name + (f"({', '.join(arguments)})" if arguments or call.name == "fill" else "")


def value_text(value: Any) -> str:
    """The value of an argument or the default of a parameter."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return re.sub(r"e([-+])0", r"e\1", repr(value))
        case str():
            return _quoted(value)
        case tuple():
            return f"[{', '.join(value_text(item) for item in value)}]"
        case Number() | Variable() | Arithmetic():
            return expression_text(value)
        case _:
            return str(value)


# ---- statements and how they stand below each other --------------------------------------------------------------------


def _paragraphs(statements: Iterable[Statement]) -> Iterator[str]:
    """The lines of a stage, with an empty line between declarations, rules, and what closes the stage."""
    paragraph: list[Statement] = []
    for statement in statements:
        if paragraph and _kind(paragraph[0]) != _kind(statement):
            yield _paragraph(paragraph) + "\n"
            paragraph = []
        paragraph.append(statement)
    if paragraph:
        yield _paragraph(paragraph)


def _kind(statement: Statement) -> str:
    if isinstance(statement, Param | Table):
        return "declaration"
    return "closing" if isinstance(statement, Remaining | Expect) else "rule"


def _paragraph(statements: list[Statement]) -> str:
    """Statements below each other, the arrows of short ones in a column."""
    halves = [None if isinstance(s, Param | Table | Expect) else _halves(s) for s in statements]
    short = [half for half in halves if half is not None and len(half[0]) <= ALIGNED]
    left = max((len(half[0]) for half in short), default=0)
    arrow = max((len(half[1]) for half in short), default=0)
    lines = []
    for statement, half in zip(statements, halves, strict=True):
        if half is None:
            lines.append(statement_text(statement))
        elif len(half[0]) > ALIGNED:
            lines.append(_joined(*half))
        else:
            lines.append(_joined(half[0].ljust(left), half[1].rjust(arrow), half[2]))
    return "".join(line + "\n" for line in lines)


def _joined(left: str, arrow: str, right: str) -> str:
    """A statement on one line, or on two where that would be too long: it goes on after an arrow."""
    line = f"{left} {arrow} {right}"
    if len(line) <= WIDTH or arrow.strip() == "=":
        return line
    return f"{left.rstrip()} {arrow.strip()}\n{_INDENT}{right}"


def _halves(statement: Rule | Drop | Keep | Remaining | Tie | Fill) -> tuple[str, str, str]:
    """What stands before the arrow, the arrow, and what stands after it."""
    optional = "" if isinstance(statement, Remaining | Fill) or not statement.optional else "optional "
    match statement:
        case Rule(source, target, arrow, where):
            sizes = "  where " + " ".join(f"{name}={expression_text(size)}" for name, size in where) if where else ""
            return optional + _side_text(source), arrow, _side_text(target) + sizes
        case Drop(pattern, same_as):
            condition = same_as and (call_text(same_as) if isinstance(same_as, Call) else pattern_text(same_as))
            return optional + pattern_text(pattern), "->", "drop" + (f" if = {condition}" if condition else "")
        case Keep(pattern):
            return optional + pattern_text(pattern), "<->", "keep"
        case Remaining(action):
            return "rest", "<->" if action == "keep" else "->", action
        case Tie(alias, tensor):
            return optional + pattern_text(alias), "=", pattern_text(tensor)
        case Fill(call, pattern, if_absent, for_each):
            conditions = (" if absent" if if_absent else "") + (f" for {pattern_text(for_each)}" if for_each is not None else "")
            return call_text(call), "->", pattern_text(pattern) + conditions


def _table_text(table: Table) -> str:
    """A table on one line, or on several where it is long."""
    if table.provider is not None:
        return f"table {table.name} from {table.provider}"
    rows = [f"{_word(left, 'CELL')}={_word(right, 'CELL')}" for left, right in table.rows]
    line = f"table {table.name} {{ {' '.join([*rows, '}'])}"
    if len(line) <= WIDTH:
        return line
    lines = [""]
    for row in rows:
        if len(lines[-1]) + len(row) + len(_INDENT) >= WIDTH:
            lines.append("")
        lines[-1] += f" {row}" if lines[-1] else row
    return "\n".join([f"table {table.name} {{", *(_INDENT + line for line in lines), "}"])


# ---- parts of statements -----------------------------------------------------------------------------------------------


def _side_text(side: Side) -> str:
    shared = side.terms[0].axes if side.listed and len({term.axes for term in side.terms}) == 1 else None
    terms = [_term_text(term, shared is None) for term in side.terms]
    text = f"[{', '.join(terms)}]" if side.listed else terms[0]
    if side.listed and len(text) > WIDTH:
        text = "[\n" + "".join(f"{_INDENT}{term},\n" for term in terms) + "]"
    if shared is not None:
        text += f" : {axes_text(shared)}"
    return " | ".join([text, *(call_text(call) for call in side.calls)])


def _term_text(term: Term, with_axes: bool) -> str:
    label = "" if term.label is None else f"{term.label}="
    stack = "" if term.stack is None else f"[{term.stack.name}]"
    axes = f" : {axes_text(term.axes)}" if term.axes is not None and with_axes else ""
    return label + pattern_text(term.pattern) + ("?" if term.optional else "") + stack + axes


def _capture_text(capture: Capture) -> str:
    if capture.expression is None:
        return "*"
    kind = "" if capture.type is None else f":{_type_text(capture.type)}"
    return f"{{{expression_text(capture.expression)}{kind}}}"


def _type_text(kind: CaptureType) -> str:
    match kind:
        case Int(width):
            return f"0{width}" if width else "int"
        case Path():
            return "path"
        case Choice(words):
            # One word alone would be the name of a table.
            return "|".join(_word(word, "WORD") for word in words) if len(words) > 1 else _quoted(words[0])
        case Ranges(ranges, width):
            texts = [
                expression_text(first)
                if first == last and isinstance(first, Number)
                else f"{expression_text(first)}..{expression_text(last)}"
                for first, last in ranges
            ]
            return (f"0{width}:" if width else "") + ",".join(texts)
        case InTable(table):
            return table
        case _:
            return "name"


def _elements_text(elements: Iterable[AxisElement]) -> str:
    return " ".join(_element_text(element) for element in elements)


def _element_text(element: AxisElement) -> str:
    match element:
        case Axis(name):
            return name
        case Count(value):
            return str(value)
        case Rest():
            return "..."
        case Group(terms):
            return f"({' + '.join(_elements_text(term) for term in terms)})"


# ---- what may stand without quotes -------------------------------------------------------------------------------------


@cache
def _terminal(name: str) -> re.Pattern[str]:
    return re.compile(tables().pattern(name))


def _is_bare(pattern: Pattern, text: str) -> bool:
    """Whether the lexer finds each literal of the name where it stands in `text`, whole."""
    position = 0
    for i, part in enumerate(pattern.parts):
        if isinstance(part, str):
            match = _terminal("MORE" if i else "NAME").match(text + " ", position)
            if match is None or match.end() != position + len(part):
                return False
            position = match.end()
        else:
            position += len(_capture_text(part))
    return position > 0


def _word(word: str, terminal: str) -> str:
    return word if word.isprintable() and _terminal(terminal).fullmatch(word) else _quoted(word)


def _quoted(text: str) -> str:
    return f'"{_escaped(text, chr(34) + chr(92))}"'


def _escaped(text: str, special: str) -> str:
    """`text` with escapes for `special` characters and for those that no one sees."""
    return "".join(_ESCAPES.get(c) or (f"\\{c}" if c in special else c if c.isprintable() else _numbered(ord(c))) for c in text)


def _numbered(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
