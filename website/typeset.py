r"""Typeset the formulas of HTML pages with KaTeX: ``python -m website.typeset PAGE.html ...``.

A formula is what the Markdown extension Arithmatex leaves: \( … \) in a span, \[ … \] in a div.
One process of node serves all pages; a formula that KaTeX refuses is an error.
"""

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>([.,;:)]*)', re.DOTALL
)
_node: Any = None


class FormulaError(Exception):
    """A formula that cannot be typeset."""


def typeset(page: str) -> str:
    """Return the page with its formulas in HTML and MathML."""
    formulas = [
        {"tex": html.unescape(tex).strip(), "display": bracket == "["}
        for _, bracket, tex, _ in FORMULA.findall(page)
    ]
    if not formulas:
        return page
    answers = iter(_ask(formulas))
    return FORMULA.sub(lambda found: _frame(next(answers), *found.groups()), page)


def _frame(formula: str, tag: str, _: str, tex: str, after: str) -> str:
    if tag == "div":  # a wide formula scrolls by itself, by keyboard too
        attributes = ' tabindex="0" role="group" aria-label="Formula"'
        return f'<div class="arithmatex"{attributes}>{formula}</div>{after}'
    if len(tex) < 16:  # no line begins with the full stop behind a short formula
        return f'<span class="arithmatex short">{formula}{after}</span>'
    return f'<span class="arithmatex">{formula}</span>{after}'


def _ask(formulas: list[dict[str, Any]]) -> list[str]:
    global _node
    if _node is None:
        _node = subprocess.Popen(
            ["node", Path(__file__).with_name("typeset.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
    _node.stdin.write(json.dumps(formulas) + "\n")
    _node.stdin.flush()
    answer = json.loads(_node.stdout.readline())
    if "error" in answer:
        raise FormulaError(f"KaTeX refuses a formula: {answer['error']}\n    {answer['tex']}")
    return answer["html"]


def close() -> None:
    """End the process of node, which the next page would start anew."""
    global _node
    if _node is not None:
        _node.communicate()
        _node = None


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(typeset(path.read_text(encoding="utf-8")), encoding="utf-8")
    close()
