"""What other work the machine has, on made-up counts of Linux and on made-up times."""

import time

import pytest

from numba_acts import _busy

QUIET = "cpu 1000 10 100 9000 50 5 5 20 0 0\n"


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Put counts where Linux has them: of a machine of four processors."""
    monkeypatch.setattr(_busy, "STAT", tmp_path / "stat")
    monkeypatch.setattr(_busy.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(_busy.os, "sysconf", lambda _: 100)
    clock = [100.0]
    monkeypatch.setattr(_busy.time, "perf_counter", lambda: clock[0])

    def count(line, later=0.0):
        (tmp_path / "stat").write_text(line)
        clock[0] += later

    return count


@pytest.mark.parametrize(
    ("user", "stolen", "told"),
    [
        (1000, 20, ""),
        (1200, 20, ""),  # 0.2 processors for ten seconds
        (3000, 20, "other processes took 2.0 of 4 processors"),
        (1000, 420, "the host took 10% of the time for other machines"),
        (
            2500,
            820,
            "other processes took 1.5 of 4 processors, "
            "the host took 20% of the time for other machines",
        ),
    ],
)
def test_counts_of_linux(user, stolen, told, counted):
    counted(QUIET)
    watch = _busy.Watch()
    counted(f"cpu {user} 10 100 9000 50 5 5 {stolen} 0 0\n", later=10.0)
    sentence = f"The machine was busy meanwhile: {told}." if told else ""
    assert watch.told() == sentence


@pytest.mark.parametrize("line", ["", "cpu a b c\n", None])
def test_elsewhere_only_times_are_known(line, counted, tmp_path):
    if line is not None:
        counted(line)
    assert _busy.spent() is None
    assert _busy.Watch().told() == ""


@pytest.mark.parametrize(("slow", "told"), [(1.0, ""), (1.2, ""), (2.0, "a factor of 2.0")])
def test_drift_of_one_threads_time(slow, told, counted, monkeypatch):
    clock = [0.0]
    watch = _busy.Watch()
    steps = iter(([0.0, 1.0] * 5 + [0.0, slow] * 5) * 2)

    def perf_counter():
        clock[0] += next(steps)
        return clock[0]

    monkeypatch.setattr(_busy.time, "perf_counter", perf_counter)
    for _ in range(4):
        watch.look()
    assert (told in watch.told()) if told else watch.told() == ""


def test_this_machine():
    watch = _busy.Watch()
    start = time.perf_counter()
    while time.perf_counter() < start + 0.05:
        watch.look()
    assert watch.told() == "" or watch.told().startswith("The machine was busy meanwhile: ")
