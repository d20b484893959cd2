"""The sizes of caches, from made-up trees of a system's files."""

import sys

import pytest

from numba_acts._cpu import caches

TREES = {
    "as usual": (
        [("Data", "32K", "1"), ("Instruction", "32K", "1"), ("Unified", "1024K", "2")],
        {1: 1 << 15, 2: 1 << 20},
        (1 << 15, 1 << 20, 1 << 20),
    ),
    "three levels": (
        [("Data", "48K", "1"), ("Unified", "2048K", "2"), ("Unified", "107520K", "3")],
        {1: 48 << 10, 2: 1 << 21, 3: 107520 << 10},
        (48 << 10, 1 << 21, 107520 << 10),
    ),
    "in megabytes": ([("Unified", "12M", "2")], {2: 12 << 20}, (1 << 15, 12 << 20, 12 << 20)),
    "a first cache alone": ([("Data", "64K", "1")], {1: 1 << 16}, (1 << 16, 1 << 19, 1 << 25)),
    "odd files": (
        [("Data", "", "1"), ("Unified", "1T", "2"), ("Unified", "much", "x"), ("", "1K", "3")],
        {},
        caches.USUAL,
    ),
    "none": ([], {}, caches.USUAL),
    "nothing": ([("Data", "0K", "1"), ("Unified", "0K", "3")], {1: 0, 3: 0}, caches.USUAL),
}


@pytest.mark.parametrize("tree", TREES)
def test_sizes(tree, tmp_path):
    files, found, sizes = TREES[tree]
    for i, (kind, size, level) in enumerate(files):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{i}"
        folder.mkdir(parents=True)
        for name, text in (("type", kind), ("size", size), ("level", level)):
            (folder / name).write_text(text + "\n")
    assert caches.linux(tmp_path) == found
    assert caches.sizes(found, 8) == sizes


def test_cores_share_the_last_cache():
    """Two cores of a virtual machine that is told what a hundred cores have."""
    found = {1: 48 << 10, 2: 2 << 20, 3: 480 << 20}
    assert caches.sizes(found, 2) == (48 << 10, 2 << 20, 64 << 20)
    assert caches.sizes(found, 128) == (48 << 10, 2 << 20, 480 << 20)
    assert caches.sizes({2: 40 << 20}, 1)[1:] == (40 << 20, 40 << 20)


def test_this_machines():
    assert 0 < caches.FIRST <= caches.SECOND <= caches.LAST
    if sys.platform == "darwin":
        assert caches.macos()


def test_a_system_without_sysctl():
    if sys.platform != "darwin":
        assert caches.macos() == {}
