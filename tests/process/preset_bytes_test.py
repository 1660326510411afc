#!/usr/bin/env python3
"""What `longhaul demo --preset NAME` sends and receives is what the learning benchmark counts."""

import json
import pathlib
import subprocess
import tempfile
import unittest

from rig import BIN

PRESETS = ("standard", "thin", "streaming")
PARAMETERS = 133_440  # llama-130k, the model of the benchmark's small tiers
INNER_STEPS = 4
FEWER, MORE = 4, 9  # rounds; what both runs spend once is in neither difference
TOLERANCE = 0.03
# Of a chunk beyond its own header, which the benchmark counts: frames, encryption, credit; of a
# round: its messages; of a second: heartbeats and their answers.
CHUNK_BYTES, ROUND_BYTES, SECOND_BYTES = 160, 2048, 1024
CHUNKS = 5  # at most, of three fragments or one


class PresetBytesTest(unittest.TestCase):
    """See above."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def call(self, *arguments):
        """Runs a program; what it wrote as JSON."""
        report = self.folder / "report.json"
        done = subprocess.run([*map(str, arguments), "--json", str(report)], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return json.loads(report.read_text())

    def demo(self, preset, rounds):
        """Bytes sent and received per worker, and how long it took."""
        summary = self.call(BIN / "longhaul", "demo", "--preset", preset, "--workers", 2,
                            "--no-kill", "--set", "model.preset=llama-130k", "--set",
                            f"run.rounds={rounds}", "--set", "checkpoint.every_rounds=1000")
        self.assertEqual(summary["hash_mismatches"], 0)
        return (summary["bytes_up_per_worker"], summary["bytes_down_per_worker"],
                summary["elapsed_seconds"])

    def test_presets(self):
        methods = ",".join(f"{p}:inner_steps={INNER_STEPS}" for p in PRESETS)
        results = self.call(BIN / "longhaul-bench", "learning", "--tier", "tiny", "--methods",
                            methods)
        values = {r["name"]: r["value"] for r in results}
        for preset in PRESETS:
            fewer, more = self.demo(preset, FEWER), self.demo(preset, MORE)
            up, down, seconds = [(b - a) / (MORE - FEWER) for a, b in zip(fewer, more)]
            headers = CHUNKS * CHUNK_BYTES + ROUND_BYTES + SECOND_BYTES * max(0, seconds)
            for way, measured in (("up", up), ("down", down)):
                with self.subTest(preset=preset, way=way):
                    bits = values[f"{preset}:inner_steps={INNER_STEPS} {way}"] * INNER_STEPS
                    counted = bits * PARAMETERS / 8
                    print(f"{preset} {way}: {measured:.0f} bytes a round of {seconds:.1f} s, "
                          f"counted {counted:.0f}")
                    self.assertGreaterEqual(measured, (1 - TOLERANCE) * counted)
                    self.assertLessEqual(measured, (1 + TOLERANCE) * counted + headers)


if __name__ == "__main__":
    unittest.main()
