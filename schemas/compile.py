"""Compile `schemas/*.proto` and `schemas/pmap.lark` into what porter ships: `python schemas/compile.py [--check]`.

Needs grpcio-tools and lark. `--check` writes nothing and exits 1 if something shipped is not what its schema gives.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parent
DESCRIPTORS = SCHEMAS.parent / "porter" / "io" / "descriptors"
GRAMMAR = SCHEMAS / "pmap.lark"
TABLES = SCHEMAS.parent / "porter" / "mapping" / "pmap_tables.json"


def compiled(schema: Path) -> bytes:
    """The serialised `FileDescriptorSet` of `schema`, without comments and source positions."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.binpb"
        arguments = ["protoc", f"--proto_path={schema.parent}", f"--descriptor_set_out={output}", schema.name]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"{schema.name} does not compile")
        descriptors = FileDescriptorSet.FromString(output.read_bytes())
    for file in descriptors.file:
        # Compilers of different ages spell derived names out or leave them; porter never uses JSON.
        for message in file.message_type:
            _drop_json_names(message)
    return descriptors.SerializeToString(deterministic=True)


def _drop_json_names(message: object) -> None:
    for field in message.field:  # type: ignore[attr-defined]
        field.ClearField("json_name")
    for nested in message.nested_type:  # type: ignore[attr-defined]
        _drop_json_names(nested)


def grammar(postlex: object) -> Any:
    """`pmap.lark` as lark reads it. A conflict between two rules is an error, where lark would choose one."""
    import lark

    class Refuse(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "conflict" in record.getMessage().lower():
                raise SystemExit(f"{GRAMMAR.name}: {record.getMessage()}")

    lark.logger.addHandler(refuse := Refuse())
    lark.logger.setLevel(logging.DEBUG)
    try:
        return lark.Lark(GRAMMAR.read_text("utf-8"), parser="lalr", postlex=postlex, maybe_placeholders=True, debug=True)
    finally:
        lark.logger.removeHandler(refuse)
        lark.logger.setLevel(logging.CRITICAL)


class _Newlines:
    """Newlines count wherever the parser is: what to make of them is decided token by token."""

    always_accept = ("_NEWLINE",)


def tables() -> bytes:
    """The LALR tables and the terminals of `pmap.lark`, as `porter.mapping.lalr` reads them.

    terminals: name, "str" or "re", the text or the regular expression, and, for the latter, the ASCII characters that it may begin
        with. "$END" comes first.
    ignored: one regular expression for what stands between tokens.
    rules: name, number of symbols, left side, what the node's children are (see `_children`), and how the node stands in its
        parent: 0 as it is, 1 its children in its place, 2 its only child in its place.
    states: for each, which of the rows below are its actions, its gotos and its scanner.
    actions: terminals, each with the state to shift to, or -1 - the rule to reduce by. Rows are text, since few of them are ever used.
    gotos: left sides, each with its state.
    scanners: terminals in the order to try them, and which words are another terminal when one of them finds them.
    """
    lark = grammar(_Newlines())
    table = lark.parser.parser._parse_table
    numbers = _numbered(table)
    ignored = [t for t in lark.terminals if t.name in lark.ignore_tokens]
    terminals = sorted((t for t in lark.terminals if t not in ignored), key=lambda t: t.name)
    terminal = {"$END": 0} | {t.name: i for i, t in enumerate(terminals, 1)}
    origins: dict[str, int] = {}
    rules = {rule: i for i, rule in enumerate(lark.rules)}
    for rule in rules:
        origins.setdefault(rule.origin.name, len(origins))
    pools: dict[str, list[Any]] = {"actions": [], "gotos": [], "scanners": []}

    def number(pool: str, entry: object) -> int:
        if entry not in pools[pool]:
            pools[pool].append(entry)
        return pools[pool].index(entry)

    def row(pool: str, pairs: dict[int, int]) -> int:
        return number(pool, " ".join(f"{key} {value}" for key, value in sorted(pairs.items())))

    states = []
    for state in numbers:
        actions, gotos = {}, {}
        for symbol, (action, argument) in table.states[state].items():
            if symbol in terminal:
                actions[terminal[symbol]] = numbers[argument] if action.name == "Shift" else -1 - rules[argument]
            elif symbol in origins:
                gotos[origins[symbol]] = numbers[argument]
        if state == table.end_states["start"]:
            actions[terminal["$END"]] = 0  # lark accepts by the state, without an action
        accepted = [t for t in terminals if terminal[t.name] in actions]
        states.append([row("actions", actions), row("gotos", gotos), number("scanners", _scanner(accepted, terminal))])
    return _json(
        {
            "terminals": [["$END", "", "", ""], *([t.name, t.pattern.type, t.pattern.value, _first(t.pattern)] for t in terminals)],
            "ignored": "(?:" + "|".join(t.pattern.value for t in ignored) + ")*",
            "rules": [[r.alias or r.origin.name, len(r.expansion), origins[r.origin.name], _children(r), _standing(r)] for r in rules],
            "states": states,
            **pools,
        }
    )


def _numbered(table: Any) -> dict[Any, int]:
    """The states in the order of a walk from the start, which is the same whenever lark runs."""
    numbers = {table.start_states["start"]: 0}
    for state in (queue := list(numbers)):
        for _, (action, argument) in sorted(table.states[state].items()):
            if action.name == "Shift" and argument not in numbers:
                numbers[argument] = len(numbers)
                queue.append(argument)
    return numbers


def _scanner(accepted: list[Any], terminal: dict[str, int]) -> list[Any]:
    """The terminals of a state in the order in which lark tries them; texts that a regular expression finds too are words."""
    words: dict[str, dict[str, int]] = {}
    found = set()
    for regex in (t for t in accepted if t.pattern.type == "re"):
        for text in (t for t in accepted if t.pattern.type == "str" and t.priority == regex.priority):
            match = re.match(regex.pattern.value, text.pattern.value)
            if match and match.group() == text.pattern.value:
                words.setdefault(str(terminal[regex.name]), {})[text.pattern.value] = terminal[text.name]
                found.add(text.name)
    order = sorted(accepted, key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    return [[terminal[t.name] for t in order if t.name not in found], words]


def _first(pattern: Any) -> str:
    """The ASCII characters with which something that `pattern` finds may begin, or more than those."""
    tree = re._parser.parse(pattern.value) if pattern.type == "re" else [(re._constants.LITERAL, ord(pattern.value[0]))]  # type: ignore[attr-defined]
    return "".join(c for c in map(chr, range(128)) if _begins(tree, c) is not False)


def _begins(items: Any, character: str) -> bool | None:
    """Whether these items of a parsed regular expression can find something that begins so; None if they can find nothing at all."""
    constants = re._constants  # type: ignore[attr-defined]
    for op, argument in items:
        if op in (constants.ASSERT, constants.ASSERT_NOT, constants.AT):
            continue
        if op in (constants.MAX_REPEAT, constants.POSSESSIVE_REPEAT):
            least, _, inner = argument
            found = _begins(inner, character)
            if found is not False or least:
                if least and found is not None:
                    return found
                if found:
                    return True
            continue
        if op is constants.SUBPATTERN:
            found = _begins(argument[-1], character)
        elif op is constants.BRANCH:
            ways = [_begins(way, character) for way in argument[1]]
            found = True if True in ways else None if None in ways else False
        elif op is constants.IN:
            found = any(_is_in(item, character) for item in argument) != (argument[0][0] is constants.NEGATE)
        elif op is constants.LITERAL:
            found = ord(character) == argument
        else:
            found = True
        if found is not None:
            return found
    return None


def _is_in(item: Any, character: str) -> bool:
    """Whether one item of a set of characters holds this one."""
    op, argument = item
    constants = re._constants  # type: ignore[attr-defined]
    if op is constants.RANGE:
        return argument[0] <= ord(character) <= argument[1]
    if op is constants.CATEGORY:
        kind = {"WORD": r"\w", "DIGIT": r"\d", "SPACE": r"\s"}[str(argument).split("_")[-1]]
        return (re.match(kind, character) is not None) != ("NOT" in str(argument))
    return op is constants.LITERAL and ord(character) == argument


def _children(rule: Any) -> list[int | None] | None:
    """Which symbols of a rule are children of its node: 2 * i for symbol i, 2 * i + 1 for the children of symbol i, None for
    something optional that is not there. None for all symbols.
    """
    children: list[int | None] = []
    symbols = iter(enumerate(rule.expansion))
    for empty in rule.options.empty_indices or [False] * len(rule.expansion):
        if empty:
            children.append(None)
            continue
        i, symbol = next(symbols)
        if rule.options.keep_all_tokens or not (symbol.is_term and symbol.filter_out):
            children.append(2 * i + (not symbol.is_term and symbol.name.startswith("_")))
    return None if children == [2 * i for i in range(len(rule.expansion))] else children


def _standing(rule: Any) -> int:
    if rule.origin.name.startswith("_"):
        return 1
    return 2 if rule.options.expand1 and not rule.alias else 0


def _json(content: dict[str, list[Any]]) -> bytes:
    """JSON with a line for each entry, so that a change of the grammar can be read as a change of lines."""
    parts = []
    for key, entries in content.items():
        lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) if isinstance(entries, list) else None
        parts.append(f"{json.dumps(key)}:" + (json.dumps(entries) if lines is None else f"[\n{lines}\n]"))
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def main(arguments: list[str]) -> int:
    """Compile every schema; the exit status."""
    results = [(DESCRIPTORS / f"{schema.stem}.binpb", compiled(schema)) for schema in sorted(SCHEMAS.glob("*.proto"))]
    stale = []
    for target, data in [*results, (TABLES, tables())]:
        if not target.exists() or target.read_bytes() != data:
            stale.append(target.name)
            if "--check" not in arguments:
                target.write_bytes(data)
    print("stale:" if "--check" in arguments else "written:", ", ".join(stale) or "none")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
