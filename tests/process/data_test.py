#!/usr/bin/env python3
"""Runs that train from a manifest: blocks come over the network, each sample counts once."""

import http.server
import pathlib
import random
import re
import shutil
import subprocess
import threading
import unittest

from journal import SOURCE
from rig import BIN, PATIENCE_S, TOY_RUN, RigTest, wait_until

ROUNDS = 4
SETS = ["run.min_workers=2", f"run.rounds={ROUNDS}", "train.toy_step_ms=2",
        "data.sequence_length=1024"]


def write_domain(path, seed, size):
    """Text of one kind."""
    rng = random.Random(seed)
    path.write_text("".join(f"{rng.random()} of {seed}\n" for _ in range(size // 24)))


class Origin(http.server.ThreadingHTTPServer):
    """A file server that knows ranges."""

    daemon_threads = True

    def __init__(self, root):
        self.bytes_sent = 0
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """GET, whole or a range."""
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # pylint: disable=invalid-name
                """Answers."""
                path = pathlib.Path(root) / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                part = data[int(wanted[1]):int(wanted[2]) + 1] if wanted else data
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(data)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part)
                origin.bytes_sent += len(part)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                """Says nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def address(self):
        """http://..."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class DataTest(RigTest):
    """See above."""

    def prepared(self, rig, name="set", seed=1):
        """A data set of two domains; its folder."""
        for domain, size in (("web", 2_000_000), ("code", 700_000)):
            write_domain(rig.folder / f"{name}-{domain}.txt", f"{seed} {domain}", size)
        subprocess.run(
            [BIN / "longhaul", "data", "prepare", f"web={name}-web.txt", f"code={name}-code.txt",
             "-o", name], cwd=rig.folder, check=True, capture_output=True, timeout=PATIENCE_S)
        return rig.folder / name

    def train(self, rig, manifest, *arguments, sets=()):
        """Two workers, one after the other; what they said."""
        coordinator = rig.wait_ready(rig.coordinator(sets=[*SETS, f"data.manifest={manifest}",
                                                           *sets]))
        workers = []
        for name in ("w1", "w2"):
            opened = rig.journal().count("MemberReady")
            workers.append(rig.worker(name, *arguments))
            wait_until(lambda: rig.journal().count("MemberReady") > opened, f"{name} is ready")
        self.ends(coordinator, 0)
        said = [self.ends(worker, 0) for worker in workers]
        rig.check_ledger(ROUNDS)
        return said

    def cached(self, rig, name):
        """Names and sizes of the blocks that a worker keeps."""
        files = (rig.folder / "homes" / name).glob("worker.key.runs/*/blocks/*")
        return {path.name: path.stat().st_size for path in files}

    def test_only_over_the_network(self):
        rig, local = self.rig(), self.rig()
        data = self.prepared(rig)
        self.train(rig, "set")
        for name in ("w1", "w2"):
            self.assertTrue(self.cached(rig, name), "it keeps what it has fetched")
        # The same with the shards on the workers' own disks: the same samples, the same model.
        self.train(local, data, "--data", data)
        if rig.history().membership() == local.history().membership():
            self.assertEqual(rig.history().hashes(), local.history().hashes())
        coverage = subprocess.run([BIN / "longhaul", "status", rig.run, "--coverage"],
                                  capture_output=True, text=True, check=True).stdout
        shares = dict(re.findall(r"^\s*(web|code)\s+\d+\s+([\d.]+) %", coverage, re.M))
        self.assertEqual(set(shares), {"web", "code"}, coverage)

    def test_one_worker_learns_the_same_from_any_source(self):
        hashes = []
        first = self.rig()
        data = self.prepared(first)
        origin = Origin(data)
        self.addCleanup(origin.server_close)
        self.addCleanup(origin.shutdown)
        for manifest, arguments in ((data, ["--data", data]), (data, []),
                                    (origin.address(), ["--disk", "0.0005"]),
                                    (data, ["--data", origin.address()])):
            rig = self.rig()
            sets = [*SETS, "run.min_workers=1", f"data.manifest={manifest}"]
            coordinator = rig.wait_ready(rig.coordinator(sets=sets))
            sent = origin.bytes_sent
            worker = rig.worker("w1", *arguments)
            self.ends(coordinator, 0)
            self.ends(worker, 0)
            rig.check_ledger(ROUNDS)
            hashes.append(rig.history().hashes())
            self.assertEqual(origin.bytes_sent > sent, origin.address() in [manifest, *arguments])
            self.assertLess(sum(self.cached(rig, "w1").values()), 4_000_000_000)
        self.assertEqual([h == hashes[0] for h in hashes], [True] * 4)

    def test_a_source_that_lies_is_left(self):
        rig = self.rig()
        data = self.prepared(rig)
        bad = rig.folder / "bad"
        shutil.copytree(data, bad)
        for shard in (bad / "shards").iterdir():
            content = bytearray(shard.read_bytes())
            for at in range(5000, len(content), 1000):
                content[at] ^= 1
            shard.write_bytes(content)
        self.train(rig, "set", "--data", bad)

    def test_damage_on_a_workers_disk_is_repaired(self):
        rig = self.rig()
        self.prepared(rig)
        sets = [*SETS, "run.min_workers=1", "data.manifest=set", "run.rounds=100000"]
        coordinator = rig.wait_ready(rig.coordinator(sets=sets))
        worker = rig.worker("w1")
        wait_until(lambda: len(coordinator.rounds()) > 2, "some rounds")
        worker.process.kill()
        worker.wait()
        for name in self.cached(rig, "w1"):
            [path] = (rig.folder / "homes" / "w1").glob(f"worker.key.runs/*/blocks/{name}")
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        rounds = len(coordinator.rounds())
        again = rig.worker("w1")
        wait_until(lambda: len(coordinator.rounds()) > rounds + 2, "it goes on")
        self.assertIn("is damaged and is fetched again", again.text())

    def test_another_data_set_is_refused(self):
        rig = self.rig()
        self.prepared(rig)
        self.prepared(rig, "other", seed=2)
        self.train(rig, "set")
        resumed = rig.coordinator(sets=[*SETS, "data.manifest=other"])
        self.assertNotEqual(resumed.wait(), 0)
        self.assertIn("this run trains on data", resumed.text())
        # From a checkpoint, too.
        fresh = rig.coordinator("--resume", rig.checkpoint(ROUNDS), run="fresh",
                                sets=[*SETS, "data.manifest=other"])
        self.assertNotEqual(fresh.wait(), 0)
        self.assertIn("was trained on data", fresh.text())

    def test_refuses_what_cannot_be(self):
        rig = self.rig(TOY_RUN)
        self.prepared(rig)
        for sets, text in (
                (["data.manifest=nowhere"], "is not a folder"),
                (["data.manifest=set", "data.mixture=web=1"], "code has no share"),
                (["data.manifest=set", "data.mixture=web=1 code=0"], "not a whole number above 0"),
                (["data.manifest=set", "data.mixture=web=1 wiki=1"], "no such domain"),
                (["data.mixture=web=1"], "not given"),
                (["data.manifest=set", "data.train=a.txt"], "only one of")):
            refused = rig.coordinator(sets=[*SETS, *sets])
            self.assertNotEqual(refused.wait(), 0)
            self.assertIn(text, refused.text())
        manifest = rig.folder / "set" / "manifest"
        manifest.write_bytes(manifest.read_bytes()[:-1])
        refused = rig.coordinator(sets=[*SETS, "data.manifest=set"])
        self.assertNotEqual(refused.wait(), 0)

    def shared_run(self, *arguments, kill=False):
        """Three workers; (bytes that the coordinator sent, bytes of all blocks that were used)."""
        rig = self.rig()
        self.prepared(rig)
        sets = [*SETS, "run.min_workers=3", "data.manifest=set", "round.quorum=0.5"]
        coordinator = rig.wait_ready(rig.coordinator("-v", sets=sets))
        workers = [rig.worker(name, "-v", *arguments) for name in ("w1", "w2", "w3")]
        if kill:
            wait_until(lambda: self.cached(rig, "w3"), "w3 has a block")
            workers[2].process.kill()
            workers[2].wait()
            wait_until(lambda: rig.journal().count("MemberReady") >= 2, "the others train")
            workers[2] = rig.worker("w3", "-v", *arguments)
        said = self.ends(coordinator, 0)
        given = sum(int(n) for worker in workers
                    for n in re.findall(r"(\d+) bytes given", self.ends(worker, 0)))
        rig.check_ledger(ROUNDS)
        used = {}
        for name in ("w1", "w2", "w3"):
            used.update(self.cached(rig, name))
        sent = int(re.search(r"training data: (\d+) bytes sent", said)[1])
        print(f"egress {sent} bytes, {sent / sum(used.values()):.2f} of the blocks that were used; "
              f"workers gave each other {given} bytes", flush=True)
        return sent, sum(used.values()), given

    def test_workers_share_what_they_have(self):
        sent, used, given = self.shared_run("--peer", "127.0.0.1:0")
        self.assertLess(sent, 1.5 * used)
        self.assertGreater(given, 0.5 * used)
        alone, used, given = self.shared_run()
        self.assertGreater(alone, 1.5 * used)
        self.assertEqual(given, 0)

    def test_a_worker_that_shares_is_killed(self):
        self.shared_run("--peer", "127.0.0.1:0", kill=True)

    def test_workers_that_cannot_reach_each_other_ask_the_coordinator(self):
        _, _, given = self.shared_run("--peer", "127.0.0.1:0", "--peer-advertise", "127.0.0.1:1")
        self.assertEqual(given, 0)

    def test_plans_of_the_examples(self):
        fleets = sorted((SOURCE / "examples" / "fleets").glob("*.toml"))
        plan = subprocess.run([BIN / "longhaul", "plan", *fleets], capture_output=True, text=True,
                              check=True, timeout=PATIENCE_S).stdout
        for fleet in fleets:
            self.assertIn(fleet.name, plan)
        for words in ("P1 steps", "P3 fragments", "ratio", "limited", "GB"):
            self.assertIn(words, plan)
        for codec in ("top-k", "bit-budget", "int8", "float32"):
            what_if = subprocess.run(
                [BIN / "longhaul", "plan", fleets[0], "--set", f"sync.codec={codec}", "--set",
                 "sync.bits=1.5", "--set", "sync.inner_steps=60", "--recommend"],
                capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
            self.assertIn(f"up {codec} ", what_if)

    def test_recommended_steps_count_updates(self):
        ipc = ["--set", "train.mode=pcn", "--set", "pcn.rule=ipc", "--set", "pcn.sweeps=3",
               "--set", "sync.inner_steps=60"]
        said = subprocess.run(
            [BIN / "longhaul", "plan", SOURCE / "examples" / "fleets" / "home.toml", *ipc,
             "--recommend"], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
        steps = int(re.search(r"sync\.inner_steps=(\d+)", said)[1])
        self.assertEqual(steps % 3, 0, said)

    def test_steps_follow_the_speed(self):
        rig = self.rig()
        self.prepared(rig)
        sets = [*SETS, "data.manifest=set", "round.plan=auto", "run.rounds=100000",
                "sync.inner_steps=16", "train.toy_step_ms=10"]
        coordinator = rig.wait_ready(rig.coordinator(sets=sets))
        rig.worker("slow", "--toy-step-ms", "40")
        rig.worker("fast", "--toy-step-ms", "10")
        wait_until(lambda: "StepsPlanned" in rig.journal(), "steps are planned")
        rounds = len(coordinator.rounds())
        wait_until(lambda: len(coordinator.rounds()) > rounds + 4, "rounds with the plan")
        coordinator.signal(15)
        coordinator.wait()
        history = rig.history()
        last = {part.session: sum(b - a for _, a, b in part.ranges)
                for _, parts in history.commits[-1:] for part in parts}
        if len(last) == 2:
            self.assertGreater(max(last.values()), 1.5 * min(last.values()))


if __name__ == "__main__":
    unittest.main()
