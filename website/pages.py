"""What pages take from elsewhere: docstrings, results of benchmarks, files of the repository.

A line ``{{ subject: detail }}`` of a page names it; here stands what each subject gives.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import numba_acts
from benchmarks import figures as measured
from benchmarks import tables
from website import chinese, docstrings, figures

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"^( *)\{\{ (\w+): (.+?) \}\}$", re.MULTILINE)
PICTURE = re.compile(rf"!\[([^\]]+)\]\(([^)]*){figures.FOLDER}/([^)]+)\.svg\)(\n\n|\n?\Z)?")


def fill(markdown: str, address: str, language: str = "en") -> str:
    """Return a page with its places filled and its pictures in all versions, one of them shown."""
    sections = chinese if language == "zh" else docstrings

    def place(found: re.Match[str]) -> str:
        indent, subject, detail = found.groups()
        if subject in numba_acts.__all__:
            text = sections.section(subject, detail)
        else:
            text = SUBJECTS[subject](detail, language)
        return "\n".join(indent + line if line else line for line in text.split("\n"))

    def versions(found: re.Match[str]) -> str:
        text, folder, name, alone = found.groups()
        return _versions(text, folder, name, language) + ("\n{ .picture }\n\n" if alone else "")

    return PICTURE.sub(versions, PLACE.sub(place, markdown))


def _versions(text: str, folder: str, name: str, language: str) -> str:
    """Return a picture for each scheme and width, of which the style sheet shows one.

    A browser doesn't fetch lazily loaded pictures that are not shown, and leaves the room for those
    whose size it knows.
    """
    return " ".join(
        f"![{text}]({folder}{figures.address(name, language, width, scheme)}#only-{scheme})"
        f"{{ .{width} loading=lazy width={x} height={y} }}"
        for width in figures.widths(name)
        for x, y in [figures.size(name, language, width)]
        for scheme in measured.SCHEMES
    )


def _file(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _code(path: str) -> str:
    """Return functions of a program, ``path: name name``, as code."""
    path, _, names = path.partition(" ")
    source = _file(path)
    parts = []
    for name in names.split():
        found = re.search(rf"^(?:def|class) {name}\b.*?(?=^\S|\Z)", source, re.M | re.S)
        if found is None:
            raise KeyError(f"{path} has no {name}")
        whole = source[found.start() :]
        end = re.search(r"\n(?=[^\s)])", whole)
        parts.append(whole[: end.start()].rstrip() if end else whole.rstrip())
    return "```python\n" + "\n\n\n".join(parts) + "\n```"


def _headline(name: str, file: tables.Results, language: str) -> str:
    """The figure of the cases that stand for all, and what they were measured on."""
    described, below = HEADLINE[language]
    stamp = tables.stamp(file)
    for english, translated in STAMP[language].items():
        stamp = stamp.replace(english, translated)
    found = f"{below.format(stamp=stamp)} {_spread(file['cases'], language)}".strip()
    return f"{_picture(f'{name}-headline', described)}\n\n{found}"


def _spread(rows: list[tables.Row], language: str = "en") -> str:
    """What large cases take beside their floor, in a sentence."""
    found = tables.spread(rows)
    return found and SPREAD[language].format(*found, size=tables.LARGE >> 20) or ""


def _home(language: str) -> str:
    """The home page's part, nothing where nothing was measured."""
    if not (newest := _newest()):
        return ""
    heading, link = HOME[language]
    return f"## {heading}\n\n{_headline(*newest, language)}\n{link}\n{{ .caption }}\n"


def _newest() -> tuple[str, tables.Results] | None:
    """The newest results of a CPU and their name, if there are any that stand for all."""
    files = tables.load().items()
    found = [one for one in files if measured.headline(one[1]) and not tables.on_gpu(one[1])]
    return max(found, key=lambda one: _date(one[1]), default=None)


def _date(file: tables.Results) -> str:
    return str(file.get("stamp", {}).get("date", ""))


def _performance() -> str:
    files = tables.load()
    if not any(set(file) - {"stamp", "accuracy"} for file in files.values()):
        return NOTHING
    parts = [PERFORMANCE]
    if newest := _newest():
        summary = tables.summary(measured.headline(newest[1]))
        parts = [f"{_headline(*newest, 'en')}\n{{ .caption }}", summary, PERFORMANCE]
    if not any(map(tables.on_gpu, files.values())):
        parts.append(NO_GPU)
    for name, file in files.items():
        where = "cuda" if tables.on_gpu(file) else "cpu"
        parts.append(f"## {tables.machine(file)}\n\nOn {tables.stamp(file)}")
        rows = file.get("cases", [])
        if rows:
            parts += [
                _measured_by(where),
                _spread(rows),
                tables.slower(rows),
                tables.short(rows),
            ]
            parts.append(tables.was_busy(file, "cases"))
        for function in dict.fromkeys(row["function"] for row in rows):
            own = [row for row in rows if row["function"] == function]
            parts.append(f"### {function}")
            parts.append(
                _picture(
                    f"{name}-{function}",
                    f"Times of {function} as multiples of "
                    "the floor, every library; the table below has the numbers.",
                )
            )
            parts.append(_folded(f"All times of {function}", tables.cases(own)))
        for part, (title, show) in tables.PARTS.items():
            if part in ("cases", "accuracy") or not file.get(part):
                continue
            parts.append(f"### {title}\n\n{_measured_by('cuda' if part == 'small' else part)}")
            parts.append(tables.was_busy(file, part))
            if part in OVER_SIZE:
                parts.append(_picture(f"{name}-{part}", OVER_SIZE[part]))
            shown = show(file[part])
            parts.append(_folded(f"All of {title.lower()}", shown) if len(shown) > 3000 else shown)
    return "\n\n".join(filter(None, parts))


def _measured_by(part: str) -> str:
    return f"Measured by `python -m benchmarks {part}`."


def _folded(title: str, text: str) -> str:
    inside = "\n".join(f"    {line}" for line in text.split("\n"))
    return f'<div data-search-exclude markdown="1">\n??? abstract "{title}"\n\n{inside}\n\n</div>'


def _accuracy() -> str:
    parts = [f"## Beside other libraries\n\n{_measured_by('accuracy')} {ACCURACY}"]
    for name, file in tables.load().items():
        if rows := file.get("accuracy"):
            parts.append(f"### {tables.machine(file)}\n\nOn {tables.stamp(file)}")
            parts.append(tables.accuracy(rows))
            for function in dict.fromkeys(row["function"] for row in rows):
                parts.append(
                    _picture(
                        f"{name}-{function}-errors",
                        f"Worst errors of {function} "
                        "as a share of the bound, over length and over scale.",
                    )
                )
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _startup() -> str:
    files = [file for file in tables.load().values() if "startup" in file]
    if not files:
        return "`python -m benchmarks startup` measures it on your machine."
    newest = max(files, key=_date)
    return f"On {tables.stamp(newest)}\n\n{tables.startup(newest['startup'])}"


def _bibtex() -> str:
    """Return CITATION.cff as an entry of BibTeX."""
    cited = yaml.safe_load(_file("CITATION.cff"))
    authors = " and ".join(f"{{{author['name']}}}" for author in cited["authors"])
    fields = {
        "author": authors,
        "title": f"{{{cited['title']}}}",
        "version": cited["version"],
        "license": cited["license"],
        "url": os.environ.get("REPO_URL", ""),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"```bibtex\n@software{{numba_acts,\n{lines}}}\n```"


def _licence() -> str:
    return f"```text\n{_file('LICENSE').strip()}\n```"


def _notation(language: str) -> str:
    """Return the glossary's table of symbols in a box that opens."""
    text = _file(f"docs/glossary{'' if language == 'en' else f'.{language}'}.md")
    notation = next(part for part in chinese.sections(text) if "symbol-" in part.text)
    return _folded(notation.title, re.sub(r'<a id="symbol-\w+"></a>', "", notation.text).strip())


def _picture(name: str, text: str) -> str:
    return f"![{text}](assets/figures/{name}.svg)"


NOTHING = """!!! note "No results yet"
    There are no results in `benchmarks/results` of this version's repository, so there is nothing
    to show here. `python -m benchmarks --help` says how to measure on your own machine."""
ACCURACY = """Each number is the largest error over all lengths and scales of input, as a share of
the bound, against a reference in extended precision; a library that has more than 1 does not keep
to it. A number in the ten thousands says that a library gives 0 for a weight that is subnormal,
below $1.2 \\cdot 10^{-38}$ in float32, and so is wrong by all of it."""
PERFORMANCE = """All times on this page are medians of warm calls, ours and the other libraries'
taken in turn in one process; lower is better. Each machine's results bear their date, and are of
the library as it was then.

## The floor

The *floor* of a case is the time of what it cannot avoid, measured beside it: a copy of the bytes
that the function reads and writes, or its exponentials where those take longer; for affine maxout,
the bare matrix product. A copy is not the fastest of all traversals, so a time may be a little
below its floor. The gradient of affine maxout may be well below: it multiplies the winning pieces
only, which is a fraction of the products that stand for its floor."""
NO_GPU = """!!! note "No GPU yet"
    The repository holds no results of a GPU. On a machine that has one, `python -m benchmarks cuda`
    measures every kernel there, and this page shows what it finds."""

HEADLINE = {  # what the picture shows, and what stands below it
    "en": (
        "Times of the largest float32 case of each function, beside other libraries, as multiples "
        "of the floor; the performance page has them as a table.",
        "On {stamp} Lower is better; the [floor](performance.md#the-floor) is what the machine can "
        "do.",
    ),
    "zh": (
        "每个函数最大的 float32 算例与其他库的用时，以下限的倍数表示；性能页以表格列出全部数值。",
        "测量环境：{stamp} 数值越低越好；[下限](performance.md#the-floor)（floor）是机器的极限。",
    ),
}
STAMP: dict[str, dict[str, str]] = {"en": {}, "zh": {" cores": " 核", ", measured on": "，测于"}}
SPREAD = {
    "en": "Cases that move {size} MiB and more take {0:.1f} to {2:.1f} times their floor, in the "
    "median {1:.1f}.",
    "zh": "读写 {size} MiB 以上的算例用时为下限的 {0:.1f} 至 {2:.1f} 倍，中位数为 {1:.1f} 倍。",
}
HOME = {  # a heading, and where all results are
    "en": ("Measured", "[All results, and how to reproduce them](performance.md)."),
    "zh": ("实测 {#measured}", "[全部结果以及复现方法](performance.md)。"),
}

OVER_SIZE = {  # parts with a picture of their own, and what it shows
    "scaling": "Time over size on logarithmic axes, with one thread and with several, beside other "
    "libraries.",
    "busy": "Median and 99th percentile of a call over size, for three loads of the machine, "
    "beside other libraries.",
}

SUBJECTS: dict[str, Callable[[str, str], str]] = {
    "file": lambda path, _: _file(path),
    "code": lambda path, _: _code(path),
    "cite": lambda form, _: CITE[form](),
    "notation": lambda _, language: _notation(language),
    "results": lambda part, language: _home(language) if part == "home" else RESULTS[part](),
}
RESULTS: dict[str, Callable[[], str]] = {
    "performance": _performance,
    "accuracy": _accuracy,
    "startup": _startup,
}
CITE: dict[str, Callable[[], str]] = {"bibtex": _bibtex, "licence": _licence}


def summary(address: str, nav: Any, folder: str) -> str:
    """Return llms.txt: what the site is and what each page holds, for readers without eyes."""
    root = f"{address.rstrip('/')}/" if address else ""
    lines = [
        "# numba_acts",
        "",
        "> " + " ".join((numba_acts.__doc__ or "").split()),
        "",
    ]
    for entry in nav:
        ((title, part),) = entry.items()
        lines += [f"## {title}", ""] if isinstance(part, list) else []
        for page in part if isinstance(part, list) else [entry]:
            name, path = next(iter(page.items())) if isinstance(page, dict) else (title, page)
            text = Path(folder, path).read_text(encoding="utf-8")
            described = re.search(r"^description: (.+)$", text, re.M)
            link = root + chinese.address(path)
            lines.append(f"- [{name}]({link})" + (f": {described[1]}" if described else ""))
        lines.append("")
    return "\n".join(lines)
