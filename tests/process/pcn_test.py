#!/usr/bin/env python3
"""Predictive coding over real processes: in ordinary runs, and Relay's blocks over machines."""

import json
import re
import unittest

from rig import BIN, DATA, FAILURE, UNREACHABLE, USAGE, RigTest, wait_until
from torch_test import WORKER, write_text

PCN_RUN = """
[run]
rounds = 3
[model]
preset = "llama-130k"
[data]
train = "text.txt"
[train]
mode = "pcn"
warmup_steps = 0
[sync]
inner_steps = 8
[pcn]
"""
BLOCK_H, BLOCK_UPDATES = 10, 120
BLOCK_RUN = f"""
[run]
name = "block-{{}}"
rounds = {BLOCK_UPDATES // BLOCK_H}
[model]
preset = "dense:{{}}"
[train]
mode = "relay"
[sync]
inner_steps = {BLOCK_H}
codec = "float32"
codec_down = "float32"
error_feedback = -1.0
outer_lr = 1.0
outer_momentum = 0.0
[round]
quorum = 1.0
"""
SIZES = [784, 24, 24, 24, 24, 10]
ROWS = 16
HEADERS = 64 + 12  # of a message, and of its rows


def parameters_of(sizes):
    """Of a chain of dense layers."""
    return sum((a + 1) * b for a, b in zip(sizes, sizes[1:]))


class PcnRunTest(RigTest):
    """mode = "pcn" in run.toml."""

    def train(self, rule):
        """Losses of the rounds of a run with two workers."""
        rig = self.rig(PCN_RUN + rule)
        text = write_text(rig.folder / "text.txt", 1)
        coordinator = rig.wait_ready(rig.coordinator())
        workers = [rig.worker(name, "--data", text, "--threads", "1", "--device", "cpu",
                              program=WORKER) for name in ("w1", "w2")]
        self.assertEqual(coordinator.wait(240), 0, coordinator.text())
        for worker in workers:
            self.assertEqual(worker.wait(), 0, worker.text())
        hashes = [f["state_hash"] for f in rig.state(3)["fragments"]]
        self.assertEqual(len(hashes), 1)
        return [r["loss"] for r in coordinator.rounds()]

    def test_exact_and_energy_rules_train(self):
        for rule in ('rule = "zil"\n',
                     'rule = "spc"\nsweeps = 4\nrate = 0.02\noutput_weight = 0.1\n'):
            losses = self.train(rule)
            self.assertEqual(len(losses), 3)
            self.assertLess(losses[-1], losses[0] - 0.2, rule)

    def test_inner_steps_count_weight_updates(self):
        rig = self.rig(PCN_RUN + 'rule = "ipc"\nsweeps = 3\n')
        write_text(rig.folder / "text.txt", 1)
        self.ends(rig.coordinator(), USAGE, "counts weight updates", "nearest: 6 or 9")
        losses = self.train('rule = "ipc"\nsweeps = 4\nrate = 0.02\n')
        self.assertLess(losses[-1], losses[0])


class RelayTest(RigTest):
    """longhaul pcn relay, longhaul-worker pcn-stage."""

    def relay(self, rig, name, stages, *arguments, lease_s=15):
        """A coordinator that has written its invitation, or has ended."""
        program = rig.start(name, [
            BIN / "longhaul", "pcn", "relay", "--stages", stages, "--sizes",
            ",".join(map(str, SIZES)), "--rows", ROWS, "--generated-images", 300, "--lease",
            lease_s, "--invitation", f"{name}.txt", "--json", f"{name}.json", *arguments])
        wait_until(lambda: (rig.folder / f"{name}.txt").exists() or not program.running(),
                   "the coordinator invites")
        return program

    def stage(self, rig, name, number, *arguments):
        """A stage; those with low numbers are faster, so they are below."""
        return rig.start(f"{name}-stage{number}", [
            BIN / WORKER, "pcn-stage", f"@{name}.txt", "--output", f"{name}-blocks", "--speed",
            100 - number, *arguments])

    def finish(self, rig, name, program, stages):
        """What the coordinator reports, and all weights."""
        self.assertEqual(program.wait(180), 0, program.text())
        for stage in stages:
            self.assertEqual(stage.wait(), 0, stage.text())
        report = json.loads((rig.folder / f"{name}.json").read_text())
        blocks = sorted((rig.folder / f"{name}-blocks").iterdir())
        for k, stage in enumerate(report["stages"]):
            discarded = sum(stage["discarded"].values())
            self.assertEqual(stage["accepted"], stage["trained"] + discarded + stage["open"], k)
            self.assertEqual(stage["open"], 0)
        return report["stages"], b"".join(block.read_bytes() for block in blocks)

    def run_all(self, rig, name, stages, *arguments):
        """A whole run without trouble."""
        program = self.relay(rig, name, stages, *arguments)
        workers = [self.stage(rig, name, k) for k in range(stages)]
        return self.finish(rig, name, program, workers)

    def test_four_processes_are_one_bit_for_bit(self):
        rig = self.rig()
        arguments = ("--synchronous", "--micro-batches", 40)
        _, one = self.run_all(rig, "one", 1, *arguments)
        report, four = self.run_all(rig, "four", 4, "--first-layers", "0,2,3,4", *arguments)
        self.assertEqual(len(one), 4 * parameters_of(SIZES))
        self.assertTrue(one == four, "the weights differ")
        for k, stage in enumerate(report):
            self.assertEqual((stage["trained"], stage["updates"]), (40, 40))
            state = 40 * (ROWS * SIZES[1] * 4 + HEADERS)
            self.assertEqual(stage["bytes_up"], state if k < 3 else 0)
            self.assertEqual(stage["bytes_down"], state if k > 0 else 0)

    def test_a_killed_stage_is_replaced(self):
        rig = self.rig()
        program = self.relay(rig, "kill", 4, "--first-layers", "0,2,3,4", "--micro-batches", 600,
                             "--work-unit-ms", 4, "--snapshot-every", 10, "--hop-ms", 500,
                             lease_s=3)
        stages = [self.stage(rig, "kill", k) for k in range(4)]
        stages[1].wait_for("stage 1 of 4, epoch 1")
        wait_until(lambda: "epoch 1" in program.text(), "all are at work")
        spare = self.stage(rig, "kill", 9)
        # Some snapshots have gone to the buddy by then.
        wait_until(lambda: max(map(int, re.findall(r"updates: \d+ (\d+)", program.text())),
                               default=0) > 50, "stage 1 has made 50 updates", 120)
        stages[1].process.kill()
        spare.wait_for("stage 1 of 4, epoch 2", 120)
        spare.wait_for("took over at update", 120)
        report, weights = self.finish(rig, "kill", program, [stages[0], *stages[2:], spare])
        self.assertEqual(len(weights), 4 * parameters_of(SIZES))
        self.assertEqual([s["epoch"] for s in report], [1, 2, 1, 1])
        self.assertGreater(report[1]["updates"], 0)
        # What trained upper blocks only is booked as discarded below.
        self.assertGreaterEqual(report[3]["trained"], report[0]["trained"])
        self.assertGreater(report[0]["trained"], 300)

    def test_replicas_of_blocks_are_averaged(self):
        # Two chains of two blocks; each block's replicas are the workers of an ordinary run.
        block_sizes = [SIZES[:4], SIZES[3:]]
        runs = []
        for k, sizes in enumerate(block_sizes):
            block = self.rig(BLOCK_RUN.format(k, ",".join(map(str, sizes))))
            runs.append((block, block.wait_ready(block.coordinator())))
        rig = self.rig()
        invitations = ",".join(str(block.run / "invitation") for block, _ in runs)
        chains = []
        for name, seed in (("left", 1), ("right", 2)):
            program = self.relay(rig, name, 2, "--first-layers", "0,3", "--seed", seed,
                                 "--block-runs", invitations, "--micro-batches", BLOCK_UPDATES,
                                 "--learning-rate", 3e-3)
            chains.append((name, program, [self.stage(rig, name, k) for k in range(2)]))
        ended = [self.finish(rig, name, program, stages) for name, program, stages in chains]
        for k, (block, coordinator) in enumerate(runs):
            self.assertEqual(coordinator.wait(60), 0, coordinator.text())
            rounds = coordinator.rounds()
            self.assertEqual(len(rounds), BLOCK_UPDATES // BLOCK_H)
            # Every update that a replica made is in the committed block, and in the books of both.
            self.assertEqual([report[k]["trained"] for report, _ in ended], [BLOCK_UPDATES] * 2)
            self.assertEqual(ended[0][0][k]["parameters"], ended[1][0][k]["parameters"])
            with open(block.run / "checkpoints" / f"round-{len(rounds):06}" /
                      "model.safetensors", "rb") as file:
                committed = file.read()[-4 * parameters_of(block_sizes[k]):]
            held = (rig.folder / "left-blocks" / f"block-0{k}.bin").read_bytes()
            self.assertTrue(held == committed, "a stage ends with another block than the run's")
        self.assertEqual(ended[0][1], ended[1][1])
        losses = [r["loss"] for r in runs[1][1].rounds()]
        self.assertLess(losses[-1], 0.7 * losses[0], losses)

    def test_bad_input(self):
        rig = self.rig()
        self.ends(self.relay(rig, "cuts", 2, "--block-runs", "a.txt,b.txt"), FAILURE, "a.txt")
        self.ends(self.relay(rig, "deep", 6), USAGE, "6 blocks do not match a network of 5 layers")
        self.ends(self.relay(rig, "codec", 2, "--codec", "int9"), USAGE, "float32, bf16 and int8")
        program = rig.start("idx", [
            BIN / "longhaul", "pcn", "relay", "--stages", 1, "--invitation", "idx.txt"])
        wait_until(lambda: (rig.folder / "idx.txt").exists(), "the coordinator invites")
        self.ends(self.stage(rig, "idx", 0), DATA, "--images FOLDER")
        program.process.kill()
        program.process.wait()
        said = self.ends(self.stage(rig, "idx", 1, "--give-up", "1"), UNREACHABLE)
        self.assertTrue(re.search("does not answer", said), said)


if __name__ == "__main__":
    unittest.main()
