#!/usr/bin/env python3
"""Many workers that are killed, frozen and cut off from the network, as a seed says.

    chaos_test.py [--seconds S] [--faults N] [--workers N] [--seed N] [unittest's own]

First a third as long without faults. It must hold: all states are equal, the ledger balances, and
no time without a commit is longer than STALL_S. Printed: committed tokens per second with faults,
as a share of those without.
"""

import argparse
import collections
import contextlib
import json
import random
import signal
import sys
import time
import unittest

import journal
from relay import Network
from rig import INTERRUPTED, Invitation, RigTest, wait_until

# A step of 200 ms, rounds of 4 s; so small a model that many workers fit on two cores.
TOML = """
[run]
name = "chaos"
rounds = 1000000
min_workers = 2
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
[train]
optimizer = "toy"
toy_step_ms = 200
[sync]
inner_steps = 20
[round]
quorum = 0.75
grace = 0.05
[checkpoint]
every_rounds = 10
"""
STALL_S = 60
ALL_IN_S = 120  # after the last fault
SETTLE_S = 20  # without new faults, before the end

Fault = collections.namedtuple("Fault", "at kind worker seconds")


def draw_faults(rng, count, workers, seconds):
    """`count` faults within `seconds`, in order. Half of what lasts outlasts the silence limit."""
    faults = []
    for _ in range(count):
        kind = rng.choice(["kill", "freeze", "cut"])
        away = rng.uniform(0, 3) if kind == "kill" else rng.uniform(1, 29)
        faults.append(Fault(rng.uniform(0, seconds), kind, rng.randrange(workers), away))
    return sorted(faults)


class Fleet:
    """The workers and what befalls them."""

    def __init__(self, rig, count):
        self.rig = rig
        self.invitation = (rig.run / "invitation").read_text()
        self.network = Network(Invitation(self.invitation).address.decode())
        self.relays = [self.network.relay() for _ in range(count)]
        self.programs = [self.start(i) for i in range(count)]
        self.ends = {}  # worker -> (time, kind): of the fault that it suffers
        self.away_s = 0
        self.happened = collections.Counter()

    def start(self, i):
        """A process of worker i."""
        invitation = Invitation(self.invitation)
        invitation.address = self.relays[i].address.encode()
        return self.rig.worker(f"w{i}", "--give-up", "0", invitation=invitation.text())

    def begin(self, fault, now):
        """Unless that worker is suffering already."""
        if fault.worker in self.ends:
            return
        self.ends[fault.worker] = (now + fault.seconds, fault.kind)
        self.happened[fault.kind] += 1
        self.away_s += fault.seconds
        if fault.kind == "cut":
            self.relays[fault.worker].stall()
        else:
            self.programs[fault.worker].signal(
                signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)

    def end_due(self, now):
        """Ends the faults that have lasted long enough."""
        for i, (at, kind) in list(self.ends.items()):
            if at > now:
                continue
            del self.ends[i]
            if kind == "kill":
                self.programs[i].wait()
                self.programs[i] = self.start(i)
            elif kind == "freeze":
                self.programs[i].signal(signal.SIGCONT)
            else:
                self.relays[i].heal()


class Rate:
    """Committed tokens per second between the first and the last commit of a time."""

    def __init__(self, records, begin, end):
        self.per_s, self.longest_gap_s, previous = 0, 0, None
        total, first = 0, None
        offered, closed = {}, {}
        for record in records:
            if record.name == "ContributionAccepted":
                c = journal.contribution(record)
                offered[c.session, c.number] = sum(b - a for _, a, b in c.ranges)
            elif record.name == "RoundClosed":
                closed = journal.closing(record)[1]
            elif record.name == "RoundCommitted" and begin <= record.now_s <= end:
                if previous is not None:
                    total += sum(offered[who] for who in closed)
                    self.longest_gap_s = max(self.longest_gap_s, record.now_s - previous)
                first = record.now_s if first is None else first
                previous = record.now_s
        assert first is not None and previous > first, "there are not two commits"
        self.per_s = total / (previous - first)
        self.longest_gap_s = max(self.longest_gap_s, end - previous)


class ChaosTest(RigTest):
    """See above."""

    seconds, faults, workers, seed = 120, 62, 32, 1

    def now_s(self, rig):
        """The coordinator's time, as of its last commit."""
        return [r.now_s for r in rig.records() if r.name == "RoundCommitted"][-1]

    def suffer(self, fleet):
        """All faults, and until they have ended."""
        pending = draw_faults(random.Random(self.seed), self.faults, self.workers,
                              self.seconds - SETTLE_S)
        began = time.monotonic()
        while time.monotonic() - began < self.seconds or fleet.ends:
            now = time.monotonic() - began
            while pending and pending[0].at <= now:
                fleet.begin(pending.pop(0), now)
            fleet.end_due(now)
            time.sleep(0.02)

    def all_in(self, coordinator):
        """A round includes every worker: they all hold its base, bit for bit."""
        rounds = len(coordinator.rounds())

        def included():
            return [r["workers_included"] for r in coordinator.rounds()[rounds:]]
        try:
            wait_until(lambda: self.workers in included(), "a round includes all", ALL_IN_S)
        except AssertionError as error:
            self.fail(f"{error}: they include {included()} of {self.workers}\n"
                      f"{coordinator.text()[-10000:]}")

    def finish(self, rig, coordinator, fleet):
        """Two more rounds; then the run is over. What the last coordinator says."""
        coordinator.signal(signal.SIGTERM)
        self.assertEqual(coordinator.wait(), INTERRUPTED, coordinator.text())
        rounds = len(rig.history().commits) + 2
        last = rig.wait_ready(rig.coordinator("--json", "end.json", sets=[f"run.rounds={rounds}"]))
        self.ends(last, 0)
        for program in fleet.programs:
            self.ends(program, 0)
        rig.check_ledger(rounds)
        return json.loads((rig.folder / "end.json").read_text())

    def check(self, rig, faulty, end):
        """What must hold."""
        names = collections.Counter(rig.journal())
        self.assertEqual(names["StateDisputed"], 0)
        self.assertEqual(end["hash_mismatches"], 0)
        self.assertGreater(end["hash_checks"], 0)
        self.assertLess(faulty.longest_gap_s, STALL_S)
        return names

    def test_chaos(self):
        rig = self.rig(TOML)
        coordinator = rig.wait_ready(rig.coordinator("--invitation-uses", self.workers))
        fleet = Fleet(rig, self.workers)
        self.addCleanup(fleet.network.close)
        self.all_in(coordinator)
        times = [self.now_s(rig)]
        time.sleep(self.seconds / 3)
        times.append(self.now_s(rig))
        self.suffer(fleet)
        times.append(self.now_s(rig))
        self.all_in(coordinator)
        calm, faulty = (Rate(rig.records(), a, b) for a, b in zip(times, times[1:]))
        names = self.check(rig, faulty, self.finish(rig, coordinator, fleet))
        away = fleet.away_s / (self.workers * (times[2] - times[1]))
        ratio = faulty.per_s / calm.per_s
        print(f"seed {self.seed}: {self.workers} workers, {dict(fleet.happened)} in {self.seconds} "
              f"s; committed samples/s {calm.per_s:.1f} without faults, {faulty.per_s:.1f} with: "
              f"{100 * ratio:.1f} %; workers were away {100 * away:.1f} % of the time; longest "
              f"time without a commit {calm.longest_gap_s:.1f} s and {faulty.longest_gap_s:.1f} s; "
              f"sessions {names['SessionOpened']}, rounds {names['RoundCommitted']} committed, "
              f"{names['RoundAborted']} aborted")


def main():
    """Takes our own arguments, leaves the others to unittest."""
    parser = argparse.ArgumentParser(add_help=False)
    options = ("seconds", "faults", "workers", "seed")
    for option in options:
        parser.add_argument(f"--{option}", type=int, default=getattr(ChaosTest, option))
    found, others = parser.parse_known_args()
    for option in options:
        setattr(ChaosTest, option, getattr(found, option))
    unittest.main(argv=sys.argv[:1] + others)


if __name__ == "__main__":
    main()
