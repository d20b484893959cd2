"""The house: imports go down, private names stay at home, and an array takes the straight way."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numba_acts
from numba_acts._halls import host

ROOT = Path(numba_acts.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports(name: str) -> Iterator[tuple[str, str, str]]:
    """What a module imports of the package: module, name in it or "", and what it is called here.

    Wherever in the file that is, but for what only a type checker reads.
    """
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    skipped = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inside in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name.split(".")[0] == "numba_acts":
                    yield one.name, "", one.asname or one.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba_acts"):
            for one in node.names:
                whole = f"{node.module}.{one.name}"
                here = one.asname or one.name
                yield (whole, "", here) if whole in MODULES else (str(node.module), one.name, here)
        elif isinstance(node, ast.Constant) and node.value in MODULES and node.value != name:
            yield str(node.value), "", ""  # for `import_module`


GRAPH = {name: {module for module, *_ in imports(name)} for name in MODULES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of imports, or none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name not in done:
            done.add(name)
            for other in sorted(graph[name]):
                if found := visit(other, [*way, name]):
                    return found
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_circle_of_imports():
    assert len(GRAPH) > 40 and sum(map(len, GRAPH.values())) > 100
    assert circle(GRAPH) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_private_name_is_taken_from_another_module(name):
    taken = list(imports(name))
    private = [f"{module}.{what}" for module, what, _ in taken if what.startswith("_")]
    own = {here: module for module, what, here in taken if here and not what}
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, attribute = own.get(node.value.id), node.attr
            if module and re.match(r"_(?!_)", attribute) and f"{module}.{attribute}" not in MODULES:
                private.append(f"{module}.{attribute}")
    assert [p for p in private if p != "numba_acts._version.__version__"] == []


def floors() -> list[list[str]]:
    """The drawing in CONTRIBUTING, from the top floor down: modules, or folders as one room."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    drawing = re.search(r"```text\n(.*?)```", text, re.S)
    assert drawing
    return [re.findall(r"[\w/]+", line.split("#")[0]) for line in drawing[1].splitlines()]


def test_imports_go_down_the_drawing():
    height = {room: -i for i, rooms in enumerate(floors()) for room in rooms}

    def room(name: str) -> str:
        inside = name.removeprefix("numba_acts").lstrip(".").replace(".", "/") or "__init__"
        return inside if inside in height else inside.split("/")[0]

    rooms = {room(name) for name in MODULES if name != "numba_acts._halls"}
    assert rooms == set(height)
    for name, others in GRAPH.items():
        for other in others:
            if room(name) != room(other):
                assert height[room(other)] < height[room(name)], (name, other)


def test_the_way_of_an_array():
    """From the front room to its kernel, whose machine code `launch` calls: none entered twice.

    A call like one before need not ask which kernel.
    """
    x = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    numba_acts.softmin(x)
    way = ["_softmin", "_halls.door", "_halls.host", "_cpu.forward", "_cpu.launch"]
    host.forget()
    assert rooms_entered(x) == [f"numba_acts.{room}" for room in way]
    assert rooms_entered(x) == [f"numba_acts.{room}" for room in way[:3]]


def rooms_entered(x):
    """The rooms that softmin of x goes through."""
    rooms: list[str] = []

    def holds(value: Any) -> bool:
        if isinstance(value, tuple):
            return any(map(holds, value))
        return isinstance(value, np.ndarray) and np.may_share_memory(value, x)

    def entered(frame: Any, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name in MODULES and any(map(holds, frame.f_locals.values())):
            if name not in rooms[-1:]:
                rooms.append(name)

    sys.setprofile(entered)
    try:
        numba_acts.softmin(x)
    finally:
        sys.setprofile(None)
    return rooms


@pytest.mark.parametrize("path", sorted((ROOT.parent / ".github/workflows").glob("*.yml")))
def test_workflows_use_actions_by_their_hash(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text("utf-8"))
    assert used
    for action, comment in used:
        assert re.search(r"@[0-9a-f]{40}$", action) and re.match(r" # v\d", comment), action
