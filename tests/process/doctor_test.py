#!/usr/bin/env python3
"""`longhaul doctor INVITATION` against a running coordinator: rates, verdict, exit codes."""

import json
import unittest

from rig import BIN, FAILURE, LONG_RUN, TOY_RUN, UNREACHABLE, USAGE, RigTest


class DoctorTest(RigTest):
    """What is said about the way to a coordinator."""

    def doctor(self, rig, *arguments, code=0):
        """The checks by name, of a doctor that must end with `code`."""
        program = rig.start("doctor", [BIN / "longhaul", "doctor", *arguments, "--json"])
        checks = json.loads(self.ends(program, code).splitlines()[-1])["checks"]
        return {check["name"]: check for check in checks}

    def settings(self, rig, **values):
        """A run.toml with these keys of section sync."""
        path = rig.folder / "judge.toml"
        lines = "".join(f"{key} = {value}\n" for key, value in values.items())
        path.write_text(TOY_RUN.replace("[sync]\ninner_steps = 4\n", f"[sync]\n{lines}"))
        return path

    def test_link_and_verdict(self):
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator(sets=LONG_RUN))
        invitation = (rig.run / "invitation").read_text().strip()
        many = self.settings(rig, inner_steps=1000)
        # Training needs longhaul-worker, which a build without LibTorch does not have.
        checks = self.doctor(rig, invitation, "--run", many, "--step-ms", 100, "--coordinator-only")
        self.assertIn("round trip", checks["coordinator"]["detail"])
        self.assertRegex(checks["link"]["detail"], r"^[0-9.e+]+ Mbit/s up, [0-9.e+]+ Mbit/s down$")
        self.assertNotIn("computing", checks)
        worker = BIN / "longhaul-worker"
        code = 0 if worker.exists() else FAILURE
        # Without --run, the run's own settings judge.
        checks = self.doctor(rig, invitation, "--step-ms", 100, "--least-computing", 1, code=code)
        self.assertEqual(checks["computing"]["level"], "ok")
        self.assertIn("% of the time, rounds of", checks["computing"]["detail"])
        # A step of a nanosecond computes next to nothing of the time.
        checks = self.doctor(rig, invitation, "--run", self.settings(rig, inner_steps=1),
                             "--step-ms", 1e-6, "--least-computing", 50, code=FAILURE)
        self.assertEqual(checks["computing"]["level"], "FAIL")
        self.assertTrue(coordinator.running())
        rig.worker("w1").wait_for("joined run")  # nothing of it disturbs the run

    def test_nobody_there_and_bad_words(self):
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator(sets=LONG_RUN))
        invitation = (rig.run / "invitation").read_text().strip()
        coordinator.process.kill()
        coordinator.wait()
        checks = self.doctor(rig, invitation, "--coordinator-only", code=UNREACHABLE)
        self.assertNotIn("link", checks)
        for words in (["LH1-nonsense"], [invitation, "--run", "no/such/file"]):
            program = rig.start("doctor", [BIN / "longhaul", "doctor", *words])
            self.ends(program, USAGE)


if __name__ == "__main__":
    unittest.main()
