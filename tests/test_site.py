"""The scripts of the site: pages, pictures, formulas, the maths of the interactive figures."""

import inspect
import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import test_benchmark_results as made_up

import numba_acts as na

if not os.environ.get("CI"):  # where all has to be there
    for needed in ("griffe", "jieba", "matplotlib", "mkdocs", "sklearn", "fontTools", "website"):
        pytest.importorskip(needed, reason=f"{needed} is not installed, of the docs extra")

import yaml  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from website import (  # noqa: E402
    assets,
    cards,
    chinese,
    docstrings,
    figures,
    pages,
    search,
    typeset,
)

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def node():
    """The command of Node.js. Where it is missing tests are skipped, but never in CI."""
    command = shutil.which("node")
    if command is None:
        missing = "Node.js is not installed"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return command


@pytest.fixture(scope="module")
def packages(node):
    """The npm packages of the site, under the same rule."""
    try:
        assets.require()
    except assets.Missing as missing:
        pytest.fail(str(missing)) if os.environ.get("CI") else pytest.skip(str(missing))
    yield
    typeset.close()


# ---- the interactive figures' maths against the library's ---------------------------------------


@pytest.fixture
def acts(node):
    """Call a function of maths.js."""
    script = "docs/assets/javascripts/maths.js"
    program = (
        f"const acts = require('./{script}');"
        "const [name, ...given] = JSON.parse(process.argv[1]);"
        "console.log(JSON.stringify(acts[name](...given)));"
    )

    def call(name, *given):
        command = [node, "-e", program, json.dumps([name, *given])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return json.loads(done.stdout)

    return call


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.3])
@pytest.mark.parametrize("x", [[0.4, 1.0, 2.2, 3.0, 3.6], [5.0, 5.0], [-900.0, 0.0, 900.0]])
def test_interactive_softmin_is_the_library_s(acts, x, temperature):
    y = na.softmin(x, temperature=temperature)
    np.testing.assert_allclose(acts("softmin", x, temperature), y, rtol=1e-13)
    want = na.softmin_jacobian(y, temperature=temperature)
    np.testing.assert_allclose(acts("jacobian", y.tolist(), -1 / temperature), want, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.3])
def test_interactive_softmax2d_is_the_library_s(acts, rng, temperature):
    x = 3 * rng.normal(size=(3, 1, 1))
    y = na.softmax2d(x, temperature=temperature)
    got = acts("softmax", x.ravel().tolist(), 1 / temperature)
    np.testing.assert_allclose(got, y.ravel(), rtol=1e-13)
    want = na.softmax2d_jacobian(y, temperature=temperature)[:, :, 0, 0]
    got = acts("jacobian", y.ravel().tolist(), 1 / temperature)
    np.testing.assert_allclose(got, want, atol=1e-15)
    entropy = -(y * np.log2(y)).sum()
    assert acts("entropy", y.ravel().tolist()) == pytest.approx(entropy)


@pytest.mark.parametrize("x", [-2.0, -0.5, 0.0, 1.3])
def test_interactive_maxout_is_the_library_s(acts, x):
    slopes, starts = np.array([-1.0, 1.0, 0.5, 1.0]), np.array([0.0, 0.0, 0.2, 0.0])
    given = [{"slope": a, "start": b} for a, b in zip(slopes, starts, strict=True)]
    got = acts("maxout", x, given)
    row, weight = np.array([x]), slopes[:, None]
    y, index = na.maxout_affine_with_index(row, weight, starts)
    dx, _, _ = na.maxout_affine_vjp(np.float64(1), row, weight, index)
    assert (got["y"], got["index"], got["gradient"]) == (y, index, dx[0])
    assert got["tied"] == [i for i, value in enumerate(slopes * x + starts) if value == y]


# ---- pages and docstrings -----------------------------------------------------------------------


def with_a_page():
    """The functions whose docstrings have more than a call's sections."""
    sections = {
        name: docstrings.split(inspect.getdoc(getattr(na, name)) or "") for name in na.__all__
    }
    return [name for name in na.__all__ if "Formula" in sections[name]]


@pytest.mark.parametrize("name", with_a_page())
def test_a_function_s_page_shows_every_section_of_its_docstring(name):
    page = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    shown = re.findall(rf"^\{{\{{ {name}: (.+) \}}\}}$", page, re.M)
    sections = set(docstrings.split(inspect.getdoc(getattr(na, name)) or ""))
    assert sorted(shown) == sorted(filter(docstrings.on_page, sections))


def test_the_reference_has_every_public_function():
    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    assert set(re.findall(r"^::: numba_acts\.(\w+)$", text, re.M)) == set(na.__all__)


def test_sections_become_markdown():
    text = docstrings.markdown(
        "See `softmin` and ``x`` [1]_.\n\n>>> 1 + 1\n2\n\n"
        ".. [1] A. Author, [Title\n   on](url), 1999."
    )
    assert "[`softmin`][numba_acts.softmin] and ``x`` [[1]](#reference-1)." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text
    assert "1. <a id='reference-1'></a>A. Author, [Title\n    on](url), 1999." in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_every_picture_of_a_page_is_drawn_and_described(page):
    text = page.read_text("utf-8")
    for described, name in re.findall(r"!\[([^\]]*)\]\([^)]*figures/([^)]+)\.svg\)", text):
        assert name in figures.CARDS | figures.PICTURES
        assert len(described.encode()) > 40  # a Chinese character, of three bytes, says more
    assert re.search(r"^description: [^:]+$", text, re.M)


def test_every_picture_is_shown():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert set(figures.CARDS | figures.PICTURES) == set(re.findall(r"figures/([^)]+)\.svg", text))


def test_pictures_are_the_same_every_time():
    drawn = figures.drawn("softmin-jacobian", "zh", "narrow")
    figures.drawn.cache_clear()
    assert figures.drawn("softmin-jacobian", "zh", "narrow") == drawn


# What is a name in every language, or stands in a formula.
NAMES = {"ReLU", "NumPy", "numba_acts", "logit", "logits", "max"}


@pytest.mark.parametrize("width", ["wide", "narrow"])
@pytest.mark.parametrize("name", figures.PICTURES)
def test_a_chinese_picture_has_no_english_words(packages, name, width):
    figures.use_fonts()
    look = figures.Look(width == "narrow", figures.CHINESE)
    with figures.measured.drawing(look), warnings.catch_warnings():
        warnings.simplefilter("error")  # of letters that the fonts lack
        figure = figures.PICTURES[name](look)
        figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    words = {
        word
        for text in texts
        for word in re.findall(r"[A-Za-z_]{3,}", re.sub(r"\$.*?\$", "", text))
    }
    assert words <= NAMES


def test_every_word_that_a_figure_says_is_in_the_table_and_no_other():
    sources = (
        "docs/assets/javascripts/interactive.js",
        "website/figures.py",
        "benchmarks/figures.py",
    )
    code = "".join((ROOT / path).read_text("utf-8") for path in sources)
    code = re.sub(r'" \+\s+"', "", code)  # strings in parts
    asked = set(re.findall(r"""\bsay\(\s*["']([^"']+)["']""", code))
    assert asked <= set(figures.CHINESE)
    names = {part for name in figures.tables.NAMES.values() for part in name.split(", ")[1:]}
    quoted = {word for word in figures.CHINESE if f'"{word}"' in code or f"'{word}'" in code}
    assert set(figures.CHINESE) == quoted | names


def test_the_colours_of_the_interactive_figures_are_those_of_the_pictures():
    style = (ROOT / "docs/assets/stylesheets/site.css").read_text("utf-8")
    for scheme, colours in zip(
        ("default", "slate"), figures.measured.SCHEMES.values(), strict=True
    ):
        part = style.split(f'[data-md-color-scheme="{scheme}"] {{')[1].split("}")[0]
        assert re.findall(r"--series-\d: (.+);", part) == colours["series"][:5]


@pytest.mark.parametrize("language, tongue", [("en", ""), ("zh", ".zh")])
def test_a_page_shows_one_of_the_versions_of_a_picture(packages, language, tongue):
    text = pages.fill("![Words](../assets/figures/softmin-jacobian.svg)\n", "", language)
    shown = re.findall(r"\]\((.+?)\)\{ (.+?) \}", text)
    assert [path for path, _ in shown] == [
        f"../assets/figures/softmin-jacobian{width}{tongue}-{scheme}.svg#only-{scheme}"
        for width in ("", "-narrow")
        for scheme in ("light", "dark")
    ]
    for (_, given), width in zip(shown, ("wide", "wide", "narrow", "narrow"), strict=True):
        x, y = figures.size("softmin-jacobian", language, width)
        assert given == f".{width} loading=lazy width={x} height={y}"
    card = pages.fill("![Words](assets/figures/card-maxout.svg)", "", language)
    assert card.count("card-maxout-light.svg") == 1 and ".zh" not in card


def test_pictures_are_light():
    """Photographs are compressed, and nothing else weighs much."""
    for name in figures.PICTURES:
        drawn = figures.drawn(name)
        assert "image/png" not in drawn and len(drawn) < 200_000, name


@pytest.mark.parametrize("value", [0.0, -0.0, 0.0003, 3e-5, -0.048, 0.5, 2.46, 1e-12, -1.0])
@pytest.mark.parametrize("digits", [2, 3])
def test_numbers_have_one_spelling(acts, value, digits):
    got = acts("significant", value, digits)
    assert got == figures.significant(value, digits)
    assert float(got.replace("−", "-")) == pytest.approx(value, rel=0.2)
    assert (got == "0") == (value == 0)


def test_a_program_s_functions_are_quoted_whole():
    code = pages.fill("{{ code: examples/digits.py accuracy }}", "")
    assert code.startswith("```python\ndef accuracy(") and code.endswith("labels))\n```")


# ---- Chinese beside English ----------------------------------------------------------------------


# each Chinese section with the English one at its place
SECTIONS = [
    pytest.param(path, own, english, id=f"{path.relative_to(ROOT).as_posix()}: {english.title}")
    for path, text in chinese.translated()
    for own, english in zip(
        chinese.sections(path.read_text("utf-8")), chinese.sections(text), strict=False
    )
]


def test_pages_with_a_chinese_twin_are_those_that_are_listed():
    twins = {path.relative_to(chinese.DOCS).as_posix() for path in PAGES if ".zh" in path.suffixes}
    assert {twin.removesuffix(".zh.md") for twin in twins} == set(chinese.PAGES)
    assert {page.stem for page in chinese.SECTIONS.iterdir()} == set(chinese.FUNCTIONS)


@pytest.mark.parametrize(
    "path, text", [pytest.param(*pair, id=pair[0].name) for pair in chinese.translated()]
)
def test_chinese_has_every_section_of_the_english(path, text):
    own, english = chinese.sections(path.read_text("utf-8")), chinese.sections(text)
    assert [one.level for one in own] == [one.level for one in english]
    if path.parent == chinese.SECTIONS:
        assert [one.title for one in own] == [one.title for one in english]
    else:
        assert [one.anchor for one in own] == [one.anchor for one in english]


@pytest.mark.parametrize("path, own, english", SECTIONS)
def test_chinese_has_the_formulas_code_and_links_of_the_english(path, own, english):
    if own.text.strip() == "{{ all }}":
        return
    text = own.text if path.parent != chinese.SECTIONS else docstrings.markdown(own.text)
    assert chinese.shared(f"{own.title}\n{text}") == chinese.shared(
        f"{english.title}\n{english.text}"
    )


@pytest.mark.parametrize("path, own, english", SECTIONS)
def test_chinese_is_of_the_english_as_it_is_now(path, own, english):
    assert own.stamp == english.stamp, (
        f"The English of {path.stem}: {english.title} changed: read the Chinese again and run "
        "`python -m website.chinese --stamp`"
    )


ENGLISH = """## Formula

With $x$ and `y`, see [here](there.md) [1]_:

$$x^2.$$

| a | b |
|---|---|

>>> # no heading
"""
CHINESE = """## 公式 {#formula english=abc}

见[此处](there.md) [1]_，其中有 `y` 与 $x$：

{{ 1 }}

| 甲 | 乙 |
|---|---|

{{ 2 }}
"""


def shared(text):
    (section,) = chinese.sections(docstrings.markdown(text.strip()))
    return chinese.shared(section.text)


def test_sections_that_share_all_are_found_alike():
    assert shared(ENGLISH) == shared(CHINESE)
    (english,) = chinese.sections(docstrings.markdown(ENGLISH.strip()))
    assert english.blocks == ["$$x^2.$$", "```pycon\n>>> # no heading\n```"]
    assert english.anchor == "formula" and re.fullmatch("[0-9a-f]{6}", english.stamp)


@pytest.mark.parametrize(
    "change",
    [
        ("$$x^2.$$", "$$x^2.$$\n\n$$x.$$"),  # one formula more
        ("$x$", "$z$"),
        ("`y`", "y"),
        ("there.md", "elsewhere.md"),
        (" [1]_", ""),
        ("|---|---|", "|---|---|\n| 1 | 2 |"),
        ("With", "* With"),
    ],
)
def test_what_differs_is_found(change):
    assert shared(ENGLISH.replace(*change)) != shared(CHINESE)


def test_stamping_writes_anchors_and_hashes():
    english = chinese.sections(ENGLISH)
    page = chinese.stamped("# 公式\n", english, anchors=True)
    assert page == f"# 公式 {{#formula english={english[0].stamp}}}\n"
    assert chinese.stamped(page, english, anchors=True) == page
    changed = chinese.sections(ENGLISH.replace("With", "For"))
    assert chinese.sections(page)[0].stamp != changed[0].stamp


def test_chinese_pages_have_english_formulas_and_lead_to_chinese_pages():
    address = "softmax2d.zh.md"
    source = (chinese.DOCS / address).read_text("utf-8")
    text = chinese.links(pages.fill(chinese.page(source, address), address, "zh"), address)
    assert "## 公式 {#formula}\n" in text and "english=" not in text
    assert r"\frac{e^{(x_{c,h,w} - m_{h,w})/T}}" in text and ">>> def textbook(x):" in text
    assert "[softmax2d](softmax2d.zh.md)" in chinese.links(
        "[softmax2d](softmax2d.md)", "index.zh.md"
    )
    assert chinese.links("甲，\n  乙 a\nb", "index.zh.md") == "甲，乙 a\nb"


def test_every_title_of_the_navigation_has_a_chinese_one():
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav = config[config.index("\nnav:") : config.index("\nnot_in_nav")]
    files = set(re.findall(r"[\w/-]+\.md", nav))
    missing = {one for one in files if not (chinese.DOCS / one.replace(".md", ".zh.md")).exists()}
    assert missing | set(re.findall(r"^  - (.+):$", nav, re.M)) == set(chinese.TITLES)


# ---- search, cards, citation ---------------------------------------------------------------------


def entry(location, **more):
    return {"location": location, "title": "Title", "text": "text"} | more


def test_each_language_has_its_index(tmp_path):
    whole = [
        entry("softmin.html", boost=2),
        entry("zh/softmin.html#formula"),
        entry("performance.html"),
        entry("reference/torch.html#numba_acts.torch.maxout"),
        entry("reference/maxout.html#numba_acts.maxout_affine"),
        entry("reference/maxout.html#numba_acts.maxout_affine_with_index"),
    ]
    (tmp_path / "search").mkdir()
    index = {"config": {"separator": " "}, "docs": whole}
    (tmp_path / "search/search_index.json").write_text(json.dumps(index))
    search.divide(tmp_path)
    english, own = (
        json.loads((tmp_path / folder / "search/search_index.json").read_text("utf-8"))["docs"]
        for folder in ("", "zh")
    )
    script = (tmp_path / "zh/search/search_index.js").read_text("utf-8")
    assert json.loads(script.removeprefix("var __index = "))["docs"] == own
    assert "zh" not in json.dumps(english)
    assert english[-2]["boost"] > english[-1]["boost"] > 1 > english[-3]["boost"]
    found = {one["location"]: one for one in own}
    assert "softmin.html#formula" in found and "../softmin.html" not in found
    assert "性能" in found["../performance.html"]["title"]
    assert found["../performance.html"]["boost"] < 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_every_page_has_a_card(page):
    address = page.relative_to(ROOT / "docs").as_posix().replace(".zh.md", ".md")
    name = Path(cards.card(address)).stem
    assert name == (page.name.split(".")[0] if name in cards.FUNCTIONS else "home")


def test_cards_have_the_size_that_networks_ask_for(packages):
    assert set(cards.files()) == {cards.card(f"{name}.md") for name in (*cards.FUNCTIONS, "index")}
    for content in cards.files().values():
        assert content.startswith(b"\x89PNG")
        assert np.frombuffer(content[16:24], ">u4").tolist() == [1200, 630]


def test_the_citation_is_of_this_version(monkeypatch):
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == na.__version__
    assert cited["license"] in (ROOT / "pyproject.toml").read_text("utf-8")
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    monkeypatch.setenv("REPO_URL", "https://example.org/x")
    text = pages.fill("{{ cite: bibtex }}", "")
    assert f"version = {{{na.__version__}}}" in text and "url = {https://example.org/x}" in text
    monkeypatch.delenv("REPO_URL")
    assert "url" not in pages.fill("{{ cite: bibtex }}", "")


# ---- results ------------------------------------------------------------------------------------


def test_without_results_pages_say_so(monkeypatch):
    monkeypatch.setattr(pages.tables, "load", dict)
    assert "No results yet" in pages.fill("{{ results: performance }}", "")
    assert "Measured" not in pages.fill("{{ results: home }}", "")
    assert "on your machine" in pages.fill("{{ results: startup }}", "")


def test_results_are_shown_with_what_they_were_measured_on(monkeypatch):
    results = {"made-up": made_up.made_up(), "gpu": made_up.made_up_gpu()}
    monkeypatch.setattr(pages.tables, "load", lambda: results)
    drawn = set(figures.results())
    for part in ("home", "performance", "accuracy", "startup"):
        text = pages.fill(f"{{{{ results: {part} }}}}", "")
        assert "Made-up processor" in text
        shown = set(re.findall(r"figures/([^)]+?)(?:-narrow)?-light\.svg", text))
        assert shown <= drawn
        drawn -= shown if part == "performance" else set()
    assert "python -m benchmarks cuda" in pages.fill("{{ results: performance }}", "")


# ---- what comes from npm ------------------------------------------------------------------------


def test_formulas_are_typeset_and_bad_ones_refused(packages):
    page = '<p><span class="arithmatex">\\(x^2 &lt; 1\\)</span></p>'
    text = typeset.typeset(page)
    assert "katex-html" in text and "<math" in text and "\\(" not in text
    with pytest.raises(typeset.FormulaError, match="frac"):
        typeset.typeset(page.replace("x^2", "\\frac{1"))
    assert "katex-html" in typeset.typeset(page)  # and it goes on


def test_the_first_of_each_symbol_leads_to_the_glossary(packages):
    page = r'<div class="arithmatex">\[y \odot \bar x \delta_{ij} \delta_{ik}\]</div>'
    text = typeset.typeset(page, "glossary.html")
    seen = text[text.index("katex-html") :]
    names = re.findall(r'<a tabindex="-1" href="glossary.html#symbol-(\w+)"', seen)
    assert names == ["odot", "bar", "delta"]
    entries = (ROOT / "docs/glossary.md").read_text("utf-8")
    assert all(f'id="symbol-{name}"' in entries for _, _, name in typeset.SYMBOLS)


def test_missing_tools_are_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "MODULES", tmp_path)
    monkeypatch.setattr(assets.shutil, "which", lambda name: "/usr/bin/node")
    with pytest.raises(assets.Missing, match="katex.*npm ci"):
        assets.require()
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    with pytest.raises(assets.Missing, match="Node.js 18 or newer.*npm ci"):
        assets.require()


def test_no_style_sheet_or_script_names_another_host(packages):
    for address, content in assets.files().items():
        if isinstance(content, str):
            assert not re.search(r"(?:url\(|import\s|src=)\W*(?:https?:)?//", content), address
            for path in re.findall(r"url\(([^)]+)\)", content):
                assert f"assets/stylesheets/{path}" in assets.files(), path


def test_the_lock_file_names_no_registry():
    lock = json.loads((ROOT / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]


# ---- llms.txt -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["https://example.org/dev", "https://example.org/dev/"])
def test_summary_links_every_page_under_the_site_s_address(address):
    nav = [{"Home": "index.md"}, {"Guides": ["guides/index.md", {"NumPy": "guides/numpy.md"}]}]
    text = pages.summary(address, nav, str(ROOT / "docs"))
    assert "- [Home](https://example.org/dev/index.html): " in text
    assert "## Guides\n\n- [Guides](https://example.org/dev/guides/index.html): " in text
    assert "- [NumPy](https://example.org/dev/guides/numpy.html): " in text
    assert "](index.html)" in pages.summary("", nav, str(ROOT / "docs"))
