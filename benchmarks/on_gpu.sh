#!/usr/bin/env bash
# All that a machine with a GPU is wanted for, in less than ten minutes: the tests on the device and
# the measurements. Run in the repository's root: bash benchmarks/on_gpu.sh FOLDER [PART...], where a
# part is tests, measurements or static (the table of compiled kernels, which needs no GPU).
# Logs and results go to FOLDER; each part has its time, none stops the next, a summary comes last.
# Tables and figures follow where the results are kept, benchmarks/results: python -m benchmarks report
set -uo pipefail
folder=${1:?"usage: bash benchmarks/on_gpu.sh FOLDER [PART...]"}
shift
[ $# -gt 0 ] || set -- tests measurements
mkdir -p "$folder"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$(mktemp -d)}
python=${PYTHON:-python3}
failed=""

# numba-cuda looks for NVVM in packages and here; where nvcc is, there is NVVM too.
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
[ -z "$nvcc" ] || export CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$nvcc")")")}

part() {  # name, seconds, command: its output goes to a log
    local name=$1 seconds=$2 started=$SECONDS status
    shift 2
    timeout -k 5 "$seconds" "$@" >"$folder/$name.log" 2>&1
    status=$?
    printf '== %s: status %s after %s s\n' "$name" "$status" "$((SECONDS - started))"
    [ "$status" -eq 0 ] || failed="$failed $name"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$python" - <<'P'
import importlib.metadata as m
import sys
print("python", sys.version.split()[0], end="; ")
for name in ("numba", "numba-cuda", "cuda-core", "cuda-bindings", "numpy", "torch", "triton",
             "cupy-cuda13x", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"):
    try:
        print(name, m.version(name), end="; ")
    except m.PackageNotFoundError:
        print(name, "missing", end="; ")
print()
P
if ! timeout -k 5 60 "$python" -c "
import numpy, numba_acts
from numba import cuda
y = numba_acts.softmin(cuda.to_device(numpy.zeros(4, numpy.float32))).copy_to_host()
assert (y == 0.25).all(), y" >"$folder/first.log" 2>&1; then
    echo "the first call failed:"
    tail -n 25 "$folder/first.log"
    exit 1
fi

workers=()
"$python" -c "import xdist" 2>/dev/null && workers=(-n "$(($(nproc) * 3 / 4))")
for name in "$@"; do
    case $name in
    tests) part tests 270 "$python" -m pytest --full -q -p no:cacheprovider -W default "${workers[@]}" \
        -m gpu tests/test_gpu.py ;;
    measurements) part measurements 280 "$python" -m benchmarks cuda --bare --output "$folder" ;;
    static) part static 240 "$python" -m benchmarks cuda-static ;;
    *) echo "no part is called $name" ;;
    esac
done

if [ -f "$folder/tests.log" ]; then
    grep -E '^(FAILED|ERROR|E  )' "$folder/tests.log" | sort | uniq -c | sort -rn | head -25
    tail -n 1 "$folder/tests.log"
fi
if [ -f "$folder/static.log" ]; then
    grep -B1 '^    ' "$folder/static.log" | head -20
    tail -n 1 "$folder/static.log"
fi
# The table at the end; without it, if the time was too short, what was printed until then.
[ ! -f "$folder/measurements.log" ] || tail -n 100 "$folder/measurements.log"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
