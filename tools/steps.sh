# Numbered steps with time, progress and a log each. Sourced by setup.sh, test.sh and demo.sh.
# shellcheck shell=bash

step_number=${LONGHAUL_STEP_FIRST:-1}
step_total=${LONGHAUL_STEP_TOTAL:-1}
step_pid=""

# On a terminal one line is rewritten; elsewhere (CI) a line appears every 30 seconds.
step_interrupted() {
  if [[ -n "$step_pid" ]]; then kill -TERM -- "-$step_pid" 2>/dev/null || true; fi
  printf '\ninterrupted\n' >&2
  exit 130
}
trap step_interrupted INT TERM

# run_step NAME LOG COMMAND...: runs COMMAND with its output in LOG. A failure shows the last 30
# lines and ends the script with exit code 1.
run_step() {
  local name=$1 log=$2
  shift 2
  local start=$SECONDS noted=$SECONDS rc=0 label last note
  label="[$step_number/$step_total] $name"
  step_number=$((step_number + 1))
  mkdir -p "$(dirname "$log")"
  printf '%s ... ' "$label"
  set -m  # its own process group, so that an interrupt reaches the whole tree
  "$@" >"$log" 2>&1 </dev/null &
  step_pid=$!
  set +m
  while kill -0 "$step_pid" 2>/dev/null; do
    if [[ -t 1 ]]; then
      last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\0' | cut -c "1-$((76 - ${#label}))") || true
      printf '\r\033[K%s ... %s' "$label" "$last"
    elif ((SECONDS - noted >= 30)); then
      noted=$SECONDS
      last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r\0' | cut -c 1-80) || true
      printf '\n  %ds  %s ' "$((SECONDS - start))" "$last"
    fi
    sleep 0.2
  done
  wait "$step_pid" || rc=$?
  step_pid=""
  if [[ -t 1 ]]; then printf '\r\033[K%s ... ' "$label"; fi
  if ((rc == 0)); then
    # A command says something worth showing in a last line of the form "note: ...".
    note=$(tail -n 1 "$log" | sed -n 's/^note: /  /p')
    printf 'ok %ds%s\n' "$((SECONDS - start))" "$note"
  else
    printf 'FAILED %ds\n' "$((SECONDS - start))"
    { tail -n 30 "$log"; printf '\n%s failed (exit %d). Whole log: %s\n' "$name" "$rc" "$log"; } >&2
    exit 1
  fi
}

# Parallel jobs: one per core, but no more than memory allows (a LibTorch source file needs 1.5 GB).
build_jobs() {
  local cores memory_kib by_memory
  cores=$(nproc)
  memory_kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  by_memory=$((memory_kib / 1500000))
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((cores < by_memory ? cores : by_memory))
}

# For cmake: compile through ccache when it is there.
launcher_option() {
  printf -- '-DCMAKE_CXX_COMPILER_LAUNCHER=%s\n' "$(command -v ccache || true)"
}
