"""Every function against the oracle, over the whole table of cases."""

import inspect
from collections.abc import Callable, Iterable

import cases
import numpy as np
import pytest

import numba_acts


def in_groups(table: Iterable[cases.Case]) -> list:
    """Parameters for a test of many cases: those of a function, a dtype and a layout together."""
    groups: dict[tuple[str, str, str, bool], list[cases.Case]] = {}
    for case in table:
        key = case.function, case.dtype, case.layout, case.is_common
        groups.setdefault(key, []).append(case)
    return [
        pytest.param(group, id="-".join(key), marks=[] if common else cases.FULL)
        for (*key, common), group in groups.items()
    ]


def assert_each(group: list[cases.Case], check: Callable[[cases.Case], None]) -> None:
    """Check each case, and name those that fail."""
    failed = []
    for case in group:
        try:
            check(case)
        except Exception as error:  # the others are of interest then
            failed.append(f"{case}: {type(error).__name__}: {error}")
    assert not failed, "\n".join([f"{len(failed)} of {len(group)} cases", *failed[:20]])


@pytest.mark.parametrize("group", in_groups(cases.TABLE))
def test_agrees_with_the_oracle(group):
    def check(case):
        arguments, keywords = case.build()
        given = [a for a in (*arguments, *keywords.values()) if isinstance(a, np.ndarray)]
        before = [a.tobytes() for a in given]
        got = getattr(numba_acts, case.function)(*arguments, **keywords)
        assert before == [a.tobytes() for a in given], "an argument was written to"
        cases.assert_agrees(got, case.function, arguments, keywords)

    assert_each(group, check)


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
@pytest.mark.parametrize("group", in_groups(OUT))
def test_out_is_filled_and_returned(group, layout):
    def check(case):
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

    assert_each(group, check)


def test_a_wrong_case_is_named(monkeypatch):
    monkeypatch.setattr(numba_acts, "softmin", lambda x, **keywords: np.zeros_like(x))
    group = [case for case in cases.TABLE if case.function == "softmin"][:3]
    with pytest.raises(AssertionError, match=r"3 of 3 cases\n.*softmin-float16-\(2,1\).*are wrong"):
        test_agrees_with_the_oracle(group)
