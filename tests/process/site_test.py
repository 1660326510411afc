#!/usr/bin/env python3
"""A worker of two ranks, which is one worker to the coordinator, whatever happens to rank 1."""

import os
import pathlib
import re
import signal
import unittest

from rig import FAILURE, UNREACHABLE, RigTest, wait_until
from torch_test import WORKER, write_text

# A second worker, of one rank, keeps the run honest: both must hold the same model.
RUN = """
[run]
rounds = 6
min_workers = 2
[model]
preset = "llama-130k"
[data]
train = "text.txt"
[sync]
inner_steps = 4
[round]
quorum = 1.0
[checkpoint]
every_rounds = 3
"""
ONE = ("--threads", "1", "--device", "cpu", "--data", "text.txt")
RANKS = (*ONE, "--site-ranks", "2")


class SiteTest(RigTest):
    """See above."""

    def start(self, *arguments, rounds=6):
        """A run with a site and a worker of one rank: (rig, coordinator, site, worker)."""
        rig = self.rig(RUN)
        write_text(rig.folder / "text.txt", 1)
        coordinator = rig.wait_ready(
            rig.coordinator("--json", "f.json", sets=(f"run.rounds={rounds}",)))
        site = rig.worker("site", *RANKS, *arguments, program=WORKER)
        worker = rig.worker("one", *ONE, program=WORKER)
        return rig, coordinator, site, worker

    def rank_one(self, rig, site):
        """The process id of rank 1; it is killed with the rig."""
        site.wait_for("rank 1 of the site is process ")
        number = int(re.search(r"rank 1 of the site is process (\d+)", site.text())[1])
        self.addCleanup(self.end, number)
        return number

    @staticmethod
    def end(number):
        """Kills a process that may be gone."""
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def finish(self, rig, coordinator, site, worker, rounds=6):
        """All rounds are committed by two members, each position once."""
        self.ends(coordinator, 0)
        self.ends(worker, 0)
        said = self.ends(site, 0)
        self.assertEqual(len(coordinator.rounds()), rounds)
        self.assertEqual({r["workers_included"] for r in coordinator.rounds()}, {2})
        self.assertEqual(rig.journal().count("WorkerEnrolled"), 2)
        rig.check_ledger(rounds)
        return said

    def test_one_identity(self):
        rig, *programs = self.start()
        rank = self.rank_one(rig, programs[1])
        said = self.finish(rig, *programs)
        self.assertNotIn("is lost", said)
        wait_until(lambda: not pathlib.Path(f"/proc/{rank}").exists(), "rank 1 ends with its site")

    def lose_rank_one(self, number, *arguments):
        """Rank 1 gets a signal after the first round; the run ends as it should."""
        rig, coordinator, site, worker = self.start(*arguments, rounds=9)
        rank = self.rank_one(rig, site)
        wait_until(coordinator.rounds, "a round is committed")
        os.kill(rank, number)
        site.wait_for("rank 1 is lost")
        before = len(coordinator.rounds())
        self.finish(rig, coordinator, site, worker, rounds=9)
        return before

    def test_a_killed_rank_shrinks_the_site(self):
        self.assertLess(self.lose_rank_one(signal.SIGKILL), 9)

    def test_a_stuck_rank_is_found_by_its_deadline(self):
        self.assertLess(self.lose_rank_one(signal.SIGSTOP, "--site-deadline", "4"), 9)

    def test_a_rank_that_does_not_come_is_named(self):
        rig = self.rig(RUN)
        write_text(rig.folder / "text.txt", 1)
        rig.wait_ready(rig.coordinator())
        (rig.folder / "site.key").write_bytes(os.urandom(32))
        (rig.folder / "hosts").write_text("here 1\nelsewhere 1\n")
        site = rig.worker("site", *RANKS, "--site-hosts", "hosts", "--site-key", "site.key",
                          "--site-wait", "1", program=WORKER)
        rig.worker("one", *ONE, program=WORKER)
        self.ends(site, UNREACHABLE, "on elsewhere: longhaul-worker --site-join 127.0.0.1:",
                  "did not start in time: 1")

    @unittest.skipIf(pathlib.Path("/proc/driver/nvidia/version").exists(), "there is a driver")
    def test_a_gpu_that_is_not_there(self):
        rig = self.rig(RUN)
        write_text(rig.folder / "text.txt", 1)
        rig.wait_ready(rig.coordinator())
        for more in ((), ("--site-ranks", "2")):
            worker = rig.worker(f"w{len(more)}", "--device", "cuda", *more, program=WORKER)
            self.ends(worker, FAILURE, 'or use device = "cpu"')

    def test_the_toy_is_no_site(self):
        rig = self.rig()
        rig.wait_ready(rig.coordinator())
        site = rig.worker("site", *RANKS)
        self.assertNotEqual(site.wait(), 0)
        self.assertIn("needs longhaul-worker", site.text())


if __name__ == "__main__":
    unittest.main()
