#!/usr/bin/env python3
"""What the coordinator sends of training data when many workers share: each block about once.

    egress_test.py [--workers N] [--megabytes N] [unittest's own]

One epoch of a data set of two domains. Printed: bytes that the coordinator sent (index and manifest
included), as a share of the stored blocks that somebody used.
"""

import argparse
import re
import subprocess
import sys
import unittest

from data_test import write_domain
from rig import BIN, RigTest

ARGS = argparse.Namespace(workers=20, megabytes=24)
SAMPLE = 1024
STEPS = 16
ROUNDS = 8


class EgressTest(RigTest):
    """See above."""

    def test_each_block_once(self):
        """The coordinator sends little more than what was used; the rest comes from workers."""
        rig = self.rig()
        write_domain(rig.folder / "web.txt", "web", ARGS.megabytes * 700_000)
        write_domain(rig.folder / "code.txt", "code", ARGS.megabytes * 300_000)
        subprocess.run([BIN / "longhaul", "data", "prepare", "web=web.txt", "code=code.txt", "-o",
                        "set"], cwd=rig.folder, check=True, capture_output=True, timeout=120)
        sets = [f"run.min_workers={ARGS.workers}", f"run.rounds={ROUNDS}", "train.toy_step_ms=50",
                f"data.sequence_length={SAMPLE}", "data.manifest=set", f"sync.inner_steps={STEPS}",
                "round.quorum=1"]
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=sets))
        names = [f"w{i}" for i in range(ARGS.workers)]
        workers = [rig.worker(name, "-v", "--peer", "127.0.0.1:0") for name in names]
        said = self.ends(coordinator, 0)
        given = sum(int(n) for worker in workers
                    for n in re.findall(r"(\d+) bytes given", self.ends(worker, 0)))
        used = {}
        for name in names:
            for path in (rig.folder / "homes" / name).glob("worker.key.runs/*/blocks/*"):
                used[path.name] = path.stat().st_size
        blocks = sum(used.values())
        sent = int(re.search(r"training data: (\d+) bytes sent", said)[1])
        print(f"{ARGS.workers} workers, {len(used)} blocks of {blocks} bytes used: "
              f"coordinator sent {sent} ({sent / blocks:.3f}), "
              f"workers gave each other {given} ({given / blocks:.2f})", flush=True)
        rig.check_ledger(ROUNDS)
        self.assertLess(sent, 1.5 * blocks)
        self.assertGreater(given, 0.5 * (ARGS.workers - 1) * blocks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=ARGS.workers)
    parser.add_argument("--megabytes", type=int, default=ARGS.megabytes)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest)
