"""The index of the search: exact names first, and one for the readers of each language."""

import json
import re
from pathlib import Path
from typing import Any

from website import chinese

NAME = re.compile(r"#numba_acts\.(torch\.)?(?:cuda\.)?(\w+)$")


def divide(site: Path) -> None:
    """Divide the index that was written for the site into English and Chinese."""
    path = site / "search/search_index.json"
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for entry in whole["docs"]:
        if name := NAME.search(entry["location"]):
            # a search for maxout_affine is not one for maxout_affine_with_index, nor for a module
            entry["boost"] = 0.5 if name[1] else 1 + 1 / len(name[2].split("_"))
    english = [entry for entry in whole["docs"] if not entry["location"].startswith("zh/")]
    _write(path, whole | {"docs": english})
    _write(site / "zh/search/search_index.json", chinese.index(whole))


def _write(path: Path, index: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, encoding="utf-8")
    # for pages that are opened without a server
    path.with_suffix(".js").write_text(f"var __index = {text}", encoding="utf-8")
