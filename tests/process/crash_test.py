#!/usr/bin/env python3
"""The coordinator is killed anywhere, its disk fails anywhere, the power goes anywhere; the run
goes on, and its end is that of an undisturbed run, bit for bit.

Which worker trains on which data follows from the order of sessions alone: w2 is started when w1
has joined. Leases and sessions are journaled, so a coordinator that comes back within the silence
limit changes nothing.

    crash_test.py [--at-once N] [--sample N] [unittest's own]

--at-once: runs at the same time. --sample: so many cases of each kind instead of all.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import random
import re
import signal
import sys
import unittest

from rig import STORAGE, Rig, wait_until

ROUNDS = 3
KILLED = -signal.SIGKILL
CALLS = ("write", "fdatasync", "fsync", "rename")
SYNCS = ("fdatasync", "fsync")


class Crashing:
    """One run: w1, then w2, and a coordinator that is started again when it ends with `code`.

    kills: so often it is killed, a few records after its start.
    """

    def __init__(self, fault="", code=0, log_calls=None, sets=(), kills=0):
        self.rig, self.code, self.sets = Rig(), code, sets
        self.kills, self.random = kills, random.Random(7)
        self.said, self.ends, self.lost = "", 0, ""
        self.commits = []  # at the last end
        self.is_ready = False
        self.coordinator = self.rig.coordinator("-v", fault=fault, log_calls=log_calls, sets=sets)
        self.choose_kill()

    def choose_kill(self):
        """After how many records the next kill comes."""
        self.kill_at = len(self.rig.records()) + self.random.randint(1, 10)

    def go_on(self):
        """Kills the coordinator when it is time; starts it again when it has ended."""
        if self.kills > 0 and self.coordinator.running():
            if len(self.rig.records()) < self.kill_at:
                return
            self.kills -= 1
            self.coordinator.process.kill()
            self.coordinator.process.wait()
        if self.coordinator.running():
            return
        if self.coordinator.process.returncode != self.code:
            assert self.coordinator.process.returncode == 0, "it ended in another way"
            return
        if self.code != 0:
            self.said += self.coordinator.text()
            self.ends += 1
            self.check_commits()
            self.coordinator = self.rig.coordinator("-v", sets=self.sets)
            self.is_ready = False
            if self.kills == 0:
                self.code = 0
            self.choose_kill()

    def check_commits(self):
        """No committed round was lost, and no worker has heard of one that is not committed."""
        before, self.commits = self.commits, self.rig.history().hashes()
        if self.commits[:len(before)] != before:
            self.lost += f"{before} was committed, but now {self.commits} is; "
        known = {(version, fragment) for fragment, version, _ in self.commits}
        for program in self.rig.programs:
            for applied in re.findall(r"applies version (\d+) of fragment (\d+)", program.text()):
                if (int(applied[0]), int(applied[1])) not in known:
                    self.lost += f"{program.name} applied {applied}, which is not committed; "

    def until(self, condition, what):
        """Waits; the coordinator may end meanwhile."""
        def check():
            self.go_on()
            return condition()
        wait_until(check, what)

    def until_ready(self):
        """Until workers can join."""
        self.until(lambda: self.coordinator.running() and self.rig.ready(), "it invites")

    def run(self):
        """To the end of the run; the exit codes of coordinator and workers."""
        self.until_ready()
        w1 = self.rig.worker("w1", "-v")
        self.until(lambda: "joined run" in w1.text(), "w1 joins")
        w2 = self.rig.worker("w2", "-v")
        self.until(lambda: not w1.running() and not w2.running(), "the workers end")
        self.until(lambda: not self.coordinator.running(), "the coordinator ends")
        self.check_commits()
        return [self.coordinator.wait(), w1.wait(), w2.wait()]


class Case(collections.namedtuple("Case", "point action sets")):
    """A fault: where (CALL:PATH:WHEN), what, and settings of the run."""

    @property
    def code(self):
        """With what the coordinator ends."""
        return STORAGE if self.action in ("EIO", "ENOSPC") else KILLED

    def __str__(self):
        return f"{self.point}:{self.action} {' '.join(self.sets)}"


class CrashTest(unittest.TestCase):
    """See above."""

    at_once = 8
    sample = 0

    @classmethod
    def setUpClass(cls):
        cls.calls = {}
        cls.undisturbed = {}

    @classmethod
    def prepare(cls, sets):
        """The calls and the end of a run in which nothing fails."""
        if sets in cls.calls:
            return
        run = Crashing(log_calls="calls", sets=sets)
        with contextlib.closing(run.rig):
            assert run.run() == [0, 0, 0], run.coordinator.text()
            assert not run.lost, run.lost
            cls.calls[sets] = cls.run_calls(run.rig.folder / "calls")
            cls.undisturbed[sets] = cls.model(run.rig, sets)

    @staticmethod
    def run_calls(log):
        """The logged calls in the run folder, as points: the n-th call of its kind and subfolder.

        What is only for people (TensorBoard's files) comes when it comes, and may fail.
        """
        points, seen = [], collections.Counter()
        for line in log.read_text().splitlines():
            call, path = line.split(" ", 1)
            found = re.search("/out(/[^/]*)?", path)
            if found and found.group(1) != "/events":
                place = "/out$" if found.group(1) is None else found.group()
                place = place.replace(".tmp", "") + ("/" if path.count("/") > 4 else "")
                seen[call, place] += 1
                points.append(f"{call}:{place}:{seen[call, place]}")
        return points

    @staticmethod
    def model(rig, sets):
        """What must be equal. With several fragments, how far a worker trains before it hears of a
        commit depends on time: only what is trained for sure can be compared."""
        fragments = 3 if "sync.fragments=3" in sets else 1
        rig.check_ledger(ROUNDS * fragments)
        if fragments == 1:
            return rig.model(ROUNDS)
        return sorted((fragment, version) for fragment, version, _ in rig.history().hashes())

    def crash(self, case):
        """What went wrong in one run in which the coordinator ends once; "" = nothing."""
        run = Crashing(f"{case.point}:{case.action}", case.code, sets=case.sets)
        try:
            codes = run.run()
            journal = run.rig.journal()
            if codes != [0, 0, 0]:
                return f"exit codes of coordinator and workers: {codes}"
            if run.lost:
                return run.lost
            model = self.model(run.rig, case.sets)
            if model != self.undisturbed[case.sets]:
                return f"{model} is not {self.undisturbed[case.sets]}"
            if "RoundAborted" in journal or journal.count("SessionOpened") != 2:
                return f"the crash was noticed: {journal}"
            if run.ends != 1:
                return "not reached"
            if case.code == STORAGE and not self.explains(run.said):
                return f"no clear message: {run.said}"
            return ""
        except (AssertionError, OSError) as error:
            return f"{error}; {run.coordinator.text()}"
        finally:
            run.rig.close()

    @staticmethod
    def explains(said):
        """Whether the last line names the file, the trouble and the next step."""
        return re.search(r"out\S*: \S.*start again", said.splitlines()[-1])

    def crash_at(self, calls, action, sets=(), share=1):
        """A run for each (or each `share`-th) point where one of `calls` is made."""
        self.prepare(sets)
        points = [point for point in self.calls[sets] if point.split(":")[0] in calls]
        if self.sample:
            share = max(share, len(points) / self.sample)
        cases = [Case(points[int(i * share)], action, sets)
                 for i in range(int(len(points) / share))]
        with concurrent.futures.ThreadPoolExecutor(self.at_once) as pool:
            problems = list(pool.map(self.crash, cases))
        missed = [str(case) for case, problem in zip(cases, problems) if problem == "not reached"]
        for case, problem in zip(cases, problems):
            if problem and problem != "not reached":
                with self.subTest(str(case)):
                    self.fail(problem)
        print(f"{action} at {len(cases)} of {len(points)} {'/'.join(calls)} {' '.join(sets)}: "
              f"{len(missed)} not reached {missed}", flush=True)
        # How many calls there are depends a little on time; that may concern the last ones.
        self.assertLessEqual(len(missed), 1 + len(cases) // 20)

    def test_killed_before_each_call(self):
        self.crash_at(CALLS, "kill")

    def test_killed_after_each_call(self):
        self.crash_at(CALLS, "after")

    def test_killed_inside_each_write(self):
        self.crash_at(["write"], "torn")

    def test_power_lost_before_each_sync(self):
        self.crash_at(SYNCS, "power")

    def test_each_failed_sync_ends_the_process(self):
        self.crash_at(SYNCS, "EIO")

    def test_each_full_disk_ends_the_process(self):
        self.crash_at(["write"], "ENOSPC")

    def test_several_fragments(self):
        for calls, action in ((CALLS, "kill"), (SYNCS, "power"), (SYNCS, "EIO")):
            self.crash_at(calls, action, ("sync.fragments=3",), share=8)

    def test_killed_again_and_again(self):
        sets = ("run.rounds=8", "train.toy_step_ms=10")
        models = []
        for kills in (0, 10):
            run = Crashing(code=KILLED if kills else 0, sets=sets, kills=kills)
            with contextlib.closing(run.rig):
                self.assertEqual(run.run(), [0, 0, 0])
                self.assertEqual((run.ends, run.lost), (kills, ""))
                run.rig.check_ledger(8)
                models.append(run.rig.model(8))
        self.assertEqual(models[1], models[0])


def main():
    """Takes our own arguments, leaves the others to unittest."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--at-once", type=int, default=CrashTest.at_once)
    parser.add_argument("--sample", type=int, default=CrashTest.sample)
    found, others = parser.parse_known_args()
    CrashTest.at_once, CrashTest.sample = found.at_once, found.sample
    unittest.main(argv=sys.argv[:1] + others)


if __name__ == "__main__":
    main()
