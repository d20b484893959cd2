"""The pages in Chinese: ``NAME.zh.md`` beside ``NAME.md``, parts of docstrings in ``website/zh``.

Formulas and code stand in the English text alone. A line ``{{ 1 }}`` of a Chinese section is the
first displayed formula or block of code of the English one, ``{{ all }}`` its whole text. Each
Chinese heading has the English one's anchor and a hash of the English section that it was
translated from. ``python -m website.chinese --stamp`` writes both, once the Chinese has been read
against the English.
"""

import hashlib
import inspect
import itertools
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jieba
from markdown.extensions.toc import slugify
from mkdocs.structure.nav import Link, Navigation
from mkdocs.structure.nav import Section as Part

import numba_acts
from website import docstrings

DOCS, SECTIONS = Path(__file__).parents[1] / "docs", Path(__file__).with_name("zh")
FUNCTIONS = ("maxout", "softmin", "softmax2d")  # whose docstrings are pages
PAGES = ("index", "tasks", *FUNCTIONS, "guides/numpy", "glossary")

# What stands in the navigation, by a section's title or an English page's file.
TITLES = {
    "Functions": "函数",
    "Guides": "指南",
    "Measured": "实测",
    "Reference": "参考",
    "Project": "项目",
    "guides/index.md": "全部指南",
    "guides/gradients.md": "手写梯度",
    "guides/photograph.md": "分割照片",
    "guides/kernels.md": "在自己的核函数中",
    "guides/gpu.md": "GPU 上的数组",
    "guides/frameworks.md": "PyTorch、Dask 与 JAX",
    "guides/warm-up.md": "首次调用、缓存与预热",
    "guides/threads.md": "线程、fork 与服务器",
    "guides/adding.md": "新增函数",
    "performance.md": "性能",
    "accuracy.md": "精度",
    "reference/index.md": "参考",
    "reference/maxout.md": "Maxout",
    "reference/softmin.md": "Softmin",
    "reference/softmax2d.md": "Softmax2d",
    "reference/torch.md": "PyTorch",
    "reference/cuda.md": "CUDA 核函数内",
    "changelog.md": "更新日志",
    "contributing.md": "参与开发",
    "cite.md": "引用与许可证",
}
# What templates and scripts write into attributes.
LABELS = {
    "Link to this section": "本节链接",
    "Figure": "图",
    "Formula": "公式",
    "Switch to light": "切换到浅色",
    "Switch to dark": "切换到深色",
    "Follow the system": "跟随系统",
}

TOKEN = re.compile(
    r"(?P<block>^(?P<indent> *)"
    r"(?:(?P<fence>```+)[^\n]*\n.*?^(?P=indent)(?P=fence)|\$\$.*?\$\$[^\n]*)$)"
    r"|^(?P<level>#+) (?P<title>.+?)(?: \{(?P<attributes>[^}]+)\})?$",
    re.M | re.S,
)
PLACE = re.compile(r"^ *\{\{ (\d+|all) \}\}$", re.M)
CJK = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”‘’…—]"


class Section(NamedTuple):
    """A heading and what stands below it up to the next one."""

    level: str
    title: str
    attributes: str
    text: str

    @property
    def anchor(self) -> str:
        """The heading's id, as it is given or as Markdown makes it of the title."""
        given = re.search(r"#([\w-]+)", self.attributes)
        return given[1] if given else slugify(self.title.replace("`", ""), "-")

    @property
    def stamp(self) -> str:
        """The hash of an English section, or the one that a Chinese section was stamped with."""
        given = re.search(r"english=(\w+)", self.attributes)
        words = " ".join(f"{self.title} {self.text}".split())
        return given[1] if given else hashlib.sha256(words.encode()).hexdigest()[:6]

    @property
    def blocks(self) -> list[str]:
        """Displayed formulas and blocks of code."""
        return [token["block"] for token in TOKEN.finditer(self.text) if token["block"]]


def sections(text: str) -> list[Section]:
    """Return the sections of a page, its front matter left out."""
    found = [token for token in TOKEN.finditer(text) if token["level"]]
    ends = [token.start() for token in found[1:]] + [len(text)]
    return [
        Section(token["level"], token["title"], token["attributes"] or "", text[token.end() : end])
        for token, end in zip(found, ends, strict=True)
    ]


def translated() -> list[tuple[Path, str]]:
    """Return each file of Chinese text with the English text that it stands for."""
    pairs = []
    for name in PAGES:
        english = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        pairs.append((DOCS / f"{name}.zh.md", english))
        if name in FUNCTIONS:
            pairs.append((SECTIONS / f"{name}.md", _docstring(name)))
    return pairs


def _docstring(function: str) -> str:
    """Return what a function's page takes from its docstring, as a text with headings."""
    titles = docstrings.split(inspect.getdoc(getattr(numba_acts, function)) or "")
    shown = [title for title in titles if docstrings.on_page(title)]
    return "\n\n".join(f"## {title}\n\n{docstrings.section(function, title)}" for title in shown)


def original(path: str) -> str:
    """Return the file of the English page that a Chinese one stands for; its own for others."""
    return path.replace(".zh.md", ".md")


def address(path: str) -> str:
    """Return the address that a page's file has on the site."""
    page = original(path).removesuffix(".md") + ".html"
    return f"zh/{page}" if path.endswith(".zh.md") else page


def section(function: str, title: str) -> str:
    """Return a section of a public function's docstring in Chinese, as Markdown."""
    text = (SECTIONS / f"{function}.md").read_text(encoding="utf-8")
    (chinese,) = (one for one in sections(text) if one.title == title)
    english = Section("##", title, "", docstrings.section(function, title))
    return _with_blocks(docstrings.markdown(chinese.text.strip("\n")), english)


def _with_blocks(text: str, english: Section) -> str:
    def place(found: re.Match[str]) -> str:
        if found[1] == "all":
            return english.text.strip("\n")
        return english.blocks[int(found[1]) - 1]

    return PLACE.sub(place, text)


def page(markdown: str, path: str) -> str:
    """Return a Chinese page with the formulas and the code of the English one beside it."""
    text = (DOCS / original(path)).read_text(encoding="utf-8")
    pairs = zip(sections(markdown), sections(text), strict=True)
    return "\n".join(
        f"{own.level} {own.title} {{#{english.anchor}}}\n{_with_blocks(own.text, english)}"
        for own, english in pairs
    )


def links(markdown: str, path: str) -> str:
    """Return a Chinese page with its links to pages that have a Chinese twin leading there.

    Lines of Chinese text are joined, as a browser would show their end as a space.
    """

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        return f"]({found[1]}{'.zh' if (DOCS / f'{target}.zh.md').exists() else ''}.md"

    markdown = re.sub(r"\]\(([\w./-]+)\.md\b", link, markdown)
    markdown = re.sub(r"(?<=[，。；：、！？])\n *(?=[`\w$])", "", markdown)
    return re.sub(rf"(?<={CJK})\n *(?={CJK})", "", markdown)


def labels(html: str) -> str:
    """Return a page with the words of its attributes in Chinese."""
    words = "|".join(map(re.escape, LABELS))
    return re.sub(
        rf'(title|aria-label)="({words})"', lambda found: f'{found[1]}="{LABELS[found[2]]}"', html
    )


def navigation(english: Any, files: Any) -> Navigation:
    """Return the navigation in Chinese: Chinese pages, and links to those in English alone."""
    pages = []

    def item(one: Any) -> Any:
        if one.is_section:
            part = Part(TITLES[one.title], list(map(item, one.children)))
            for child in part.children:
                child.parent = part
            return part
        twin = files.get_file_from_path(one.file.src_uri.replace(".md", ".zh.md"))
        if twin:
            pages.append(twin.page)
            return twin.page
        link: Any = Link(f"{TITLES[one.file.src_uri]} (EN)", one.file.url)
        link.is_index, link.meta = one.is_index, {}
        return link

    found = Navigation(list(map(item, english.items)), pages)
    found.homepage = pages[0]
    for before, after in itertools.pairwise(pages):
        before.next_page, after.previous_page = after, before
    return found


def index(english: dict[str, Any]) -> dict[str, Any]:
    """Return what a Chinese reader's search finds, from the entries of the whole site.

    These are the Chinese pages and, below them, the English ones that have no Chinese twin, by the
    titles of the navigation too.
    """
    own, others = [], []
    for entry in english["docs"]:
        page, _, anchor = entry["location"].partition("#")
        if page.startswith("zh/"):
            own.append(entry | {"location": entry["location"].removeprefix("zh/")})
            continue
        title = TITLES.get(page.replace(".html", ".md"), "")
        words = "\u200b".join(jieba.cut(title)) + " · " if title and not anchor else ""
        below = {} if page.startswith("reference/") else {"boost": entry.get("boost", 1) / 2}
        changed = {"location": f"../{entry['location']}", "title": words + entry["title"]}
        others.append(entry | changed | below)
    twins = {f"../{entry['location'].split('#')[0]}" for entry in own}
    others = [entry for entry in others if entry["location"].split("#")[0] not in twins]
    separator = english["config"]["separator"] + "|[\u200b、。，．？！；：（）《》「」“”…]+"
    return {"config": english["config"] | {"separator": separator}, "docs": own + others}


FORMULA, CODE = re.compile(r"\$(?!\$)(.+?)\$", re.S), re.compile(r"(`+)(.+?)\1", re.S)


def shared(text: str) -> dict[str, list[Any]]:
    """Return what a section has alike in both languages, wherever in its sentences it stands."""
    numbers = itertools.count(1)
    text = TOKEN.sub(lambda token: f"{{{{ {next(numbers)} }}}}" if token["block"] else "", text)
    found: dict[str, list[Any]] = {"blocks": re.findall(r"^ *(\{\{ .+ \}\})$", text, re.M)}
    kinds: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = {
        "code": (CODE, lambda one: one[2]),
        "formulas": (FORMULA, lambda one: one[1]),
        "links": (re.compile(r"\]\(([^)\s]+)\)|\]\[([^\]]*)\]"), lambda one: one[1] or one[2]),
        "tags": (re.compile(r"</?\w+|[\w-]+='?reference[^>]*"), lambda one: one[0]),
    }
    for kind, (pattern, what) in kinds.items():
        found[kind] = sorted(" ".join(what(one).split()) for one in pattern.finditer(text))
        text = pattern.sub("·", text) if kind in ("code", "formulas") else text
    lines = [line.strip() for line in text.splitlines()]
    found["tables"] = [line.count("|") for line in lines if line.startswith("|")]
    found["items"] = [line[0] for line in lines if re.match(r"[*:] ", line)]
    return found


def stamped(text: str, english: list[Section], anchors: bool) -> str:
    """Return a Chinese text with the English hashes, and a page's with anchors, in its headings."""
    others = iter(english)

    def heading(token: re.Match[str]) -> str:
        if token["block"]:
            return token[0]
        other = next(others)
        anchor = f"#{other.anchor} " if anchors else ""
        return f"{token['level']} {token['title']} {{{anchor}english={other.stamp}}}"

    return TOKEN.sub(heading, text)


def main() -> None:
    """Stamp all Chinese texts."""
    for path, english in translated():
        text = path.read_text(encoding="utf-8")
        text = stamped(text, sections(english), anchors=path.parent != SECTIONS)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--stamp"]:
        sys.exit("python -m website.chinese --stamp")
    main()
