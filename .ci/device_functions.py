"""Execute kernels that call `numba_acts.cuda`, compiled, on the CPU.

The folder that is given has the interpreter. The kernels and what they must give are those of
`tests/device_kernels.py`.
"""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

CAPABILITY = 9, 0
ROOT = Path(__file__).parents[1]


def parameters(arguments):
    """What a kernel is started with: of an array, what Numba knows of it, and where it is."""
    for value in arguments:
        if isinstance(value, np.ndarray):
            where = SimpleNamespace(pointer=value.ctypes.data, size=value.size, dtype=value.dtype)
            yield from (0, 0, value.size, value.itemsize, where, *value.shape, *value.strides)
        else:
            yield value


def ptx(function, types):
    """What the linker gives the assembler, for blocks of one axis."""
    from numba.cuda.dispatcher import _Kernel

    library = _Kernel(function, types, lto=True)._codelibrary
    text = library.get_lto_ptx(cc=CAPABILITY).replace("\0", "")
    return re.sub(r"%n?tid\.[yz]", lambda found: str(int(found[0][1] == "n")), text)


def main() -> int:
    """Run every kernel with every β; the exit status says whether all held."""
    import device

    device.install()
    import device_kernels
    import interpreter
    from numba.cuda.typing.typeof import typeof

    programs, failures, count = {}, 0, 0

    def launch(kernel, blocks, threads, *arguments):
        types = tuple(map(typeof, arguments))
        if kernel not in programs:
            text = ptx(kernel.py_func, types)
            if ".local" in text:
                raise AssertionError("numbers of a thread are not in registers")
            programs[kernel] = interpreter.Program(text, kernel.py_func.__name__)
        given = list(parameters(arguments))
        interpreter.Launch(programs[kernel], blocks, threads, given).run()

    def expected_disparity():
        """The example's kernel is right, and reads each cost once."""
        from benchmarks import cuda_static

        shown = cuda_static.example("expected_disparity")
        costs, out = (device.empty(shape, np.float32).array for shape in ((50, 512), (512,)))
        costs[...] = np.random.default_rng(0).random(costs.shape, np.float32)
        beta = -20.0
        given = costs, beta, out
        text = ptx(shown.expected_shift.py_func, tuple(map(typeof, given)))
        started = interpreter.Launch(
            interpreter.Program(text, "expected_shift"), 4, 128, list(parameters(given))
        )
        started.run()
        np.testing.assert_allclose(out, shown.by_numpy(costs, beta), rtol=1e-5)
        sectors = sum(found[0] for found in started.access.values())
        least = (costs.nbytes + out.nbytes) // 32
        print(f"expected_disparity: {sectors} sectors of memory, at least {least}")
        assert sectors == least

    expected_disparity()
    for group in device_kernels.groups():
        for beta in device_kernels.BETAS:
            count += 1
            try:
                device_kernels.check(group, beta, launch, np.random.default_rng(0))
            except (AssertionError, interpreter.Fault) as error:
                failures += 1
                print(f"{group.label}, beta {beta}: {type(error).__name__}: {error}")
    print(f"{count} kernels that call numba_acts.cuda, {failures} failures")
    return int(failures > 0 or count == 0)


if __name__ == "__main__":
    sys.path[:0] = sys.argv.pop(), str(ROOT), str(ROOT / "tests")
    sys.exit(main())
