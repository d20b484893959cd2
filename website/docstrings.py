"""Docstrings as Markdown: their sections for the pages, and whole for the reference.

A public function's docstring has the usual sections of numpydoc, and beside them the ones of a page
(Formula, Derivative, Use cases ...). The page takes those; the reference shows the others.
"""

import inspect
import re
from typing import Any

import griffe

import numba_acts

REFERENCE = {"Parameters", "Attributes", "Returns", "Raises", "See Also", "Notes", "Examples"}
UNDERLINED = re.compile(r"^(\S.*)\n-{3,}\n", re.MULTILINE)
NAMES = "|".join(sorted(numba_acts.__all__, key=len, reverse=True))


def split(docstring: str) -> dict[str, str]:
    """Return the sections of a docstring by title; what stands before the first has none."""
    head, *rest = UNDERLINED.split(docstring)
    sections = {"": head.strip()}
    sections |= {title: body.strip() for title, body in zip(rest[::2], rest[1::2], strict=True)}
    return sections


def on_page(title: str) -> bool:
    """Whether a section is shown on the function's page."""
    return title not in REFERENCE - {"Examples"} | {""}


def section(function: str, title: str) -> str:
    """Return a section of a public function's docstring as Markdown."""
    docstring = inspect.getdoc(getattr(numba_acts, function)) or ""
    return markdown(split(docstring)[title])


def markdown(text: str) -> str:
    """Return a section's text with references, examples and names as Markdown has them."""
    text = text.strip()
    text = re.sub(r"\n*^\.\. \[(\d+)\] ", r"\n\n\1. <a id='reference-\1'></a>", text, flags=re.M)
    text = re.sub(r"(?<=\S)\s?\[(\d+)\]_", r" [[\1]](#reference-\1)", text)
    text = re.sub(r"^   (?=\S)", "    ", text, flags=re.M) if "<a id='reference-" in text else text
    # an example ends at an empty line
    text = re.sub(r"^>>> .*?(?=\n\n(?!>>> )|\Z)", r"```pycon\n\g<0>\n```", text, flags=re.M | re.S)
    return link_names(text)


def link_names(text: str) -> str:
    """Make each public function that is named in backticks a link into the reference."""
    name = rf"(?<![`\[])`((?:numba_acts\.)?({NAMES}))`(?![`\]])"
    return re.sub(name, r"[`\1`][numba_acts.\2]", text)


class Reference(griffe.Extension):
    """What the reference shows of a docstring: the sections of a call, names and source linked."""

    def __init__(self, repository: str = "", version: str = "main") -> None:
        self.files = f"{repository}/blob/{version}" if repository else ""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Link a function's source, and rewrite its docstring before it is parsed."""
        self._show(func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Link a class's source, and rewrite its docstring before it is parsed."""
        self._show(cls)

    def _show(self, thing: griffe.Function | griffe.Class) -> None:
        path = thing.relative_package_filepath.as_posix()
        thing.source_link = f"{self.files}/{path}#L{thing.lineno}" if self.files else ""
        if thing.docstring is None or not thing.path.startswith("numba_acts."):
            return
        sections = split(inspect.cleandoc(thing.docstring.value))
        kept = [link_names(sections.pop(""))]
        for title, body in sections.items():
            if title not in REFERENCE:
                continue
            if title == "See Also":
                body = re.sub(r"^(\w+) : ", r"* `\1`: ", body, flags=re.M)
            body = body if title == "Examples" else link_names(body)
            kept.append(f"{title}\n{'-' * len(title)}\n{body}")
        thing.docstring.value = "\n\n".join(kept)
