#!/usr/bin/env python3
"""A worker is killed in each state of the protocol and comes back as a new process. Nothing that
was committed is lost, nothing is trained twice, and runs with the same history of who trained what
for which version end in the same states, bit for bit.

With a quorum of all and two workers needed, that history depends on one thing only: on which side
of each decision the kill falls. Every case runs more than once, so that histories meet.
"""

import collections
import concurrent.futures
import contextlib
import signal
import unittest

from rig import Rig, wait_until

ROUNDS = 3
REPEATS = 3
# (who, what it says when it gets there (worker/describe.cc), for the how-manieth time)
CASES = [
    ("w2", "new to this run", 1),
    ("w2", "joined run", 1),
    ("w2", "looks for the data", 1),
    ("w2", "fetches version 0", 1),
    ("w2", "loads version 0", 1),
    ("w2", "trains step", 1),
    ("w2", "trains step", 7),
    ("w2", "codes contribution", 1),
    ("w2", "codes contribution", 2),
    ("w2", "sends contribution", 1),
    ("w2", "sends contribution", 2),
    ("w2", "has sent contribution", 1),
    ("w2", "has sent contribution", 2),
    ("w2", "was included", 1),
    ("w2", "fetches version 1", 1),
    ("w2", "applies version", 1),
    ("w2", "applies version", 2),
    ("w1", "evaluates", 1),
    ("w1", "evaluates", 2),
    ("w1", "samples", 1),
]


class KilledWorkerTest(unittest.TestCase):
    """See above."""

    def finish(self, rig, coordinator, victim, other):
        """Starts a killed worker again, waits for the end and checks it; the history."""
        self.assertEqual(victim.wait(), -signal.SIGKILL, victim.text())
        again = rig.worker(victim.name, "-v")
        self.assertEqual([again.wait(), other.wait(), coordinator.wait()], [0, 0, 0],
                         coordinator.text())
        self.assertNotIn("holds another state", coordinator.text())
        history = rig.history()
        self.assertEqual([commit.version for commit, _ in history.commits], [1, 2, 3])
        rig.check_ledger(ROUNDS)
        self.assertEqual(rig.model(ROUNDS)["state_hashes"], [history.hashes()[-1][2]])
        return history

    def kill_at(self, case):
        """The history of a run in which one worker is killed once."""
        who, says, number = case
        with contextlib.closing(Rig()) as rig:
            coordinator = rig.wait_ready(rig.coordinator("-v"))
            workers = {}
            for name in ("w1", "w2"):
                fault = f"log:{says}:{number}:kill" if name == who else ""
                workers[name] = rig.worker(name, "-v", fault=fault)
                if fault == "" or says != "new to this run":
                    workers[name].wait_for("joined run")
            victim = workers.pop(who)
            return self.finish(rig, coordinator, victim, *workers.values())

    def kill_while_it_waits(self, number):
        """The same; w2 is killed when its contribution is held, while w1 is frozen."""
        with contextlib.closing(Rig()) as rig:
            coordinator = rig.wait_ready(rig.coordinator("-v"))
            w1 = rig.worker("w1", "-v", fault=f"log:codes contribution:{number}:stop")
            w1.wait_for("joined run")
            w2 = rig.worker("w2", "-v")
            held = f"contribution 2/{number} held"
            wait_until(lambda: held in coordinator.text(), held)
            w2.process.kill()
            w1.signal(signal.SIGCONT)
            return self.finish(rig, coordinator, w2, w1)

    def compare(self, histories):
        """Equal histories have equal states; most histories have a twin."""
        by_membership = collections.defaultdict(list)
        for history in histories:
            by_membership[history.membership()].append(history.hashes())
        for membership, hashes in by_membership.items():
            with self.subTest(membership=membership):
                self.assertEqual([h for h in hashes if h != hashes[0]], [])
        sizes = sorted(len(hashes) for hashes in by_membership.values())
        print(f"{len(histories)} runs, {len(sizes)} histories, runs with the same: {sizes}")
        self.assertGreater(sum(n for n in sizes if n > 1), len(histories) // 2)

    def test_killed_in_each_state(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = {(case, i): pool.submit(self.kill_at, case)
                    for case in CASES for i in range(REPEATS)}
            jobs.update({(("w2", "waits", number), i): pool.submit(self.kill_while_it_waits, number)
                         for number in (1, 2) for i in range(REPEATS)})
        histories = []
        for case, job in jobs.items():
            with self.subTest(case):
                histories.append(job.result())
        self.compare(histories)


if __name__ == "__main__":
    unittest.main()
