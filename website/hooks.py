"""The hooks of MkDocs: each calls one plain script of this folder and adds nothing of its own."""

import sys
from pathlib import Path, PurePath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parents[1]))

import numba_acts
from website import assets, cards, chinese, figures, pages, search, typeset

_twins: dict[str, dict[str, Any]] = {}  # a page in both languages, by the English one's file
_navigation: Any = None  # in Chinese


def on_config(config: Any) -> None:
    """Fail with a clear message where node or the npm packages are missing."""
    try:
        assets.require()
    except assets.Missing as missing:
        raise PluginError(str(missing)) from None
    config.extra["library_version"] = numba_acts.__version__


def on_files(files: Any, config: Any) -> Any:
    """Add what is drawn and what npm brought, and give Chinese pages their addresses."""
    for address, content in (assets.files() | figures.files() | cards.files()).items():
        files.append(File.generated(config, address, content=content))
    for file in files.documentation_pages():
        file.dest_uri = chinese.address(file.src_uri)
    config.plugins["mkdocstrings"].handlers.inventory.version = numba_acts.__version__
    return files


def on_nav(nav: Any, config: Any, files: Any) -> None:
    """Make the navigation in Chinese."""
    global _navigation
    _navigation = chinese.navigation(nav, files)
    for page in _navigation.pages:
        address = chinese.original(page.file.src_uri)
        _twins[address] = {"en": files.get_file_from_path(address).page, "zh": page}


def on_template_context(context: Any, template_name: str, config: Any) -> Any:
    """Give a page that is made of a template, such as 404.html, what `on_page_context` gives."""
    homes = {"en": context["nav"].homepage, "zh": _navigation.homepage}
    return context | {"twins": {}, "homes": homes}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what the page takes from docstrings, results and files of the repository."""
    address = page.file.src_uri
    if not address.endswith(".zh.md"):
        return pages.fill(markdown, address)
    page.meta["language"] = "zh"
    return chinese.links(pages.fill(chinese.page(markdown, address), address, "zh"), address)


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """Give a page its navigation, the same page in both languages, and its card."""
    address = chinese.original(page.file.src_uri)
    context["twins"] = _twins.get(address, {})
    context["homes"] = {"en": nav.homepage, "zh": _navigation.homepage}
    context["card"] = cards.card(address)
    if page.meta.get("language") == "zh":
        context["nav"] = _navigation
    return context


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Typeset the formulas, and put the words of attributes into the page's language."""
    zh = page.meta.get("language") == "zh"
    glossary = get_relative_url(chinese.address(f"glossary{'.zh' if zh else ''}.md"), page.url)
    try:
        output = typeset.typeset(output, "" if glossary == PurePath(page.url).name else glossary)
    except typeset.FormulaError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None
    return chinese.labels(output) if zh else output


def on_post_build(config: Any) -> None:
    """Divide the search's index by language, write llms.txt, and let go of node."""
    typeset.close()
    search.divide(Path(config.site_dir))
    translated = [{page.title: page.file.src_uri} for page in _navigation.pages]
    nav = [*config.nav, {"中文": translated}]
    text = pages.summary(config.site_url, nav, config.docs_dir)
    Path(config.site_dir, "llms.txt").write_text(text, encoding="utf-8")
