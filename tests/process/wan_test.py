"""The WAN lab with real processes: verdicts, tiers, and that nothing is left behind."""

import glob
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree

BIN = pathlib.Path(os.environ["LONGHAUL_BIN_DIR"])
SCENARIOS = pathlib.Path(os.environ["LONGHAUL_SOURCE_DIR"]) / "examples" / "scenarios"
ALL = os.environ.get("LONGHAUL_WAN_ALL") == "1"
INVALID = 8  # this machine was too busy: no verdict about the program
TIMEOUT = 240

TINY = """
description = "two nodes"
[[node]]
name = "a"
rtt_ms = 4
[[node]]
name = "b"
rtt_ms = 4
[run.config]
run.rounds = 2
sync.inner_steps = 5
train.toy_step_ms = 5
[assert]
rounds = ">= 2"
hash_mismatches = "== 0"
"""


def longhaul(*arguments, **options):
    """Runs `longhaul wan ARGUMENTS`; the finished process with its text."""
    return subprocess.run([BIN / "longhaul", "wan", *map(str, arguments)], text=True,
                          capture_output=True, timeout=TIMEOUT, check=False, **options)


def tun_problem():
    """Why tier tun is not possible here, or ''."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tiny.toml"
        path.write_text(TINY)
        done = longhaul("exec", path, "-q", "--", "true")
        return "" if done.returncode in (0, INVALID) else done.stderr


class WanTest(unittest.TestCase):
    """One scenario each unless LONGHAUL_WAN_ALL is set."""

    @classmethod
    def setUpClass(cls):
        cls.no_tun = tun_problem()

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.tiny = self.folder / "tiny.toml"
        self.tiny.write_text(TINY)

    if not hasattr(unittest.TestCase, "enterContext"):  # Python before 3.11
        def enterContext(self, context):
            """Enters a context until the test ends."""
            value = context.__enter__()
            self.addCleanup(context.__exit__, None, None, None)
            return value

    def run_tiny(self, tier, *more):
        """Runs the tiny scenario; the process, after its exit code was looked at."""
        done = longhaul("run", self.tiny, "--tier", tier, *more)
        self.assertIn(done.returncode, (0, INVALID), done.stdout + done.stderr)
        return done

    def need_tun(self):
        """Skips where the system forbids tier tun."""
        if self.no_tun:
            self.skipTest("namespaces forbidden: " + self.no_tun)

    def check_reports(self, tier):
        """JSON and JUnit of a run that went well."""
        junit, outcome = self.folder / "j.xml", self.folder / "o.json"
        self.run_tiny(tier, "--junit", junit, "--json", outcome)
        result = json.loads(outcome.read_text())
        self.assertEqual((result["tier"], result["passed"]), (tier, True))
        self.assertEqual(result["metrics"]["rounds"], 2)
        suite = ElementTree.parse(junit).getroot().find("testsuite")
        self.assertEqual(suite.get("tests"), "4")

    def test_relay(self):
        self.check_reports("relay")

    def test_tun(self):
        self.need_tun()
        self.check_reports("tun")

    def test_sim_says_the_same_bytes_twice(self):
        self.check_reports("sim")
        outcomes = [self.folder / name for name in ("1.json", "2.json")]
        for outcome in outcomes:
            self.run_tiny("sim", "--json", outcome)
        self.assertEqual(outcomes[0].read_bytes(), outcomes[1].read_bytes())

    def test_every_example_in_sim(self):
        for scenario in sorted(SCENARIOS.glob("*.toml")):
            with self.subTest(scenario.name):
                done = longhaul("run", scenario, "--tier", "sim")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_failed_assertion(self):
        self.tiny.write_text(TINY + 'final_loss = "< 0"\n')
        done = longhaul("run", self.tiny, "--tier", "relay", "--folder", self.folder / "logs")
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILS   final_loss < 0", done.stdout)
        self.assertTrue((self.folder / "logs" / "coordinator.log").exists())

    def test_mistake_in_the_file(self):
        self.tiny.write_text(TINY.replace("rtt_ms", "rt_ms", 1))
        done = longhaul("run", self.tiny)
        self.assertEqual(done.returncode, 2)
        self.assertIn('tiny.toml:5: there is no key "node.rt_ms"; did you mean "rtt_ms"?',
                      done.stderr)

    def test_exec_gives_the_exit_code(self):
        self.need_tun()
        done = longhaul("exec", self.tiny, "--on", "b", "--", "sh", "-c", "hostname; exit 7")
        self.assertEqual((done.returncode, done.stdout), (7, "b\n"))

    def test_interrupt_leaves_nothing(self):
        for tier in ("relay",) if self.no_tun else ("relay", "tun"):
            self.tiny.write_text(TINY.replace("rounds = 2", "rounds = 100000"))
            logs = self.folder / tier
            process = subprocess.Popen([BIN / "longhaul", "wan", "run", self.tiny, "--tier", tier,
                                        "--folder", logs], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            deadline = time.monotonic() + 60
            while "committed" not in self.text_of(logs / "coordinator.log"):
                self.assertLess(time.monotonic(), deadline, "no round was committed")
                self.assertIsNone(process.poll())
            os.killpg(process.pid, signal.SIGINT)
            self.assertEqual(process.wait(timeout=60), 130)
            self.assertEqual(self.users_of(str(logs)), [])

    @staticmethod
    def text_of(path):
        """A file's text, or nothing."""
        return path.read_text() if path.exists() else ""

    @staticmethod
    def users_of(word):
        """Command lines of processes that name it."""
        found = []
        for name in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                line = pathlib.Path(name).read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if word in line:
                found.append(line)
        return found

    @unittest.skipUnless(ALL, "every example: LONGHAUL_WAN_ALL=1")
    def test_every_example(self):
        for path in sorted(SCENARIOS.glob("*.toml")):
            for tier in ("relay",) if self.no_tun else ("relay", "tun"):
                with self.subTest(path.stem, tier=tier):
                    done = longhaul("run", path, "--tier", tier)
                    self.assertIn(done.returncode, (0, INVALID), done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
