#!/usr/bin/env python3
"""Ctrl-C, kills and returns of real processes."""

import signal
import unittest

from rig import FAILURE, INTERRUPTED, LONG_RUN, RigTest, wait_until


class StoppingTest(RigTest):
    """Ctrl-C, kills and returns."""

    def running(self, workers=1):
        """A rig whose run has committed a round."""
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=LONG_RUN))
        started = []
        for i in range(workers):
            started.append(rig.worker(f"w{i + 1}"))
            started[-1].wait_for("joined run")
        wait_until(coordinator.rounds, "a round is committed")
        return rig, coordinator, started

    def finish(self, rig, coordinator):
        """Lets a run that is stopped end after one more round."""
        rounds = rig.journal().count("RoundCommitted") + 1
        last = rig.wait_ready(rig.coordinator(sets=[*LONG_RUN[1:], f"run.rounds={rounds}"]))
        self.ends(last, 0)
        self.assertEqual(last.rounds()[-1]["round"], rounds)

    def test_ctrl_c_on_the_coordinator(self):
        rig, coordinator, (worker,) = self.running()
        coordinator.signal(signal.SIGINT)
        self.ends(coordinator, INTERRUPTED, "the same command goes on from here")
        self.finish(rig, coordinator)
        self.ends(worker, 0)

    def test_ctrl_c_on_a_worker_returns_its_leases_at_once(self):
        rig, coordinator, (first, second) = self.running(2)
        first.signal(signal.SIGINT)
        self.ends(first, 0, "left")
        coordinator.wait_for("session 1 ended: left")
        rounds = len(coordinator.rounds())
        wait_until(lambda: len(coordinator.rounds()) > rounds + 2, "w2 goes on alone")
        self.assertTrue(second.running())

    def test_killed_worker_comes_back_with_the_same_key(self):
        rig, coordinator, (first, _) = self.running(2)
        first.process.kill()
        first.wait()
        again = rig.start("again", rig.worker_argv("w1"))
        again.wait_for("joined run")
        coordinator.wait_for("session 1 ended: superseded")
        coordinator.wait_for("session 3 ready")
        self.assertEqual(rig.journal().count("WorkerEnrolled"), 2)
        rounds = len(coordinator.rounds())
        wait_until(lambda: len(coordinator.rounds()) > rounds + 1, "the run goes on")

    def test_workers_stay_while_the_coordinator_restarts(self):
        rig, coordinator, workers = self.running(2)
        coordinator.process.kill()
        coordinator.wait()
        self.finish(rig, coordinator)
        for worker in workers:
            self.ends(worker, 0, "lost the connection")
        self.assertEqual(rig.journal().count("SessionOpened"), 2)

    def test_second_coordinator_in_the_same_folder(self):
        rig, _, _ = self.running()
        rig.address = "127.0.0.1:0"
        self.ends(rig.coordinator(), FAILURE, "another coordinator is running in out",
                  "stop it first")


if __name__ == "__main__":
    unittest.main()
