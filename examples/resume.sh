#!/usr/bin/env bash
# Back to a checkpoint: a coordinator is stopped in the middle of a run and started again from an
# earlier checkpoint, as a new generation. Both toy workers live on, reconnect by themselves, drop
# what they trained since that checkpoint, and finish the run.
#
#   examples/resume.sh [FOLDER OF THE PROGRAMS]      default: build/release/bin
#
# Everything is written to a temporary folder that is removed at the end. Exit code: the
# coordinator's; 1 when the first part did not stop as it should.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${1:-$root/build/release/bin}
bin=$(cd "$bin" && pwd)

folder=$(mktemp -d)
workers=()
coordinator=
cleanup() {
  for pid in $coordinator "${workers[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

# start ADDRESS ROUNDS [MORE ARGUMENTS]: a coordinator whose output is read from $coordinator_says.
start() {
  exec {coordinator_says}< <(exec "$bin/longhaul" coordinator run.toml \
    --set network.listen="$1" --set run.rounds="$2" "${@:3}" \
    --set train.optimizer=toy --set train.toy_step_ms=10 --set model.preset=llama-130k \
    --set train.lr_schedule=constant --set checkpoint.every_rounds=2 --set network.http=)
  coordinator=$!
}

# show_until REGEX: passes lines on until one matches, which is left in $line.
show_until() {
  while read -r -u "$coordinator_says" line; do
    printf '%s\n' "$line"
    if [[ $line =~ $1 ]]; then return 0; fi
  done
  echo "resume.sh: the coordinator ended before it said: $1" >&2
  return 1
}

"$bin/longhaul" init run.toml
start 127.0.0.1:0 1000
show_until '^address'
address=${line##* }
show_until '^join with'
invitation=${line##* }
for name in first second; do
  "$bin/longhaul-worker-toy" "$invitation" --name "$name" --home "$folder/$name" &
  workers+=($!)
done

show_until '^round +5/'
kill "$coordinator"
cat <&"$coordinator_says"
rc=0
wait "$coordinator" || rc=$?
if ((rc != 130)); then
  echo "resume.sh: the stopped coordinator ended with $rc instead of 130" >&2
  exit 1
fi

checkpoints=(runs/run/checkpoints/round-*)
echo "checkpoints: ${checkpoints[*]}"
echo "back to ${checkpoints[0]}, at the same address"
start "$address" 8 --resume "${checkpoints[0]}"
cat <&"$coordinator_says"
wait "$coordinator"
