#!/usr/bin/env python3
"""The real worker, with LibTorch: a demo from text to checkpoint, and what it refuses."""

import importlib.util
import json
import math
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import unittest

from rig import BIN, DATA, FAILURE, RigTest

TOOLS = pathlib.Path(os.environ["LONGHAUL_SOURCE_DIR"]) / "tools"
WORKER = "longhaul-worker"
REAL_RUN = """
[run]
rounds = 2
[model]
preset = "llama-130k"
[data]
train = "text.txt"
[sync]
inner_steps = 4
"""


def write_text(path, seed, size=400_000):
    """Text with something to learn: words of a few kinds, some more often than others."""
    rng = random.Random(seed)
    words = ["the", "round", "worker", "model", "sends", "takes", "adds", "far", "home"]
    text = ""
    while len(text) < size:
        text += " ".join(rng.choices(words, weights=range(9, 0, -1), k=200)) + ".\n"
    path.write_text(text[:size])
    return path


def read_tensors(path):
    """Name -> values of a float32 safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    data = raw[8 + length:]
    return {name: struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
            for name, info in header.items() for begin, end in [info["data_offsets"]]}


class TorchTest(RigTest):
    """See above."""

    def test_demo(self):
        rig = self.rig()
        text = write_text(rig.folder / "text.txt", 1)
        demo = rig.start("demo", [
            BIN / "longhaul", "demo", "--workers", "2", "--text", text, "--json", "f.json",
            "--set", "run.rounds=2", "--set", "model.preset=llama-130k",
            "--set", "sync.inner_steps=4", "--device", "cpu"])
        self.ends(demo, 0, "all workers held the same model bit for bit")
        summary = json.loads((rig.folder / "f.json").read_text())
        self.assertEqual((summary["rounds"], summary["workers"]), (2, 2))
        self.assertEqual(summary["hash_mismatches"], 0)
        self.assertGreater(summary["hash_checks"], 0)
        self.assertLess(summary["final_loss"], summary["first_loss"])
        self.check_checkpoint(rig.folder / summary["checkpoint"], text)

    def check_checkpoint(self, folder, text):
        """A Llama in Hugging Face's layout that has learned something from `text`."""
        config = json.loads((folder / "config.json").read_text())
        self.assertEqual(config["architectures"], ["LlamaForCausalLM"])
        tensors = read_tensors(folder / "model.safetensors")
        self.assertIn("model.layers.0.self_attn.q_proj.weight", tensors)
        self.assertTrue(all(math.isfinite(v) for values in tensors.values() for v in values))
        if importlib.util.find_spec("numpy") is None:
            return print("logits are not compared with tools/reference_logits.py: no numpy")
        tokens = text.read_bytes()[-128:]
        out = subprocess.run([sys.executable, "-B", TOOLS / "reference_logits.py", folder,
                              *map(str, tokens)], check=True, capture_output=True, text=True)
        rows = [[float(x) for x in line.split()]
                for line in out.stdout.splitlines()]
        self.assertEqual(len(rows), len(tokens))
        loss = 0
        for row, token in zip(rows, tokens[1:]):
            top = max(row)
            loss += top + math.log(sum(math.exp(x - top) for x in row)) - row[token]
        self.assertLess(loss / (len(tokens) - 1), math.log(256) - 0.1)

    def test_from_a_manifest(self):
        rig = self.rig(REAL_RUN.replace('train = "text.txt"', 'manifest = "set"'))
        write_text(rig.folder / "text.txt", 1)
        subprocess.run([BIN / "longhaul", "data", "prepare", "text.txt", "-o", "set"],
                       cwd=rig.folder, check=True, capture_output=True)
        coordinator = rig.wait_ready(rig.coordinator("--json", "f.json"))
        workers = [rig.worker(name, "--threads", "1", program=WORKER) for name in ("w1", "w2")]
        self.ends(coordinator, 0)
        for worker in workers:
            self.ends(worker, 0, "training data: ")
        summary = json.loads((rig.folder / "f.json").read_text())
        self.assertEqual((summary["rounds"], summary["hash_mismatches"]), (2, 0))
        self.assertLess(summary["final_loss"], summary["first_loss"])
        rig.check_ledger(2)

    def test_wrong_data(self):
        rig = self.rig(REAL_RUN)
        write_text(rig.folder / "text.txt", 1)
        other = write_text(rig.folder / "other.txt", 2)
        rig.wait_ready(rig.coordinator())
        said = self.ends(rig.worker("w1", "--data", other, program=WORKER), DATA,
                         "which is not here", "other.txt", "--data PATH")
        self.assertGreaterEqual(len(set(re.findall(r"\b[0-9a-f]{64}\b", said))), 2, said)

    def test_not_enough_memory(self):
        rig = self.rig(REAL_RUN)
        text = write_text(rig.folder / "text.txt", 1)
        rig.wait_ready(rig.coordinator())
        said = self.ends(
            rig.worker("w1", "--data", text, "--memory", "0.1", program=WORKER), FAILURE,
            "this run needs about", "100 MB", "--memory GB")
        self.assertRegex(said, r"needs about [0-9.]+ (MB|GB) of memory")


if __name__ == "__main__":
    unittest.main()
