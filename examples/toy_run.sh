#!/usr/bin/env bash
# A whole run over real sockets on the loopback interface: one coordinator, two toy workers (no
# neural network, no LibTorch), from `longhaul init` to the summary. The port is any free one.
#
#   examples/toy_run.sh [FOLDER OF THE PROGRAMS]      default: build/release/bin
#
# Everything is written to a temporary folder that is removed at the end. Exit code: the
# coordinator's.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${1:-$root/build/release/bin}
bin=$(cd "$bin" && pwd)

folder=$(mktemp -d)
workers=()
cleanup() {
  for pid in "${workers[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

"$bin/longhaul" init toy.toml
exec {coordinator_says}< <(exec "$bin/longhaul" coordinator toy.toml \
  --set train.optimizer=toy --set train.toy_step_ms=2 --set model.preset=llama-130k \
  --set run.rounds=6 --set checkpoint.every_rounds=3 \
  --set network.listen=127.0.0.1:0 --set network.http=127.0.0.1:0)
coordinator=$!

# The coordinator prints one line that every worker pastes.
while read -r -u "$coordinator_says" line; do
  printf '%s\n' "$line"
  if [[ $line == "join with"* ]]; then break; fi
done
invitation=${line##* }

for name in first second; do
  "$bin/longhaul-worker-toy" "$invitation" --name "$name" --home "$folder/$name" &
  workers+=($!)
done
cat <&"$coordinator_says" # one line per round, then the summary
wait "$coordinator"
