"""The scripts of the site: pages, pictures, formulas, the maths of the interactive figures."""

import inspect
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import test_benchmark_results as made_up

import numba_acts as na

if not os.environ.get("CI"):  # where all has to be there
    for needed in ("griffe", "matplotlib", "sklearn", "fontTools", "website"):
        pytest.importorskip(needed, reason=f"{needed} is not installed, of the docs extra")

from website import assets, docstrings, figures, pages, typeset  # noqa: E402

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
    assert sorted(shown) == sorted(sections - docstrings.REFERENCE - {""} | {"Examples"})


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
        assert name in figures.PICTURES
        assert len(described) > 40
    assert re.search(r"^description: [^:]+$", text, re.M)


def test_every_picture_is_shown():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert set(figures.PICTURES) == set(re.findall(r"figures/([^)]+)\.svg", text))


def test_pictures_are_the_same_every_time():
    draw = figures.PICTURES["softmin-jacobian"]
    assert figures.measured.svg(draw, "dark") == figures.measured.svg(draw, "dark")


def test_a_program_s_functions_are_quoted_whole():
    code = pages.fill("{{ code: examples/digits.py accuracy }}", "")
    assert code.startswith("```python\ndef accuracy(") and code.endswith("labels))\n```")


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
        shown = set(re.findall(r"figures/([^)]+)-light\.svg", text))
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
