"""``python -m benchmarks report``: tables in Markdown and figures of all results, beside them.

Every part writes them after measuring. They need matplotlib, which a machine with a GPU may lack.
"""

import json
from pathlib import Path

from benchmarks import figures, tables


def write(results: Path) -> Path:
    """Write all tables and figures of a results file; return the path of the tables."""
    file = json.loads(results.read_text("utf-8"))
    shown = [f"# {tables.machine(file)}", tables.report(file)]
    for name, draw in figures.pictures(file).items():
        path = results.with_name(f"{results.stem}-{name}.svg")
        path.write_text(figures.svg(draw, paper=True), "utf-8")
        shown.append(f"![{name}]({path.name})")
    path = results.with_suffix(".md")
    path.write_text("\n\n".join(shown) + "\n", "utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Write the tables and figures of every results file."""
    for path in sorted(tables.RESULTS.glob("*.json")):
        print(f"written to {write(path)}")
    return 0
