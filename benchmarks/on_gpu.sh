#!/usr/bin/env bash
# All that a machine with a GPU is wanted for, in less than ten minutes: the tests on the device, the
# static table, the measurements. Run in the repository's root: bash benchmarks/on_gpu.sh FOLDER
# Logs and results go to FOLDER; each part has its time, none stops the next, a summary comes last.
set -uo pipefail
folder=${1:?"usage: bash benchmarks/on_gpu.sh FOLDER"}
mkdir -p "$folder"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$(mktemp -d)}
python=${PYTHON:-python3}
failed=""

part() {  # name, seconds, command: its output goes to a log
    local name=$1 seconds=$2 started=$SECONDS status
    shift 2
    timeout "$seconds" "$@" >"$folder/$name.log" 2>&1
    status=$?
    printf '== %s: status %s after %s s\n' "$name" "$status" "$((SECONDS - started))"
    [ "$status" -eq 0 ] || failed="$failed $name"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
"$python" - <<'P'
import importlib.metadata as m
for name in ("numba", "numba-cuda", "cuda-core", "cuda-bindings", "numpy", "torch", "triton",
             "cupy-cuda13x", "nvidia-nvvm", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"):
    try:
        print(name, m.version(name), end="; ")
    except m.PackageNotFoundError:
        print(name, "missing", end="; ")
print()
P
workers=()
"$python" -c "import xdist" 2>/dev/null && workers=(-n "$(($(nproc) * 3 / 4))")
part tests 270 "$python" -m pytest -q -p no:cacheprovider "${workers[@]}" -m gpu tests/test_gpu.py
part static 120 "$python" -m benchmarks cuda-static
part measurements 190 "$python" -m benchmarks cuda --output "$folder"

grep -E '^(FAILED|ERROR)' "$folder/tests.log" | head -15
tail -n 1 "$folder/tests.log"
grep -B1 '^    ' "$folder/static.log" | head -20
tail -n 1 "$folder/static.log"
sed -n "/share of a copy's bandwidth/,\$p" "$folder/measurements.log"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
