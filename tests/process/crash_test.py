#!/usr/bin/env python3
"""The coordinator is killed anywhere, and its disk fails anywhere; the run goes on, and its end is
that of an undisturbed run, bit for bit.

Which worker trains on which data follows from the order of sessions alone: w2 is started when w1
has joined. Leases and sessions are journaled, so a coordinator that comes back within the silence
limit changes nothing.
"""

import concurrent.futures
import contextlib
import random
import re
import signal
import unittest

from rig import Rig, wait_until

ROUNDS = 3


class Crashing:
    """One run: w1, then w2, and a coordinator that is started again when it ends with `code`.

    kills: so often it is killed, a few records after its start.
    """

    def __init__(self, fault="", code=0, log_calls=None, sets=(), kills=0):
        self.rig, self.code, self.sets = Rig(), code, sets
        self.kills, self.random = kills, random.Random(7)
        self.said, self.ends = "", 0
        self.coordinator = self.rig.wait_ready(
            self.rig.coordinator(fault=fault, log_calls=log_calls, sets=sets))
        self.choose_kill()

    def choose_kill(self):
        """After how many records the next kill comes."""
        self.kill_at = len(self.rig.journal()) + self.random.randint(1, 10)

    def go_on(self):
        """Kills the coordinator when it is time; starts it again when it has ended."""
        if self.kills > 0 and self.coordinator.running():
            if len(self.rig.journal()) < self.kill_at:
                return
            self.kills -= 1
            self.coordinator.process.kill()
            self.coordinator.process.wait()
        if self.coordinator.running() or self.coordinator.process.returncode != self.code:
            return
        if self.code != 0:
            self.said += self.coordinator.text()
            self.ends += 1
            self.coordinator = self.rig.wait_ready(self.rig.coordinator(sets=self.sets))
            if self.kills == 0:
                self.code = 0
            self.choose_kill()

    def until(self, condition, what):
        """Waits; the coordinator may end meanwhile."""
        def check():
            self.go_on()
            return condition()
        wait_until(check, what)

    def run(self):
        """To the end of the run; the workers' exit codes."""
        w1 = self.rig.worker("w1")
        self.until(lambda: "joined run" in w1.text(), "w1 joins")
        w2 = self.rig.worker("w2")
        self.until(lambda: not w1.running() and not w2.running(), "the workers end")
        self.until(lambda: not self.coordinator.running(), "the coordinator ends")
        return [self.coordinator.wait(), w1.wait(), w2.wait()]


class CrashTest(unittest.TestCase):
    """See above."""

    @classmethod
    def setUpClass(cls):
        run = Crashing(log_calls="calls")
        calls = run.rig.folder / "calls"
        try:
            cls.start_calls = len(cls.run_calls(calls))
            cls.all_start_calls = calls.read_text().count("/out/")
            assert run.run() == [0, 0, 0], run.coordinator.text()
            cls.calls = cls.run_calls(calls)
            cls.undisturbed = run.rig.model(ROUNDS)
        finally:
            run.rig.close()

    @staticmethod
    def run_calls(log):
        """The logged calls on journal, reducer and checkpoints, with paths from the run folder."""
        found = [line.split(" ", 1) for line in log.read_text().splitlines()]
        return [f"{call} {path.split('/out/')[1]}" for call, path in found
                if re.search("/out/(journal|reducer|checkpoints)/", path)]

    def crash(self, fault, code):
        """What went wrong in one run in which `fault` ends the coordinator once; "" = nothing."""
        run = Crashing(fault, code)
        try:
            codes = run.run()
            journal = run.rig.journal()
            if run.ends != 1:
                return f"the coordinator did not end with {code}: {run.coordinator.text()}"
            if codes != [0, 0, 0]:
                return f"exit codes of coordinator and workers: {codes}"
            if run.rig.model(ROUNDS) != self.undisturbed:
                return f"{run.rig.model(ROUNDS)} is not {self.undisturbed}"
            if "RoundAborted" in journal or journal.count("SessionOpened") != 2:
                return f"the crash was noticed: {journal}"
            if code > 0 and not self.explains(run.said):
                return f"no clear message: {run.said}"
            return ""
        except AssertionError as error:
            return f"{error}; {run.coordinator.text()}"
        finally:
            run.rig.close()

    @staticmethod
    def explains(said):
        """Whether the last line names the file, the trouble and the next step."""
        return re.search(r"out/(journal|reducer|checkpoints)\S*: \S.*start again", said)

    def crash_at(self, points, action, code):
        """A run for each point, some at a time."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda point: self.crash(f"{point}:{action}", code), points)
            for point, problem in zip(points, found):
                with self.subTest(f"{point}:{action}"):
                    self.assertEqual(problem, "")

    def points(self, kinds, count):
        """(call, place) of `count` calls spread over the run: the n-th of its kind."""
        numbered = []
        seen = {}
        for i, line in enumerate(self.calls):
            call, path = line.split(" ", 1)
            top = path.split("/")[0]
            seen[call, top] = seen.get((call, top), 0) + 1
            if i > self.start_calls and call in kinds:
                numbered.append(f"{call}:/out/{top}/:{seen[call, top]}")
        step = max(1, len(numbered) / count)
        return [numbered[int(i * step)] for i in range(min(count, len(numbered)))]

    def test_killed_before_durable_calls(self):
        self.crash_at(self.points({"fdatasync", "rename"}, 14), "kill", -signal.SIGKILL)

    def test_killed_inside_writes(self):
        self.crash_at(self.points({"write"}, 12), "torn", -signal.SIGKILL)

    def test_killed_again_and_again(self):
        sets = ["run.rounds=8", "train.toy_step_ms=10"]
        models = []
        for kills in (0, 10):
            run = Crashing(code=-signal.SIGKILL if kills else 0, sets=sets, kills=kills)
            with contextlib.closing(run.rig):
                self.assertEqual(run.run(), [0, 0, 0])
                self.assertEqual(run.ends, kills)
                models.append(run.rig.model(8))
        self.assertEqual(models[1], models[0])

    def test_killed_while_it_starts(self):
        def start_twice(number):
            with contextlib.closing(Rig()) as rig:
                code = rig.coordinator(fault=f"any:/out/:{number}:kill").wait()
                rig.wait_ready(rig.coordinator())
                return code
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(start_twice, range(1, self.all_start_calls + 1)))
        self.assertEqual(set(codes), {-signal.SIGKILL})

    def test_failed_fdatasync_ends_the_process(self):
        self.crash_at(self.points({"fdatasync"}, 8), "EIO", 7)

    def test_full_disk_ends_the_process(self):
        self.crash_at(self.points({"write"}, 12), "ENOSPC", 7)


if __name__ == "__main__":
    unittest.main()
