"""Random calls of `fuzz.py`; `python -m benchmarks soak --only cases` makes a million of them."""

import functools

import cases
import fuzz
import numpy as np
import pytest
from cases import rarely

import numba_acts

TOGETHER = 200


@pytest.mark.parametrize("first", [0, *rarely(TOGETHER)])
def test_random_calls(first):
    for seed in range(first, first + TOGETHER):
        fuzz.run(seed)


def seed_of(function):
    """The first seed that gives a call of a function which has numbers."""
    calls = ((seed, fuzz.Call(seed)) for seed in range(1000))
    return next(s for s, c in calls if c.function == function and np.size(c.arguments[0]) > 1)


softmin = numba_acts.softmin


@functools.wraps(softmin)
def a_little_more(x, *arguments, **keywords):
    y = np.asarray(softmin(x, *arguments, **keywords))
    y *= y.dtype.type(1.01)
    return keywords.get("out", y[()])


@functools.wraps(softmin)
def out_of_its_own(x, *arguments, out=None, **keywords):
    return softmin(x, *arguments, **keywords)


@functools.wraps(softmin)
def an_argument_written_to(x, *arguments, **keywords):
    y = softmin(x, *arguments, **keywords)
    x[...] = 7
    return y


WRONG = {
    "a little more": (a_little_more, "entries are wrong"),
    "an out of its own": (out_of_its_own, "out"),
    "an argument written to": (an_argument_written_to, "was written to"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found_and_told(what, monkeypatch):
    function, message = WRONG[what]
    seed = seed_of("softmin")
    monkeypatch.setattr(numba_acts, "softmin", function)
    with pytest.raises(AssertionError, match=rf"(?s)seed {seed}: softmin\(.*{message}"):
        fuzz.run(seed)


@pytest.mark.parametrize("sign", [1, -1])
def test_infinities_are_right_where_an_error_may_reach_them(sign):
    got, want = np.array([sign * np.inf], np.float16), np.array([-sign * 1.0])
    cases.assert_within(got, want, 1e12, got.dtype)
    with pytest.raises(AssertionError, match="entries are wrong"):
        cases.assert_within(got, want, 1, got.dtype)
