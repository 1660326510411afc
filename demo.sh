#!/usr/bin/env bash
# From a bare machine to a trained model: setup, configure, build, `longhaul demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'EOF'
usage: ./demo.sh [ARGUMENTS OF `longhaul demo`]

Installs what is missing (./setup.sh), builds the two programs and runs `longhaul demo`: one
coordinator and several workers on this machine train a small model.

  --help         this text (`./demo.sh -- --help` shows the demo's own options)

environment
  LONGHAUL_TORCH_DIR   an existing LibTorch, see ./setup.sh --help
  LONGHAUL_JOBS        parallel compilations (default: one per core, fewer when memory is short)

examples
  ./demo.sh
  ./demo.sh -- --help

exit codes: those of `longhaul demo`; 1 build failure, 3 packages are missing and need root
EOF
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  --) shift ;;
esac

export LONGHAUL_STEP_TOTAL=4
./setup.sh
LONGHAUL_STEP_FIRST=3
# shellcheck source=tools/steps.sh
source tools/steps.sh

build=build/release
options=("$(launcher_option)")
# A fresh tree needs no test libraries; a tree that ./test.sh made stays as it is.
if [[ ! -e $build/CMakeCache.txt ]]; then
  options+=(-DLONGHAUL_TESTS=OFF -DLONGHAUL_BENCH=OFF)
fi
jobs=${LONGHAUL_JOBS:-$(build_jobs)}
run_step "configure" .longhaul/log/configure.log cmake --preset release "${options[@]}"
run_step "build ($jobs jobs)" .longhaul/log/build.log \
  ninja -C "$build" -j "$jobs" longhaul longhaul-worker
trap - INT TERM
exec "$build/bin/longhaul" demo "$@"
