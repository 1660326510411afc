#!/usr/bin/env python3
"""`longhaul status` of a running coordinator, and of a run folder that nobody has open."""

import json
import unittest

from rig import BIN, LONG_RUN, STORAGE, UNREACHABLE, RigTest, wait_until


class StatusTest(RigTest):
    """Coverage: every sample has one state per fragment."""

    def status(self, rig, *arguments, code=0):
        """What it says about the rig's run."""
        program = rig.start("status", [BIN / "longhaul", "status", *arguments])
        return self.ends(program, code)

    def balance(self, text, fragments):
        """The fragments' coverage; each adds up to its total."""
        found = json.loads(text)["coverage"]["fragments"]
        self.assertEqual(len(found), fragments)
        for one in found:
            parts = dict(one)
            total, reasons = parts.pop("total"), parts.pop("discarded")
            self.assertEqual(sum(parts.values()) + sum(reasons.values()), total)
            self.assertGreater(one["committed"], 0)
        return found

    def test_running_and_stopped(self):
        rig = self.rig()
        sets = [*LONG_RUN, "sync.fragments=3", "network.http=127.0.0.1:0"]
        coordinator = rig.wait_ready(rig.coordinator(sets=sets))
        rig.worker("w1").wait_for("joined run")
        wait_until(
            lambda: all(one["committed"] for one in json.loads(
                self.status(rig, "out", "--json"))["coverage"]["fragments"]),
            "the page tells of a round of every fragment",
        )
        self.balance(self.status(rig, "out", "--json"), 3)
        text = self.status(rig, "out", "--coverage")
        self.assertIn("running", text)
        self.assertIn("# committed", text)
        coordinator.process.kill()
        coordinator.wait()
        journal = {p: p.read_bytes() for p in (rig.run / "journal").iterdir()}
        self.balance(self.status(rig, "out", "--json"), 3)
        self.assertIn("no coordinator is running", self.status(rig, "out", "--coverage"))
        self.assertEqual(journal, {p: p.read_bytes() for p in (rig.run / "journal").iterdir()})

    def test_nobody_there(self):
        rig = self.rig()
        self.assertIn("no coordinator answers", self.status(rig, "nowhere", code=UNREACHABLE))

    def test_a_damaged_journal_is_not_counted(self):
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator(sets=LONG_RUN))
        rig.worker("w1").wait_for("joined run")
        wait_until(coordinator.rounds, "a round is committed")
        coordinator.process.kill()
        coordinator.wait()
        segment = sorted((rig.run / "journal").glob("*.log"))[0]
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        self.assertIn("journal", self.status(rig, "out", code=STORAGE))


if __name__ == "__main__":
    unittest.main()
