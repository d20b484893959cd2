"""Count the sectors of memory that the GPU's compiled kernels touch, and keep them from growing.

``python .ci/traffic.py [--write] FOLDER``: the folder has the interpreter of compiled kernels.
`traffic.txt` beside this file has what was found last; `--write` puts there what is found now.
"""

import multiprocessing
import sys
from pathlib import Path

import numpy as np

ALIGNED = 512  # bytes
KEPT = Path(__file__).with_name("traffic.txt")
MORE = 1.01  # than what is kept is too much
HEAD = """\
# Sectors of 32 bytes that the kernels' accesses to global memory touch, as a multiple of the least
# for the bytes that they use: loads, stores, kernel, call. Made by .ci/traffic.py, which see.
#
# Each access of each warp counts by itself: the sectors that its threads touch, over the number of
# them that the same bytes fill without gaps. What a warp reads in several accesses, parts of the
# same sectors each time, counts each time, though a cache serves it again; so a number above 1 is
# not always traffic of memory. Aimed at: 1.1, and 1.25 where a length is no multiple of a sector.
# Clusters of blocks do not run here: rows that are too long for a block are read twice instead.
"""


def calls(check):
    """Calls that reach every kernel, on shapes of the benchmarks with fewer slices."""
    forward, backward = check.forward, check.backward
    for dtype in ("float32", "float16"):
        for n in (4, 10, 21, 33, 128, 1001, 1024, 4096, 4097, 10_000, 65_536):
            for make in (forward, backward):
                yield make((max(2, 16_384 // n), n), -1, dtype)
        for shape in ((2, 3, 64, 64), (2, 21, 64, 64), (1, 150, 32, 64), (2, 21, 31, 33)):
            for make in (forward, backward):
                yield make(shape, -3, dtype)
        for shape in ((8, 64, 7, 7), (8, 21, 7, 7)):
            for make in (forward, backward):
                yield make(shape, -3, dtype)
                yield make(shape, -3, dtype, sizes=check.FEW)
        for make in (forward, backward):
            yield make((1, 5000, 32), 1, dtype)
        yield forward((64, 1024), 0, dtype)
        yield forward((16, 1024), -1, dtype, masked="some")
        yield forward((16, 1024), -1, dtype, layout="shifted")
        yield check.matrices((16, 128), -1, dtype)
        yield check.matrices((64, 32), -1, dtype)
        yield check.matrices((1, 21, 16, 16), -3, dtype)
        yield check.matrices((1, 21, 15, 15), -3, dtype)
        yield check.matrices((64, 128), -1, dtype, diag=True)
    yield forward((2, 600_000), -1, "float32")
    yield backward((2, 300_000), -1, "float32")
    yield forward((16, 2048), -1, "float64")
    yield forward((16, 1024), -1, "float32", layout="transposed")
    for dtype in ("float32", "float16"):
        for n in (2, 3, 4, 5, 8, 12, 100):
            yield check.maxima((2048, n), -1, dtype)
            yield check.routed("vjp", (2048, n), -1, dtype)
        for inner in (1024, 1023):
            yield check.maxima((2, 4, inner), 1, dtype)
            yield check.routed("vjp", (2, 4, inner), 1, dtype)
            yield check.routed("jvp", (2, 4, inner), 1, dtype)
        yield check.routed("jvp", (2048, 4), -1, dtype)
        yield check.routed("jacobian", (2048, 4), -1, dtype)
        for name in ("_with_index", "_vjp", "_jvp", "_jacobian"):
            yield check.layers(name, 64, 32, 4, 64, dtype)
    yield check.layers("_with_index", 16, 8, 3, 16, "int32")
    yield check.layers("_vjp", 300, 8, 5, 9, "float32", sizes=(*check.FEW[:2], 1 << 12))


def aligned(array):
    """An array where a GPU's allocators would put it, so that counts repeat.

    One that is a view, of any layout, has been put in its place.
    """
    if array.base is not None:
        return array
    room = np.empty(array.nbytes + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    there = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    there[...] = array
    return there


def count(labels):
    """Ratios by call and kernel, and what went wrong."""
    import check
    import device

    if not hasattr(device, "USUAL"):
        device.USUAL = device.SIZES
        device.install()
        moved = device.to_device
        device.to_device = lambda a: moved(aligned(a) if isinstance(a, np.ndarray) else a)
    found, wrong = {}, []
    for case in calls(check):
        if case.label not in labels:
            continue
        device.RAN.clear()
        if complaint := check.run_case(case):
            wrong.append(f"{case.label}: {complaint}")
        sums = {}
        for (module, name, *_), (_, accesses, *_) in device.RAN.items():
            own = sums.setdefault(f"{module}.{name}", [0, 0, 0, 0])
            for (_, what), (sectors, least, _) in accesses.items():
                place = 2 * (what == "st")
                own[place] += sectors
                own[place + 1] += least
        for name, (*loads, stored, least) in sums.items():
            ratios = loads[0] / max(loads[1], 1), stored / max(least, 1)
            found[case.label, name] = [f"{ratio:.3f}" for ratio in ratios]
    return found, wrong


def kept():
    """What the table has."""
    lines = [line.split(maxsplit=3) for line in KEPT.read_text("utf-8").split("\n")]
    return {(line[3], line[2]): line[:2] for line in lines if line and line[0] != "#"}


def differences(found):
    """What differs from the table, and whether that is too much."""
    before, lines, worse = kept(), [], False
    for key in before.keys() | found.keys():
        old, new = before.get(key), found.get(key)
        if old == new:
            continue
        grown = not (old and new) or any(
            float(b) > MORE * float(a) for a, b in zip(old, new, strict=True)
        )
        worse |= grown
        words = [" ".join(ratios) if ratios else "nothing" for ratios in (old, new)]
        mark = "" if old and new and not grown else " (not the same kernels)"
        mark = " (more)" if old and new and grown else mark
        lines.append(f"{key[0]}, {key[1]}: {words[0]} → {words[1]}{mark}")
    return sorted(lines), worse


def main(arguments):
    """Count, and compare or write."""
    import check
    import device

    labels = [case.label for case in calls(check)]
    shares = [labels[i::16] for i in range(16)]
    found, wrong = {}, []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for ratios, complaints in pool.imap_unordered(count, shares):
            found |= ratios
            wrong += complaints
    reached = {name for _, name in found}
    wrong += [f"never reached: {name}" for name in sorted(device.kernels() - reached)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if "--write" in arguments and not wrong:
        rows = [
            (*found[key], key[1], key[0])
            for key in sorted(found, key=lambda key: (labels.index(key[0]), key[1]))
        ]
        wide = max(len(row[2]) for row in rows)
        lines = [f"{row[0]:>6} {row[1]:>6}  {row[2]:{wide}}  {row[3]}" for row in rows]
        KEPT.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")
    if not KEPT.exists():
        return 1
    lines, worse = differences(found)
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"sectors of {len(found)} kernels of {len(labels)} calls, {len(lines)} differences")
    return int(bool(wrong) or worse)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv.pop())
    sys.exit(main(sys.argv[1:]))
