#!/usr/bin/env python3
"""Compares the share of time that stages worked with the model of long_links.sh.

    long_links.py REPORT.json IN_FLIGHT UNIT_MS
"""

import json
import pathlib
import sys

ONE_WAY_S, BYTES_PER_S = 0.040, 100e6 / 8
STATE_BYTES = 128 * 256 * 4 + 76


def model(stages, in_flight, unit_s):
    """Share of time at work of each stage."""
    message = ONE_WAY_S + STATE_BYTES / BYTES_PER_S
    under_way = (stages - 1) * (2 * message + 4 * unit_s) + 3 * unit_s
    slowest = max(4 * unit_s, STATE_BYTES / BYTES_PER_S)
    per_s = min(in_flight / under_way, 1 / slowest)
    return [per_s * (3 if k + 1 == stages else 4) * unit_s for k in range(stages)]


def main():
    """Command line."""
    if len(sys.argv) != 4:
        print(__doc__.strip())
        sys.exit(2)
    report = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    shares = model(len(report["stages"]), int(sys.argv[2]), float(sys.argv[3]) / 1000)
    for k, (stage, share) in enumerate(zip(report["stages"], shares)):
        print(f"stage {k}: at work {100 * stage['utilisation']:.1f} % of the time, model "
              f"{100 * share:.1f} %, ratio {stage['utilisation'] / share:.3f}, "
              f"median gap {stage['gap_median']}")


if __name__ == "__main__":
    main()
