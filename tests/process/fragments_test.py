#!/usr/bin/env python3
"""Several fragments in flight, training beside sending, and a planned leave: real processes."""

import re
import signal
import unittest

from rig import RigTest, wait_until

FRAGMENTS = 3
SETS = [f"sync.fragments={FRAGMENTS}", "sync.overlap_steps=2", "train.toy_step_ms=5",
        "run.min_workers=1", "checkpoint.every_rounds=4"]


class FragmentsTest(RigTest):
    """See above."""

    def ended_well(self, rig, rounds):
        """Every fragment is at version `rounds`; nothing is lost, nothing is trained twice."""
        history = rig.history()
        versions = {i: [] for i in range(FRAGMENTS)}
        for commit, _ in history.commits:
            versions[commit.fragment].append(commit.version)
        self.assertEqual(set(map(tuple, versions.values())), {tuple(range(1, rounds + 1))})
        rig.check_ledger(rounds * FRAGMENTS)
        states = {fragment: state for fragment, _, state in history.hashes()}
        self.assertEqual(rig.model(rounds * FRAGMENTS)["state_hashes"],
                         [states[i] for i in range(FRAGMENTS)])
        return history

    def test_two_workers(self):
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=[*SETS, "run.rounds=6"]))
        workers = [rig.worker("w1", "-v"), rig.worker("w2", "-v")]
        self.ends(coordinator, 0)
        said = [self.ends(worker, 0) for worker in workers]
        self.ended_well(rig, 6)
        for text in said:  # it trains between sending and hearing of it
            self.assertRegex(text, r"codes contribution (\d+/\d+) to fragment (\d)\n"
                                   r"(?:(?!to fragment \2 was included).*\n)*.*trains step")

    def test_planned_leave_hands_in_everything(self):
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=[*SETS, "run.rounds=100000"]))
        workers = [rig.worker("w1", "-v"), rig.worker("w2", "-v")]
        wait_until(lambda: len(coordinator.rounds()) > 2 * FRAGMENTS, "some rounds")
        workers[0].signal(signal.SIGTERM)
        said = self.ends(workers[0], 0, "handing in what is trained", "left")
        self.check_all_handed_in(rig, said)
        rounds = len(coordinator.rounds())
        wait_until(lambda: len(coordinator.rounds()) > rounds + FRAGMENTS, "w2 goes on alone")
        coordinator.signal(signal.SIGTERM)
        coordinator.wait()
        last = rig.wait_ready(rig.coordinator("-v", sets=[
            *SETS, f"run.rounds={self.highest(rig) + 1}"]))
        self.ends(last, 0)
        self.ends(workers[1], 0)
        self.ended_well(rig, self.highest(rig))

    def highest(self, rig):
        """The version of the fragment that is furthest."""
        return max(version for _, version, _ in rig.history().hashes())

    def check_all_handed_in(self, rig, said):
        """What a worker has trained is committed on every fragment."""
        session = int(re.search(r"contribution (\d+)/", said).group(1))
        samples = sum(map(int, re.findall(r"trains step \d+ on (\d+) samples", said)))
        wait_until(lambda: "SessionFinishing" in rig.journal(), "it hands in")
        for fragment in range(FRAGMENTS):
            ranges = [r for commit, parts in rig.history().commits for part in parts
                      if part.session == session and commit.fragment == fragment
                      for r in part.ranges]
            self.assertEqual(sum(b - a for _, a, b in ranges), samples)


if __name__ == "__main__":
    unittest.main()
