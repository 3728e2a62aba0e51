#!/usr/bin/env bash
# The kernel tests with sanitizers in the kernel: sanitize.sh PYTHON [address,undefined | thread] [pytest options]
# PYTHON's environment holds numpy, pytest, hypothesis, cmake, ninja and nanobind. Tests that fork or measure
# time are left out, since sanitizers upset both, and so is torch, whose own reports would drown ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1 sanitizers=${2:-address,undefined}
shift $(($# < 2 ? $# : 2))
build=build/sanitize-${sanitizers//,/-}
export PATH="$(cd "$(dirname "$python")" && pwd):$PATH"

cmake -G Ninja -S . -B "$build" -DPython_EXECUTABLE="$(command -v "$(basename "$python")")" \
  -DUNDERTOW_SANITIZE="$sanitizers"
cmake --build "$build"
rm -rf "$build/site"
mkdir "$build/site"
cp -r src/undertow "$build/site/"
rm -f "$build"/site/undertow/kernels/_native*.so
cmake --install "$build" --prefix "$build/site"

# Python itself is not built for them, so their libraries must come first; libstdc++ for what they intercept in it.
libraries=""
for library in asan:address ubsan:undefined tsan:thread; do
  if [[ ",$sanitizers," == *",${library#*:},"* ]]; then
    libraries+="$(${CXX:-c++} -print-file-name="lib${library%:*}.so") "
  fi
done
libraries+=$(${CXX:-c++} -print-file-name=libstdc++.so)

# --capture=sys: what a sanitizer writes to the terminal must not be lost with pytest's own capture.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1 OMP_NUM_THREADS=1
export PYTHONPATH="$PWD/$build/site" PYTHONMALLOC=malloc
LD_PRELOAD="$libraries" "$python" -m pytest tests/native tests/stream/test_stream.py -p no:cacheprovider --capture=sys \
  -m "not sanitizer_conflict" --ignore=tests/native/test_torch.py --ignore=tests/native/test_bfloat16.py "$@"
