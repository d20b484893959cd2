#!/usr/bin/env bash
# All that a machine with a GPU is wanted for, in less than ten minutes: the tests on the device and
# the measurements. Run in the repository's root: bash benchmarks/on_gpu.sh FOLDER [PART...], where a
# part is tests, measurements or static (the table of compiled kernels, which needs no GPU).
# Logs and results go to FOLDER; each part is summed up as it ends, and none stops the next. Ended from
# outside, the script sums up what the part had written until then.
# Tables and figures follow where the results are kept, benchmarks/results: python -m benchmarks report
set -uo pipefail
folder=${1:?"usage: bash benchmarks/on_gpu.sh FOLDER [PART...]"}
shift
[ $# -gt 0 ] || set -- tests measurements
mkdir -p "$folder"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$(mktemp -d)}
python=${PYTHON:-python3}
failed="" running="" child=""

# numba-cuda looks for NVVM in packages and here; where nvcc is, there is NVVM too.
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
[ -z "$nvcc" ] || export CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$nvcc")")")}

summary() {  # of a part, from its log
    local log=$folder/$1.log
    case $1 in
    tests)
        grep -E '^(FAILED|ERROR|E  )' "$log" | sort | uniq -c | sort -rn | head -25
        tail -n 1 "$log" ;;
    static)
        grep -B1 '^    ' "$log" | head -20
        tail -n 1 "$log" ;;
    # The table at the end; without it, if the time was too short, the lines of the cases until then.
    measurements) tail -n 110 "$log" ;;
    *) tail -n 25 "$log" ;;
    esac
}

part() {  # name, seconds, command: its output goes to a log
    local started=$SECONDS status
    running=$1
    timeout -k 5 "$2" "${@:3}" >"$folder/$1.log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    running=""
    printf '== %s: status %s after %s s\n' "$1" "$status" "$((SECONDS - started))"
    summary "$1"
    [ "$status" -eq 0 ] || failed="$failed $1"
    return "$status"
}

ended() {
    [ -z "$running" ] || { kill "$child"; printf '== %s: cut short\n' "$running"; summary "$running"; }
    exit 143
}
trap ended TERM INT HUP

workers() {  # that the cores and the free memory carry: 1 GB of the host's and 0.6 GB of the GPU's each
    local cores host device
    cores=$(($(nproc) * 3 / 4))
    host=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
    for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
        [ -r "$limit" ] && [ "$(cat "$limit")" != max ] || continue
        limit=$(($(cat "$limit") >> 30))
        [ "$limit" -ge "$host" ] || host=$limit
    done
    device=$(nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits | head -1)
    printf '%s\n' "$cores" "$((host - 2))" "$((device / 600))" | sort -n | head -1
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
# The limits of the first call, the tests and the measurements are 550 seconds together.
part first 40 "$python" -c "
import numpy, numba_acts
from numba import cuda
y = numba_acts.softmin(cuda.to_device(numpy.zeros(4, numpy.float32))).copy_to_host()
assert (y == 0.25).all(), y" || exit 1

for name in "$@"; do
    case $name in
    tests)
        many=()
        count=$(workers)
        [ "$count" -lt 2 ] || ! "$python" -c "import xdist" 2>/dev/null || many=(-n "$count")
        part tests 220 "$python" -m pytest --full -q -p no:cacheprovider -W default \
            ${many[@]+"${many[@]}"} -m gpu tests/test_gpu.py tests/test_device_functions.py ;;
    measurements) part measurements 290 "$python" -m benchmarks cuda --bare --output "$folder" ;;
    static) part static 240 "$python" -m benchmarks cuda-static ;;
    *) echo "no part is called $name" ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
