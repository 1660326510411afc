#!/usr/bin/env python3
"""What goes wrong for people, one test each: the message names cause and next step, and the exit
code is the one of cli/exit_codes.h."""

import socket
import unittest

from rig import (BIN, DATA, FAILURE, LONG_RUN, REFUSED, UNREACHABLE, USAGE, Invitation,
                 RigTest)


class ConfigurationTest(RigTest):
    """The coordinator's own file."""

    def test_mistyped_key(self):
        rig = self.rig("[run]\nrounds = 3\n[sync]\ninner_step = 4\n")
        self.ends(rig.coordinator(), USAGE, "run.toml:4", "sync.inner_step", "inner_steps")

    def test_value_out_of_range(self):
        rig = self.rig("[run]\nrounds = 0\n")
        self.ends(rig.coordinator(), USAGE, "run.toml:2", "run.rounds = 0", "from 1 to")

    def test_not_toml(self):
        rig = self.rig("[run\n")
        self.ends(rig.coordinator(), USAGE, "run.toml:1", "not valid TOML")

    def test_port_in_use(self):
        rig = self.rig()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            rig.address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.ends(rig.coordinator(), FAILURE, "cannot listen on " + rig.address, "in use",
                      "network.listen")

    def test_http_port_in_use(self):
        rig = self.rig()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.ends(rig.coordinator(sets=["network.http=" + address]), FAILURE,
                      address, "network.http")


class DataTest(RigTest):
    """data.train."""

    def test_missing(self):
        rig = self.rig()
        self.ends(rig.coordinator(sets=["train.optimizer=adamw", "data.train=missing.txt"]), DATA,
                  "data.train", "no file missing.txt")

    def test_empty(self):
        rig = self.rig()
        (rig.folder / "empty.txt").touch()
        self.ends(rig.coordinator(sets=["train.optimizer=adamw", "data.train=empty.txt"]), DATA,
                  "data.train", "empty.txt is empty")

    def test_too_short(self):
        rig = self.rig()
        (rig.folder / "short.txt").write_text("far too short")
        self.ends(rig.coordinator(sets=["train.optimizer=adamw", "data.train=short.txt"]), DATA,
                  "data.train", "too short", "13 tokens", "at least")


class JoiningTest(RigTest):
    """Invitations, keys and names of runs."""

    def ready(self, *arguments, sets=LONG_RUN):
        """A rig with a coordinator that invites."""
        rig = self.rig()
        coordinator = rig.wait_ready(rig.coordinator(*arguments, sets=sets))
        return rig, coordinator

    def test_expired_invitation(self):
        rig, _ = self.ready("--invitation-days", "0")
        self.ends(rig.worker("w1"), REFUSED, "expired", "ask for a new one")

    def test_used_up_invitation(self):
        rig, _ = self.ready("--invitation-uses", "1")
        rig.worker("w1").wait_for("joined run")
        self.ends(rig.worker("w2"), REFUSED, "used as often as it allows")

    def test_another_invitation(self):
        rig, _ = self.ready("--invitation-uses", "1")
        rig.worker("w1").wait_for("joined run")
        invite = rig.start("invite", [BIN / "longhaul", "invite", "out"])
        said = self.ends(invite, 0)
        text = next(word for word in said.split() if word.startswith("LH1-"))
        rig.worker("w2", invitation=text).wait_for("joined run")

    def test_mangled_invitation(self):
        rig, _ = self.ready()
        text = (rig.run / "invitation").read_text().strip()
        flipped = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]
        self.ends(rig.worker("w1", invitation=flipped), USAGE, "changed on the way",
                  "copy the whole line again")
        self.ends(rig.worker("w1", invitation=text[:-5]), USAGE, "its end is cut off")
        self.ends(rig.worker("w1", invitation="hello"), USAGE, "LH1-")
        self.ends(rig.worker("w1", invitation="@nothing.txt"), DATA, "nothing.txt")

    def test_another_run(self):
        rig, _ = self.ready()
        invitation = Invitation((rig.run / "invitation").read_text())
        invitation.run = bytes(8)
        self.ends(rig.worker("w1", invitation=invitation.text()), REFUSED, "another run")

    def test_wrong_coordinator_key(self):
        rig, _ = self.ready()
        invitation = Invitation((rig.run / "invitation").read_text())
        invitation.server_key = bytes([7] * 32)
        self.ends(rig.worker("w1", invitation=invitation.text()), REFUSED, "wrong coordinator",
                  "another coordinator key than expected")

    def test_nobody_listens(self):
        rig, coordinator = self.ready()
        coordinator.process.kill()
        coordinator.wait()
        self.ends(rig.worker("w1", "--give-up", "1.5"), UNREACHABLE, "could not join",
                  "cannot reach " + rig.address)

    def test_no_worker_within_the_waiting_time(self):
        rig, coordinator = self.ready("--wait", "0.5")
        self.ends(coordinator, UNREACHABLE, "no worker joined within")

    def test_second_process_with_the_same_key(self):
        rig, _ = self.ready()
        first = rig.worker("w1")
        first.wait_for("joined run")
        second = rig.start("again", rig.worker_argv("w1"))
        self.ends(first, REFUSED, "a newer process joined with this key")
        second.wait_for("joined run")

    def test_toy_worker_in_a_real_run(self):
        rig = self.rig()
        (rig.folder / "text.txt").write_text("some text " * 30000)
        rig.wait_ready(rig.coordinator(sets=["train.optimizer=adamw", "data.train=text.txt"]))
        self.ends(rig.worker("w1"), DATA, "this run needs longhaul-worker")

if __name__ == "__main__":
    unittest.main()
