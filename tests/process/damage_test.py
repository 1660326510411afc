#!/usr/bin/env python3
"""Stored state that is not what was written."""

import shutil
import unittest

from rig import STORAGE, USAGE, RigTest


class DamageTest(RigTest):
    """Stored state that is not what was written."""

    def finished(self):
        """A rig whose toy run is over; checkpoints at 2 and 3."""
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator())
        workers = [rig.worker("w1"), rig.worker("w2")]
        self.ends(coordinator, 0)
        for worker in workers:
            self.ends(worker, 0)
        return rig

    def test_damaged_checkpoints_are_refused(self):
        rig = self.finished()
        good = rig.checkpoint(2)
        for name in ["model.safetensors", "trainer/momentum.bin", "trainer/residual.bin",
                     "trainer/ledger.bin", "trainer/state.json", "config.json"]:
            for damage in ["flip", "cut"]:
                with self.subTest(f"{damage} {name}"):
                    bad = rig.folder / "bad"
                    shutil.copytree(good, bad)
                    data = bytearray((bad / name).read_bytes())
                    if damage == "flip":
                        data[len(data) // 2] ^= 1
                    (bad / name).write_bytes(data[:-1] if damage == "cut" else data)
                    self.ends(rig.coordinator("--resume", bad, run="other"), STORAGE,
                                     f"--resume {bad}: checkpoint ", name, "use an older one")
                    shutil.rmtree(bad)
        self.ends(rig.coordinator("--resume", rig.folder / "none", run="other"), USAGE,
                  "none: there is no such folder")

    def test_damaged_journal_is_refused(self):
        rig = self.finished()
        journal = rig.run / "journal" / "000001.log"
        data = bytearray(journal.read_bytes())
        data[len(data) // 2] ^= 1
        journal.write_bytes(data)
        self.ends(rig.coordinator(), STORAGE, "journal/000001.log", "record", "--resume CHECKPOINT")

    def go_on(self, rig, said):
        """A finished run makes another round; its coordinator has said `said`."""
        coordinator = rig.wait_ready(rig.coordinator(sets=["run.rounds=4"]))
        workers = [rig.worker("w1"), rig.worker("w2")]
        self.ends(coordinator, 0, said)
        for worker in workers:
            self.ends(worker, 0)
        self.assertEqual([r["round"] for r in coordinator.rounds()], [4])

    def test_torn_end_of_the_journal_is_cut_off(self):
        rig = self.finished()
        journal = sorted((rig.run / "journal").glob("*.log"))[-1]
        with open(journal, "ab") as file:
            file.write(b"LHJ1 and what a crash left")
        self.go_on(rig, "26 torn bytes, which were cut off")

    def test_one_damaged_checkpoint_is_passed_over(self):
        rig = self.finished()
        model = rig.checkpoint(3) / "model.safetensors"
        data = bytearray(model.read_bytes())
        data[-1] ^= 1
        model.write_bytes(data)
        self.go_on(rig, "checkpoint passed over")
        self.assertTrue((rig.run / "checkpoints" / "round-000003.damaged").exists())

    def test_another_configuration_in_the_same_folder(self):
        rig = self.finished()
        self.ends(rig.coordinator(sets=["sync.inner_steps=9"]), USAGE,
                  "holds a run with other settings", "another run.output_dir")

    def test_a_new_generation_takes_another_number_of_workers(self):
        rig = self.finished()
        coordinator = rig.wait_ready(rig.coordinator(
            "--resume", rig.checkpoint(2), sets=["run.rounds=4", "run.min_workers=3"]))
        workers = [rig.worker(name) for name in ("w1", "w2", "w3")]
        self.ends(coordinator, 0)
        for worker in workers:
            self.ends(worker, 0)
        self.assertEqual([r["round"] for r in coordinator.rounds()], [3, 4])
        self.assertEqual(coordinator.rounds()[-1]["workers_included"], 3)
        self.assertIn("GenerationStarted", rig.journal())

if __name__ == "__main__":
    unittest.main()
