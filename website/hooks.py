"""The hooks of MkDocs: each calls one plain script of this folder and adds nothing of its own."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parents[1]))

from website import assets, figures, pages, typeset


def on_config(config: Any) -> None:
    """Fail with a clear message where node or the npm packages are missing."""
    try:
        assets.require()
    except assets.Missing as missing:
        raise PluginError(str(missing)) from None


def on_files(files: Any, config: Any) -> Any:
    """Add the figures and what npm brought: fonts and style sheets."""
    for address, content in (assets.files() | figures.files()).items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what the page takes from docstrings, results and files of the repository."""
    return pages.fill(markdown, page.file.src_uri)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Typeset the formulas."""
    try:
        return typeset.typeset(output)
    except typeset.FormulaError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None


def on_post_build(config: Any) -> None:
    """Write llms.txt, and let go of node."""
    typeset.close()
    text = pages.summary(config.site_url, config.nav, config.docs_dir)
    Path(config.site_dir, "llms.txt").write_text(text, encoding="utf-8")
