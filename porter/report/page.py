"""The page of a report: one HTML file with style, script and data inside, which asks no network for anything.

Whatever comes from files is data: it stands in the page as JSON without `<`, `>` and `&`, and the script puts it into the document as
text. The Content-Security-Policy allows this one script and this one style, by their digests, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cache
from typing import Any

from porter.report.packing import pack

SCRIPTS = ("data.js", "text.js", "table.js", "chart.js", "sections.js", "tensors.js", "report.js")
"""The parts of the script, in order."""

_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(document: dict[str, Any]) -> bytes:
    """The page of a document that `porter.report.document.report` made, as UTF-8."""
    script, style = _script(), _part("report.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = {
        "policy": policy,
        "title": html.escape(_without_surrogates(document["title"])),
        "style": style,
        "data": embedded(pack(document)),
        "script": script,
    }
    filled = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("report.html"))
    return filled.encode()


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: ASCII, without what could end it or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _ESCAPED[found[0]], text)


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@cache
def _script() -> str:
    return "(function () {\n'use strict';\n" + "\n".join(_part(name) for name in SCRIPTS) + "}());\n"


@cache
def _part(name: str) -> str:
    from importlib.resources import files

    return (files("porter.report") / "page" / name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
