#!/usr/bin/env bash
# Predictive coding on digits: does credit reach every layer, does it learn, and what do late, lost
# and repeated messages between blocks cost? Ends with a picture, staleness.svg.
#
#   examples/pcn_digits/run.sh [--quick] [FOLDER OF THE PROGRAMS] [OUTPUT FOLDER]
#                              default: build/release/bin, a temporary folder (its name is printed)
#
# Images: IDX digits in $LONGHAUL_TEST_DATA/images when that is set, otherwise generated ones.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
quick=()
if [[ ${1:-} == --quick ]]; then
  quick=(--quick)
  shift
fi
bin=$(cd "${1:-$root/build/release/bin}" && pwd)
out=${2:-$(mktemp -d)}
mkdir -p "$out"
images=()
if [[ -n ${LONGHAUL_TEST_DATA:-} ]]; then images=(--images "$LONGHAUL_TEST_DATA/images"); fi

echo "== does credit reach every layer? =="
"$bin/longhaul" pcn doctor --rule spc --sweeps 3 --rate 0.03
echo
echo "== what staleness costs =="
"$bin/longhaul-bench" pcn --suite relay "${quick[@]}" "${images[@]}" --json "$out/relay.json"
python3 -B "$root/examples/pcn_digits/plot.py" "$out/relay.json" "$out/staleness.svg"
echo "picture: $out/staleness.svg"
