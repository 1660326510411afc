#!/usr/bin/env python3
"""Rounds that workers reduce: the same bits as the coordinator's, with and without connections
between the workers, and when a reducer is killed in the middle of an exchange."""

import signal
import unittest

from rig import RigTest, wait_until

NAMES = ("w1", "w2", "w3")
SETS = ("run.min_workers=3", "reduce.slices=2")  # llama-130k has three chunks
WORKERS = (*SETS, "reduce.placement=workers", "reduce.trusted=w1,w2")
# Without what the reducers keep, every history of who trained what has one end.
NO_RESIDUAL = ("sync.error_feedback=-1", "run.rounds=2", "checkpoint.every_rounds=2",
               "round.quorum=0.5")


class ReducersTest(RigTest):
    """See above."""

    def play(self, sets, peers=(), fault="", advertise=None):
        """A run with three workers; (rig, coordinator, workers). `fault` is w2's."""
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=sets))
        workers = {}
        for name in NAMES:
            arguments = ["-v"]
            if name in peers:
                arguments += ["--peer", "127.0.0.1:0"]
                arguments += ["--peer-advertise", advertise] if advertise else []
            workers[name] = rig.worker(name, *arguments, fault=fault if name == "w2" else "")
            workers[name].wait_for("joined run")
        return rig, coordinator, workers

    def finish(self, rig, coordinator, workers, rounds, victim=None):
        """All end well; the state hashes of every version, and what the coordinator said."""
        for name, worker in workers.items():
            self.ends(worker, -signal.SIGKILL if name == victim else 0)
        said = self.ends(coordinator, 0)
        self.assertNotIn("holds another state", said)
        rig.check_ledger(rounds)
        history = rig.history()
        self.assertEqual(rig.model(rounds)["state_hashes"], [history.hashes()[-1][2]])
        return history, said

    def test_workers_reduce_to_the_same_bits(self):
        star, _ = self.finish(*self.play(SETS), 3)
        history, said = self.finish(*self.play(WORKERS, peers=("w1", "w2")), 3)
        self.assertEqual(history.membership(), star.membership())
        self.assertEqual(history.hashes(), star.hashes())
        self.assertIn("is reduced by session 1 (2 chunks) session 2 (1 chunk)", said)
        self.assertIn("session 1 (2 chunks, continues) session 2 (1 chunk, continues)", said)
        self.assertIn("is reduced by w1 (2 chunks), w2 (1 chunk)", said)
        self.assertNotIn(" moves from ", said)

    def test_nobody_offers(self):
        star, _ = self.finish(*self.play(SETS), 3)
        history, said = self.finish(*self.play(WORKERS), 3)
        self.assertEqual(history.hashes(), star.hashes())
        self.assertIn("is reduced by the coordinator: no trusted worker offers to", said)

    def test_workers_that_cannot_reach_each_other(self):
        star, _ = self.finish(*self.play(SETS), 3)
        rig, coordinator, workers = self.play(WORKERS, peers=("w1", "w2"), advertise="127.0.0.1:1")
        history, said = self.finish(rig, coordinator, workers, 3)
        self.assertEqual(history.hashes(), star.hashes())
        self.assertNotIn(" moves from ", said)
        self.assertIn("not reached, relayed", workers["w3"].text())

    def test_reducer_killed_before_it_contributes(self):
        at = "log:codes contribution:2:kill"
        star, _ = self.finish(*self.play((*SETS, *NO_RESIDUAL), fault=at), 2, "w2")
        history, said = self.finish(
            *self.play((*WORKERS, *NO_RESIDUAL), peers=("w1", "w2"), fault=at), 2, "w2")
        self.assertIn("slice 1 moves from session 2 to session 1", said)
        self.assertIn("slice 1 of w2, which is lost, goes to w1", said)
        self.assertNotIn("slice 0 moves", said)
        self.assertEqual(history.membership(), star.membership())
        self.assertEqual(history.hashes(), star.hashes())

    def test_reducer_killed_with_its_slice_ready(self):
        one = (*NO_RESIDUAL, "run.rounds=1", "checkpoint.every_rounds=1")
        star, _ = self.finish(
            *self.play((*SETS, *one), fault="log:codes contribution:1:kill"), 1, "w2")
        history, said = self.finish(
            *self.play((*WORKERS, *one), peers=("w1", "w2"),
                       fault="log:has slice 1:1:kill"), 1, "w2")
        self.assertIn("slice 1 moves from session 2 to session 1", said)
        self.assertNotIn("slice 0 moves", said)
        # What only the dead one could send again is left out, everywhere.
        self.assertIn("closed, attempt 2: 1/1 3/1", said)
        self.assertEqual(history.membership(), star.membership())
        self.assertEqual(history.hashes(), star.hashes())

    def test_coordinator_killed_while_workers_reduce(self):
        rig, coordinator, workers = self.play((*WORKERS, "train.toy_step_ms=5"),
                                              peers=("w1", "w2"))
        wait_until(lambda: "SlicesPlaced" in rig.journal() and "ContributionCut" in rig.journal(),
                   "a contribution")
        coordinator.process.kill()
        coordinator.wait()
        again = rig.wait_ready(rig.coordinator("-v", sets=(*WORKERS, "train.toy_step_ms=5")))
        self.finish(rig, again, workers, 3)


if __name__ == "__main__":
    unittest.main()
