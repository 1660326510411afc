#!/usr/bin/env python3
"""The rules of a mean in real processes: all replicas hold the same bits, also after a restart."""

import signal
import unittest

from rig import RigTest, wait_until

CODED = ["sync.codec=bit-budget", "sync.bits=0.5", "sync.codec_down=bit-budget"]
SETTINGS = {
    "sparse": ["sync.codec=top-k", "sync.bits=0.3", "sync.aggregator=contributor_mean",
               "sync.restore_norm=true", "sync.outer_warmup_rounds=2",
               "sync.weights=tokens2_per_step"],
    "capped": [*CODED, "sync.norm_cap=true", "sync.restore_norm=true", "sync.outer_drop_round=3",
               "sync.fragments=2"],
    "unequal": [*CODED, "sync.delta_per_step=true", "sync.steps_per_worker=w1=9"],
    "mixed": ["sync.mixing=0.5", "sync.error_feedback=-1", "sync.overlap_steps=1"],
}


class RulesTest(RigTest):
    """See above. Workers state the hash of every version; a wrong one ends their session."""

    def run_one(self, sets):
        """A run to its end, with the coordinator killed on the way."""
        rig = self.rig()
        sets = [*sets, "run.rounds=6", "train.toy_step_ms=5"]
        first = rig.wait_ready(rig.coordinator(sets=sets))
        workers = [rig.worker("w1"), rig.worker("w2")]
        wait_until(lambda: "RoundCommitted" in rig.journal() or not first.running(), "a round")
        first.signal(signal.SIGKILL)
        first.wait()
        self.ends(rig.wait_ready(rig.coordinator(sets=sets)), 0)
        for worker in workers:
            self.ends(worker, 0)
        names = rig.journal()
        self.assertNotIn("StateDisputed", names)
        self.assertEqual(names.count("SessionOpened"), 2)  # nobody was fenced
        fragments = 2 if "sync.fragments=2" in sets else 1
        self.assertEqual(names.count("RoundCommitted"), 6 * fragments)
        rig.check_ledger(6 * fragments)

    def test_every_setting(self):
        for name, sets in SETTINGS.items():
            with self.subTest(name):
                self.run_one(sets)


if __name__ == "__main__":
    unittest.main()
