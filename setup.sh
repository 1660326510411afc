#!/usr/bin/env bash
# Installs what the build needs: distribution packages, and LibTorch into .longhaul/torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'EOF'
usage: ./setup.sh [--lite | --gpu] [--tests]

Installs the distribution packages that are missing (with apt, as root or by sudo), then LibTorch
2.11.0 into .longhaul/torch (545 MB download, 1.3 GB on disk, nothing outside this folder but a
download cache). A second run does nothing and needs no network.

  --lite    no LibTorch: coordinator, command line, WAN lab, toy worker
  --gpu     also the CUDA libraries that LibTorch loads on a machine with an NVIDIA GPU (2.5 GB)
  --tests   also what the tests need
  --help    this text

environment
  LONGHAUL_TORCH_DIR    use the LibTorch in this folder (it holds lib/libtorch_cpu.so); no download
  LONGHAUL_NO_PACKAGES  set to 1: leave packages alone (another distribution, or they are there)
  XDG_CACHE_HOME        downloads are kept in $XDG_CACHE_HOME/longhaul/wheels (default ~/.cache)
  PIP_INDEX_URL         another package index; pip's configuration files are read too

examples
  ./setup.sh                                  everything to build and run
  ./setup.sh --lite --tests                   what the sanitizer builds need
  LONGHAUL_TORCH_DIR=/opt/libtorch ./setup.sh

exit codes: 0 ok, 1 failure, 2 usage, 3 packages are missing and need root
EOF
}

usage_error() {
  printf 'setup.sh: %s\nTry ./setup.sh --help\n' "$1" >&2
  exit 2
}

lite=0 gpu=0 tests=0 sections="base"
while (($#)); do
  case $1 in
    --lite) lite=1 ;;
    --gpu) gpu=1 ;;
    --tests) sections+=" test" tests=1 ;;
    -h | --help) usage; exit 0 ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
if ((lite && gpu)); then usage_error "--lite and --gpu exclude each other"; fi
if ((!lite)) && [[ -z "${LONGHAUL_TORCH_DIR:-}" ]]; then sections+=" torch"; fi
: "${LONGHAUL_STEP_TOTAL:=$(((lite ? 1 : 2) + tests))}"
# shellcheck source=tools/steps.sh
source tools/steps.sh
logs=.longhaul/log

wanted_packages() {
  awk -v sections=" $sections " '
    /^\[/ { on = index(sections, " " substr($1, 2, length($1) - 2) " ") > 0; next }
    NF && !/^#/ && on && !seen[$1]++ { print $1 }' tools/packages.txt
}

missing_packages() {
  local package
  for package in $(wanted_packages); do
    if [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]]; then
      echo "$package"
    fi
  done
}

apt_install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300
             -o Acquire::Retries=3)
  if ((EUID != 0)); then apt=(sudo -n "${apt[@]}"); fi
  "${apt[@]}" update || echo "apt-get update failed; trying with the lists that are there"
  "${apt[@]}" install --no-install-recommends "$@"
  echo "note: $# installed"
}

install_packages() {
  local missing
  if [[ "${LONGHAUL_NO_PACKAGES:-}" == 1 ]]; then
    run_step "system packages" "$logs/packages.log" echo "note: not checked (LONGHAUL_NO_PACKAGES)"
    return
  fi
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    printf 'setup.sh knows only Debian and its relatives. Install these packages, then ' >&2
    printf 'set LONGHAUL_NO_PACKAGES=1:\n  %s\n' "$(wanted_packages | tr '\n' ' ')" >&2
    exit 1
  fi
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then
    run_step "system packages" "$logs/packages.log" echo "note: all there"
    return
  fi
  if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
    printf '%d system packages are missing. Run this, then start again:\n' "${#missing[@]}" >&2
    printf '  sudo apt-get install --no-install-recommends %s\n' "${missing[*]}" >&2
    exit 3
  fi
  require_free_mb /usr 1500 "system packages"
  run_step "system packages (${#missing[@]} missing)" "$logs/packages.log" \
    apt_install "${missing[@]}"
}

require_free_mb() {
  local free
  free=$(df -Pm "$1" | awk 'NR == 2 {print $4}')
  if ((free < $2)); then
    printf '%s: %d MB free, %d MB needed for the %s.\n' "$1" "$free" "$2" "$3" >&2
    exit 1
  fi
}

install_torch() {
  local sets=cpu
  if [[ -n "${LONGHAUL_TORCH_DIR:-}" ]]; then
    if [[ ! -e "$LONGHAUL_TORCH_DIR/lib/libtorch_cpu.so" ]]; then
      printf 'LONGHAUL_TORCH_DIR=%s: no lib/libtorch_cpu.so there\n' "$LONGHAUL_TORCH_DIR" >&2
      exit 1
    fi
    run_step "LibTorch" "$logs/torch.log" echo "note: given by LONGHAUL_TORCH_DIR"
    return
  fi
  if ((gpu)); then sets=cpu,gpu; fi
  run_step "LibTorch 2.11.0" "$logs/torch.log" \
    python3 -u tools/fetch_wheels.py --sets "$sets" --target .longhaul/torch
}

# TensorBoard's own reader, for one test; in an environment of its own, from PyPI.
install_tensorboard() {
  local python=.longhaul/python
  if "$python/bin/python" -c 'import tensorboard' 2>/dev/null; then
    echo "note: there"
    return
  fi
  rm -rf "$python"
  python3 -m venv "$python"
  "$python/bin/python" -m pip install --quiet --disable-pip-version-check tensorboard==2.21.0
}

install_packages
if ((!lite)); then install_torch; fi
if ((tests)); then
  run_step "TensorBoard, to check our event files" "$logs/tensorboard.log" install_tensorboard
fi
