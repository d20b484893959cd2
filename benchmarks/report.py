"""``python -m benchmarks report``: a results file's tables and figures, written beside it."""

import argparse
import json
import logging
import sys
from pathlib import Path

from benchmarks import tables


def write(path: Path) -> list[Path]:
    """Write what a results file holds as Markdown and, if matplotlib is there, as figures."""
    results = json.loads(path.read_text("utf-8"))
    files = {path.with_suffix(".md"): tables.report(results) + "\n"}
    rows = [row for row in results.get("cases", []) if tables.floor(row)]
    try:
        from benchmarks import figures
    except ImportError:
        print("no figures without matplotlib: pip install matplotlib", file=sys.stderr)
    else:
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font's substitute
        for scheme in figures.SCHEMES if rows else ():
            drawn = figures.svg(lambda colours: figures.multiples(rows, colours), scheme)
            files[path.with_name(f"{path.stem}-{scheme}.svg")] = drawn
    for file, text in files.items():
        file.write_text(text, "utf-8")
    return list(files)


def main(arguments: list[str]) -> int:
    """Write them for the given files, or for all in the folder of results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="*", help="results files, *.json")
    for path in parser.parse_args(arguments).files or sorted(tables.RESULTS.glob("*.json")):
        for file in write(path):
            print(f"written to {file}")
    return 0
