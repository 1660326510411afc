#!/usr/bin/env bash
# Four stages of Relay, 100 Mbit/s and 80 ms from each other (tier tun of the WAN lab), with work of
# a known length: is the share of time at work what the model says, and what does the delay cost?
#
#   examples/pcn_digits/long_links.sh [FOLDER OF THE PROGRAMS] [OUTPUT FOLDER] [MICRO-BATCHES]
#
# With IDX digits in $LONGHAUL_TEST_DATA/images it ends with the accuracy on held-out ones, beside
# that of the same network without delay.
#
# A forward pass takes UNIT_MS, a credit (forward again, and back) three of them. With N
# micro-batches in flight, a state of B d q bytes and one-way time c = 40 ms + B d q / rate, a
# micro-batch is under way for (2 c + 4 units) per lower stage and 3 units at the top, so the first
# stage works min(1, N 4 units / that time) of the time.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$(cd "${1:-$root/build/release/bin}" && pwd)
out=${2:-$(mktemp -d)}
count=${3:-600}
unit_ms=10
mkdir -p "$out"
out=$(cd "$out" && pwd)
images=(--generated-images 5000)
stage_images=
if [[ -n ${LONGHAUL_TEST_DATA:-} ]]; then
  images=()
  stage_images="--images $LONGHAUL_TEST_DATA/images"
fi

run() {  # NAME IN_FLIGHT
  local invitation=$out/$1.txt report=$out/$1.json with=()
  rm -f "$invitation" "$report"
  with+=(--with "hub=$bin/longhaul pcn relay --stages 4 --first-layers 0,2,4,6 \
--listen 10.77.0.1:7450 --invitation $invitation --json $report --micro-batches $count \
--max-in-flight $2 --work-unit-ms $unit_ms --hop-ms 400 --lease 10 ${images[*]}")
  stage() {
    echo "until [ -s $invitation ]; do sleep 0.1; done; \
$bin/longhaul-worker pcn-stage @$invitation --listen 10.77.0.$(($1 + 1)):7450 \
--speed $((10 - $1)) --output $out/$2-blocks $stage_images"
  }
  for k in 1 2 3; do with+=(--with "stage$k=$(stage $k "$1")"); done
  "$bin/longhaul" wan exec "$root/examples/pcn_digits/long-links.toml" --on stage4 "${with[@]}" -- \
    sh -c "$(stage 4 "$1"); until [ -s $report ]; do sleep 0.1; done"
  python3 -B "$root/examples/pcn_digits/long_links.py" "$report" "$2" "$unit_ms"
}

# The same without any delay: one block, one micro-batch at a time.
run_synchronous() {
  local invitation=$out/synchronous.txt
  rm -f "$invitation"
  "$bin/longhaul" pcn relay --stages 1 --synchronous --invitation "$invitation" \
    --micro-batches "$count" "${images[@]}" &
  until [[ -s $invitation ]]; do sleep 0.1; done
  "$bin/longhaul-worker" pcn-stage "@$invitation" --output "$out/synchronous-blocks" $stage_images
  wait
}

run half 8
run full 16
[[ -n $stage_images ]] || exit 0
run_synchronous
for name in half full synchronous; do
  python3 -B "$root/examples/pcn_digits/accuracy.py" "$out/$name-blocks" \
    "$LONGHAUL_TEST_DATA/images"
done
