"""Every function against the oracle, over the whole table of cases."""

import inspect

import cases
import numpy as np
import pytest

import numba_acts


@pytest.mark.parametrize("case", cases.TABLE, ids=str)
def test_agrees_with_the_oracle(case):
    arguments, keywords = case.build()
    given = [a for a in (*arguments, *keywords.values()) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in given]
    got = getattr(numba_acts, case.function)(*arguments, **keywords)
    assert before == [a.tobytes() for a in given]
    cases.assert_agrees(got, case.function, arguments, keywords)


def takes_out(function):
    return "out" in inspect.signature(getattr(numba_acts, function)).parameters


OUT = [
    case
    for case in cases.TABLE
    if case.dtype in ("float16", "float32", "int16")
    and case.layout == "C"
    and case.size < 300
    and takes_out(case.function)
]


@pytest.mark.parametrize("layout", ["C", "F", "sliced"])
@pytest.mark.parametrize("case", OUT, ids=str)
def test_out_is_filled_and_returned(case, layout):
    arguments, keywords = case.build()
    function = getattr(numba_acts, case.function)
    want = function(*arguments, **keywords)
    if case.function.endswith("with_index"):
        out = tuple(cases.blank(a.shape, a.dtype, layout) for a in want)
        got = function(*arguments, **keywords, out=out)
        assert got[0] is out[0] and got[1] is out[1]
    else:
        out = cases.blank(want.shape, want.dtype, layout)
        assert function(*arguments, **keywords, out=out) is out
        out, want = (out,), (want,)
    for one, other in zip(out, want, strict=True):
        assert one.tobytes() == other.tobytes()
