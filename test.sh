#!/usr/bin/env bash
# From a bare machine to a test result: setup, configure, build, ctest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'EOF'
usage: ./test.sh [--all] [--lite | --gpu] [--preset NAME] [-R REGEX]

Installs what is missing (./setup.sh --tests), builds and runs the tests. By default the ones with
label `fast`.

  --all          also the labels `slow` and `fuzz`
  --lite         without LibTorch (preset lite)
  --gpu          builds the CUDA plug-in (preset cuda: CUDA 13 toolkit, NCCL) and runs the labels
                 `gpu` and `cuda_twin`; without a GPU only the latter, and says so
  --preset NAME  a preset of CMakePresets.json: release (default), dev, lite, asan, tsan, ci, cuda
  -R REGEX       only tests whose name matches, whatever their label
  --help         this text

environment
  CI                   set to true: warnings are errors, no terminal is expected
  LONGHAUL_TORCH_DIR   an existing LibTorch, see ./setup.sh --help
  LONGHAUL_JOBS        parallel jobs (default: one per core, fewer when memory is short)

examples
  ./test.sh                     the quick tests
  ./test.sh --all               everything, up to an hour
  ./test.sh --preset tsan       the quick tests under the thread sanitizer
  ./test.sh --lite -R common    one folder, without LibTorch

exit codes: ctest's own (0 all passed, 8 some failed), 1 build failure, 2 usage, 3 packages are
missing and need root
EOF
}

usage_error() {
  printf 'test.sh: %s\nTry ./test.sh --help\n' "$1" >&2
  exit 2
}

preset=release labels='^fast$' name_filter=""
while (($#)); do
  case $1 in
    --all) labels='^(fast|slow|fuzz)$' ;;
    --lite) preset=lite ;;
    --gpu) preset=cuda labels='^(gpu|cuda_twin)$' ;;
    --preset | -R)
      if (($# < 2)); then usage_error "$1 needs a value"; fi
      if [[ $1 == -R ]]; then name_filter=$2; else preset=$2; fi
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
setup_options=(--tests)
case $preset in
  release | dev | ci) first_own_step=4 ;;
  cuda)
    first_own_step=4
    if ! command -v nvcc >/dev/null && [[ ! -x /usr/local/cuda/bin/nvcc ]]; then
      printf 'test.sh: needs the CUDA 13 toolkit (nvcc) and NCCL\n' >&2
      exit 1
    fi
    if [[ -e /proc/driver/nvidia/version ]]; then setup_options+=(--gpu); fi
    ;;
  lite | asan | tsan) first_own_step=3; setup_options+=(--lite) ;;
  *) usage_error "unknown preset '$preset'" ;;
esac

export LONGHAUL_STEP_TOTAL=$((first_own_step + 2))
./setup.sh "${setup_options[@]}"
LONGHAUL_STEP_FIRST=$first_own_step
# shellcheck source=tools/steps.sh
source tools/steps.sh

build=build/$preset
options=(-DLONGHAUL_TESTS=ON -DLONGHAUL_BENCH=ON "$(launcher_option)")
if [[ "${CI:-}" == true ]]; then options+=(-DLONGHAUL_WERROR=ON); fi
jobs=${LONGHAUL_JOBS:-$(build_jobs)}
started=$SECONDS

run_step "configure ($preset)" .longhaul/log/configure.log cmake --preset "$preset" "${options[@]}"
run_step "build ($jobs jobs)" .longhaul/log/build.log ninja -C "$build" -j "$jobs"

selection=(-L "$labels")
if [[ -n "$name_filter" ]]; then selection=(-R "$name_filter"); fi
printf '[%d/%d] tests\n' "$step_total" "$step_total"
result=.longhaul/log/ctest.log
rc=0
ctest --test-dir "$build" "${selection[@]}" -j "$jobs" --output-on-failure --no-tests=error \
  --output-junit junit.xml </dev/null 2>&1 | tee "$result" || rc=$?

printf '\n== summary: preset %s, %ds ==\n' "$preset" "$((SECONDS - started))"
sed -n '/% tests passed\|No tests were found/,$p' "$result"
if [[ $preset == cuda && ! -e /proc/driver/nvidia/version ]]; then
  printf 'No NVIDIA driver here: label gpu was built, not run; its kernels ran as twins only.\n'
fi
printf 'report: %s/junit.xml   log: %s\n' "$build" "$result"
exit "$rc"
