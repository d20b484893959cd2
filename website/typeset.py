r"""Typeset the formulas of HTML pages with KaTeX: ``python -m website.typeset PAGE.html ...``.

A formula is what the Markdown extension Arithmatex leaves: \( … \) in a span, \[ … \] in a div.
One process of node serves all pages; a formula that KaTeX refuses is an error. The first of each
symbol on a page leads to its entry in the glossary.
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
# Symbols as formulas have them, the class that keeps their spacing, and their entry's name.
SYMBOLS = [
    (r"\\delta(?![a-z])", "ord", "delta"),
    (r"\\odot", "bin", "odot"),
    (r"\\langle", "open", "inner"),
    (r"\\operatorname\{diag\}", "op", "diag"),
    (r"\[i = i\^\*\]", "ord", "bracket"),
    (r"\\bar [a-zA-Z]", "ord", "bar"),
    (r"\\dot [a-zA-Z]", "ord", "dot"),
    (r"\\beta", "ord", "beta"),
    (r"\\varepsilon", "ord", "eps"),
]
_node: Any = None


class FormulaError(Exception):
    """A formula that cannot be typeset."""


def typeset(page: str, glossary: str = "") -> str:
    """Return the page with its formulas in HTML and MathML, symbols linked to the glossary."""
    formulas = [
        {"tex": html.unescape(tex).strip(), "display": bracket == "["}
        for _, bracket, tex, _ in FORMULA.findall(page)
    ]
    if not formulas:
        return page
    if glossary:
        _link_symbols(formulas, glossary)
    # what is seen is hidden from readers by ear, who have the glossary beside the formula's words
    answers = (answer.replace("<a href", '<a tabindex="-1" href') for answer in _ask(formulas))
    return FORMULA.sub(lambda found: _frame(next(answers), *found.groups()), page)


def _link_symbols(formulas: list[dict[str, Any]], glossary: str) -> None:
    for pattern, kind, name in SYMBOLS:
        for formula in formulas:
            found = re.search(pattern, formula["tex"])
            if found is None:
                continue
            link = rf"\math{kind}{{\href{{{glossary}#symbol-{name}}}{{{found[0]}}}}}"
            formula["tex"] = formula["tex"][: found.start()] + link + formula["tex"][found.end() :]
            break


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
