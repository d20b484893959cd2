"""Types from a user's side: a strict checker, and the stub beside the signatures it stands for."""

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import numba_acts as na

ROOT = Path(__file__).parents[1]
PACKAGE = Path(na.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
DECLARED = [node for node in STUB.body if isinstance(node, ast.FunctionDef)]
NEEDED = [name for name in ("mypy", "torch") if importlib.util.find_spec(name) is None]


def checked(*files):
    """What a strict checker says of files that know the library as installed."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.skipif(bool(NEEDED), reason=f"{', '.join(NEEDED)}: not installed")
def test_a_strict_checker_knows_what_comes_out(tmp_path):
    assert checked("tests/typed/user.py").startswith("Success")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import numpy as np\n"
        "import numba_acts as na\n"
        "x = np.ones(3)\n"
        "na.softmin(x, temperature='hot')\n"
        "na.softmin(x, axes=0)\n"
        "y: str = na.maxout_with_index(x)\n"
    )
    said = checked(wrong)
    assert [f"wrong.py:{line}: error" in said for line in (4, 5, 6)] == [True] * 3


def test_it_is_marked_as_typed():
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("declared", DECLARED, ids=lambda node: f"{node.name}-{node.lineno}")
def test_the_stub_has_the_true_parameters(declared):
    true = inspect.signature(getattr(na, declared.name)).parameters
    given = declared.args
    by_place, by_name = [a.arg for a in given.args], [a.arg for a in given.kwonlyargs]
    defaults = dict(zip(reversed(by_place), reversed(given.defaults), strict=False))
    defaults |= {n: d for n, d in zip(by_name, given.kw_defaults, strict=True) if d is not None}
    kinds = {p.name: p.kind for p in true.values()}
    assert all(kinds[name] is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in by_place)
    assert all(kinds[name] is inspect.Parameter.KEYWORD_ONLY for name in by_name)
    left_out = [name for name in true if name not in [*by_place, *by_name]]
    assert all(name in ("dtype", "index_dtype") for name in left_out)
    for name, default in defaults.items():
        if not (isinstance(default, ast.Constant) and default.value is ...):
            assert ast.literal_eval(default) == true[name].default


def test_the_stub_has_all_names():
    assert {node.name for node in DECLARED} == set(na.__all__)
    assert sum(node.name == "softmin" for node in DECLARED) == 5
