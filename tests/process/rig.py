"""Real processes for tests: coordinators and workers on loopback, in a folder of their own."""

import base64
import ctypes
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

import journal

BIN = pathlib.Path(os.environ["LONGHAUL_BIN_DIR"])
FAIL_CALLS = os.environ.get("LONGHAUL_FAIL_CALLS", "")
PATIENCE_S = 60  # for whatever must happen soon; generous, machines may be busy

TOY_RUN = """
[run]
name = "test"
rounds = 3
min_workers = 2
[model]
preset = "llama-130k"
[train]
optimizer = "toy"
[sync]
inner_steps = 4
[round]
quorum = 1.0
[checkpoint]
every_rounds = 2
"""

# Overrides for a run that goes on until it is stopped.
LONG_RUN = ("run.rounds=100000", "train.toy_step_ms=5", "checkpoint.every_rounds=5",
            "run.min_workers=1")

# cli/exit_codes.h
FAILURE, USAGE, REFUSED, UNREACHABLE, DATA, STORAGE, INTERRUPTED = 1, 2, 4, 5, 6, 7, 130


def wait_until(condition, what, seconds=PATIENCE_S):
    """The first true value of condition(), which is asked again and again."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def die_with_parent():
    """In a child: SIGKILL when the test is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def preload(fault="", log_calls=None):
    """The environment of a program whose calls shall fail, or be logged (fail_calls.cc)."""
    environment = {"LD_PRELOAD": FAIL_CALLS} if fault or log_calls else {}
    if fault:
        environment["LONGHAUL_FAULT"] = fault
    if log_calls:
        environment["LONGHAUL_FAULT_LOG"] = str(log_calls)
    return environment


class Invitation:
    """The parts of an invitation's text (transport/invitation.cc), to change some of them."""

    def __init__(self, text):
        body = text.strip()[len("LH1-"):]
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[2:-8]
        size = struct.unpack_from("<I", data, 1)[0]
        assert data[0] == 1, "tests listen on one address"
        self.address = data[5:5 + size]
        rest = data[5 + size:]
        self.server_key, self.run, self.other = rest[:32], rest[32:40], rest[40:]

    def text(self):
        """LH1-..., with a right checksum whatever was changed."""
        body = (b"\1" + struct.pack("<I", len(self.address)) + self.address + self.server_key +
                self.run + self.other)
        data = struct.pack("<H", 2 + len(body) + 8) + body
        data += hashlib.blake2b(b"LH-invitation-1" + data, digest_size=32).digest()[:8]
        return "LH1-" + base64.urlsafe_b64encode(data).decode().rstrip("=")


class Program:
    """A started program. stdout and stderr go to one file, which tests read while it runs."""

    def __init__(self, name, argv, folder, environment=None):
        self.name = name
        self.log = folder / f"{name}.log"
        self.started_at = self.log.stat().st_size if self.log.exists() else 0
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LONGHAUL_")}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [str(word) for word in argv], cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, env={**clean, **(environment or {})}, preexec_fn=die_with_parent)

    def text(self):
        """What it has printed so far."""
        with open(self.log, "rb") as file:
            file.seek(self.started_at)
            return file.read().decode(errors="replace")

    def running(self):
        """Whether it has not ended."""
        return self.process.poll() is None

    def signal(self, number):
        """Sends a signal, if it still runs."""
        if self.running():
            self.process.send_signal(number)

    def wait(self, seconds=PATIENCE_S):
        """Its exit code; minus the signal's number when one ended it."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end in {seconds} s; it said:\n"
                                 f"{self.text()}") from None

    def wait_for(self, text, seconds=PATIENCE_S):
        """Until it has printed `text`."""
        def seen():
            if text in self.text():
                return True
            if not self.running() and text not in self.text():
                raise AssertionError(f"{self.name} ended with {self.process.returncode} before it "
                                     f"said {text!r}; it said:\n{self.text()}")
            return False
        wait_until(seen, f"{self.name} says {text!r}", seconds)

    def rounds(self):
        """The round lines of a coordinator with --json-lines."""
        return [json.loads(line) for line in self.text().splitlines()
                if line.startswith('{"round"')]


class Rig:
    """A temporary folder with a run in it, and the programs that were started there."""

    def __init__(self, toml=TOY_RUN):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="longhaul-test-"))
        self.run = self.folder / "out"
        self.toml = self.folder / "run.toml"
        self.toml.write_text(toml)
        # An address of its own: nobody takes the port while a coordinator starts again.
        self.address = "127.%d.%d.%d:0" % tuple(random.randint(1, 254) for _ in range(3))
        self.invitations = 0
        self.programs = []

    def close(self):
        """Ends all programs and removes the folder."""
        for program in self.programs:
            if program.running():
                program.process.kill()
            program.process.wait()
        shutil.rmtree(self.folder)

    def start(self, name, argv, environment=None):
        """Any program."""
        program = Program(name, argv, self.folder, environment)
        self.programs.append(program)
        return program

    def coordinator(self, *arguments, sets=(), fault="", log_calls=None, run="out"):
        """Starts `longhaul coordinator`; the second time at the port of the first.

        fault: LONGHAUL_FAULT of fail_calls.cc. log_calls: a file name.
        """
        self.invitations = self.journal().count("InvitationMade")
        argv = [BIN / "longhaul", "coordinator", self.toml, "--json-lines",
                "--set", f"network.listen={self.address}", "--set", "network.http=",
                "--set", f"run.output_dir={run}"]
        for assignment in sets:
            argv += ["--set", assignment]
        return self.start(f"coordinator-{run}", argv + list(arguments),
                          preload(fault, log_calls))

    def ready(self):
        """Whether the coordinator started last invites; its address is kept for the next start."""
        if self.journal().count("InvitationMade") <= self.invitations:
            return False
        self.address = Invitation((self.run / "invitation").read_text()).address.decode()
        return True

    def wait_ready(self, coordinator):
        """Until workers can join."""
        def ready():
            if not coordinator.running():
                raise AssertionError(f"the coordinator ended with {coordinator.process.returncode}:"
                                     f"\n{coordinator.text()}")
            return self.ready()
        wait_until(ready, "the coordinator invites")
        return coordinator

    def worker(self, name, *arguments, program="longhaul-worker-toy", invitation=None, fault=""):
        """Starts a worker with its own home folder."""
        return self.start(name, self.worker_argv(name, *arguments, program=program,
                                                 invitation=invitation), preload(fault))

    def worker_argv(self, name, *arguments, program="longhaul-worker-toy", invitation=None):
        """What starts it."""
        text = invitation or f"@{self.run / 'invitation'}"
        return [BIN / program, text, "--name", name, "--home", self.folder / "homes" / name,
                *arguments]

    def records(self):
        """All intact records of the journal."""
        return journal.read(self.run / "journal")

    def journal(self):
        """Their names."""
        return [record.name for record in self.records()]

    def history(self):
        """What was committed."""
        return journal.History(self.records())

    def check_ledger(self, number):
        """The ledger of a checkpoint holds what was committed before it, each position once."""
        history, state = self.history(), self.state(number)
        books = journal.ledgers(self.checkpoint(number) / "trainer" / "ledger.bin")
        assert len(books) == len(state["fragments"])
        for i, (book, fragment) in enumerate(zip(books, state["fragments"])):
            trained = history.trained(i, fragment["version"])
            assert book["committed"] == trained, f"{i}: {book} but trained was {trained}"

    def checkpoint(self, number):
        """The folder of a checkpoint."""
        return self.run / "checkpoints" / f"round-{number:06}"

    def model(self, number):
        """(state hashes, digests of ledger, momentum and residual) of a checkpoint."""
        folder = self.checkpoint(number)
        files = {name: hashlib.sha256((folder / "trainer" / name).read_bytes()).hexdigest()
                 for name in ("ledger.bin", "momentum.bin", "residual.bin")}
        hashes = [f["state_hash"] for f in self.state(number)["fragments"]]
        return {"state_hashes": hashes, **files}

    def state(self, number):
        """trainer/state.json of a checkpoint."""
        return json.loads((self.checkpoint(number) / "trainer" / "state.json").read_text())


class RigTest(unittest.TestCase):
    """A test with rigs; what the programs said is shown when it fails."""

    def rig(self, toml=TOY_RUN):
        """A new rig, closed at the end of the test."""
        rig = Rig(toml)
        self.addCleanup(rig.close)
        return rig

    def ends(self, program, code, *texts):
        """`program` ends with `code` and has said all of `texts`."""
        found = program.wait()
        said = program.text()
        self.assertEqual(found, code, f"{program.name} said:\n{said}")
        for text in texts:
            self.assertIn(text, said)
        return said
