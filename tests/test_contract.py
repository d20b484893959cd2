"""The public names: the signatures promised, their docstrings, their places in the tests."""

import inspect
import re

import cases
import numpy as np
import oracle
import pytest

import numba_acts

SIGNATURES = """
softmin(x, axis=-1, *, temperature=1.0, where=None, out=None)
softmin_vjp(g, y, axis=-1, *, temperature=1.0, out=None)
softmin_jvp(t, y, axis=-1, *, temperature=1.0, out=None)
softmin_jacobian(y, axis=-1, *, temperature=1.0, out=None)
softmin_jacobian_diag(y, *, temperature=1.0, out=None)

softmax2d(x, *, channel_axis=-3, temperature=1.0, where=None, out=None)
softmax2d_vjp(g, y, *, channel_axis=-3, temperature=1.0, out=None)
softmax2d_jvp(t, y, *, channel_axis=-3, temperature=1.0, out=None)
softmax2d_jacobian(y, *, channel_axis=-3, temperature=1.0, out=None)
softmax2d_jacobian_diag(y, *, temperature=1.0, out=None)

maxout(x, axis=-1, *, out=None)
maxout_with_index(x, axis=-1, *, index_dtype=np.int32, out=None)
maxout_vjp(g, index, pieces, axis=-1, *, out=None)
maxout_jvp(t, index, axis=-1, *, out=None)
maxout_jacobian(index, pieces, axis=-1, *, dtype=np.float64, out=None)

maxout_affine(x, weight, bias=None, *, out=None)
maxout_affine_with_index(x, weight, bias=None, *, index_dtype=np.int32, out=None)
maxout_affine_vjp(g, x, weight, index)
maxout_affine_jvp(x, weight, index, *, dx=None, dweight=None, dbias=None)
maxout_affine_jacobian(weight, index)
"""


def promised():
    """Each promised name with its parameters."""
    signatures = {}
    for line in SIGNATURES.split("\n"):
        if line:
            name = line.partition("(")[0]
            scope = {"np": np}
            exec(f"def {line}: ...", scope)
            signatures[name] = parameters(scope[name])
    return signatures


def parameters(function):
    """Names, kinds and defaults in order; what the annotations say does not matter."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    ]


PROMISED = promised()


def test_public_names_are_those_promised():
    assert sorted(numba_acts.__all__) == sorted(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_signature_is_the_promised_one(name):
    assert parameters(getattr(numba_acts, name)) == PROMISED[name]


@pytest.mark.parametrize("name", PROMISED)
def test_oracle_has_the_same_signature(name):
    want = [parameter for parameter in PROMISED[name] if parameter[0] != "out"]
    assert parameters(getattr(oracle, name)) == want


def test_every_public_name_has_its_cases():
    tested = {case.function for case in cases.TABLE}
    assert tested == set(numba_acts.__all__) == set(cases.MAKERS) == set(cases.ERRORS)


@pytest.mark.parametrize("name", PROMISED)
def test_every_public_name_has_cases_of_every_kind(name):
    """All float dtypes, every memory layout, rank and size: nothing forgotten in the table."""
    own = [case for case in cases.TABLE if case.function == name]
    assert {case.dtype for case in own} >= set(cases.FLOATS)
    assert {case.layout for case in own} == {"C", *cases.LAYOUTS}
    assert min(case.size for case in own) < 1000 < max(case.size for case in own)


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("section", ["Parameters", "Returns", "Raises", "Examples"])
def test_docstring_has_the_sections(section, name):
    text = inspect.getdoc(getattr(numba_acts, name))
    assert text, f"{name} has no docstring"
    assert re.search(rf"^{section}\n-{{{len(section)}}}$", text, re.MULTILINE)


@pytest.mark.parametrize("name", PROMISED)
def test_docstring_names_every_parameter(name):
    text = inspect.getdoc(getattr(numba_acts, name)) or ""
    body = re.split(r"^Parameters\n-+\n", text, flags=re.MULTILINE)[1]
    body = re.split(r"^\w[\w ]*\n-+\n", body, flags=re.MULTILINE)[0]
    described = re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", body, re.MULTILINE)
    described = [word for names in described for word in names.split(", ")]
    assert described == [parameter[0] for parameter in PROMISED[name]]
