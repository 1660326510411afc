"""What a coordinator's journal and its checkpoints' ledgers say, read without its code."""

import collections
import os
import pathlib
import re
import struct

SOURCE = pathlib.Path(os.environ["LONGHAUL_SOURCE_DIR"])
HEADER = struct.Struct("<IIQQ32sQ")  # coordinator/journal_format.h
OBJECT = struct.Struct("<BQQQQQQIQ32s")  # ObjectInfo
PIECE = struct.Struct("<QBBBQQ")  # an interval of a ledger
STATES = ("free", "leased", "sealed", "committed", "discarded", "quarantined")

Record = collections.namedtuple("Record", "sequence name now_s body")
# ranges: [(fence, from, to)], in the order of training.
Contribution = collections.namedtuple("Contribution", "fragment base session number ranges")
Commit = collections.namedtuple("Commit", "round fragment version state_hash")


def record_names():
    """By type: the places in RecordBody."""
    text = (SOURCE / "coordinator/core/record.h").read_text()
    names = re.search(r"using RecordBody =\s*std::variant<([^>]*)>", text).group(1)
    return [name.strip() for name in names.split(",")]


NAMES = record_names()


class Bytes:
    """Reads fields one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        """The values of `layout`, a struct.Struct or its text."""
        layout = struct.Struct(layout) if isinstance(layout, str) else layout
        self.at += layout.size
        return layout.unpack_from(self.data, self.at - layout.size)

    def list(self, layout):
        """A 64-bit count and as many elements."""
        return [self.take(layout) for _ in range(self.take("<Q")[0])]


def read(folder):
    """All intact records in order; of one that is in two segments, that of the newer."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.log")):
        data, at = path.read_bytes(), 0
        while at + HEADER.size < len(data):
            _, length, sequence, *_ = HEADER.unpack_from(data, at)
            at += HEADER.size
            if at + length > len(data):
                break
            kind, now_ns = struct.unpack_from("<Bq", data, at)
            found[sequence] = Record(sequence, NAMES[kind], now_ns / 1e9, data[at + 9:at + length])
            at += length
    return [found[sequence] for sequence in sorted(found)]


def contribution(record):
    """Of a ContributionAccepted."""
    fields = Bytes(record.body)
    _, _, _, fragment, base, session, number, *_ = fields.take(OBJECT)
    return Contribution(fragment, base, session, number, fields.list("<QQQ"))


def commit(record):
    """Of a RoundCommitted."""
    fields = Bytes(record.body)
    number, _, fragment, version = fields.take("<QIQQ")
    fields.take(OBJECT)
    return Commit(number, fragment, version, fields.take("<II32s")[-1].hex())


def closing(record):
    """Of a RoundClosed: (fragment, [(session, number)])."""
    fields = Bytes(record.body)
    fragment = fields.take("<QQI")[1]
    return fragment, fields.list("<QQ")


class History:
    """Which contributions each commit is made of."""

    def __init__(self, records):
        self.commits = []  # (Commit, [Contribution])
        offered, closed = {}, {}
        for record in records:
            if record.name == "ContributionAccepted":
                c = contribution(record)
                offered[c.fragment, c.session, c.number] = c
            elif record.name == "RoundClosed":
                fragment, ids = closing(record)
                closed[fragment] = [offered[fragment, *who] for who in ids]
            elif record.name == "RoundCommitted":
                c = commit(record)
                self.commits.append((c, closed.pop(c.fragment)))

    def hashes(self):
        """Of all states, in the order of their commits."""
        return [(c.fragment, c.version, c.state_hash) for c, _ in self.commits]

    def membership(self):
        """Who trained what for which version: the same history leads to the same states."""
        return tuple((c.fragment, c.version, tuple(sorted(
            (part.session, tuple((a, b) for _, a, b in part.ranges)) for part in parts)))
                     for c, parts in self.commits)

    def trained(self, fragment, version):
        """Ranges of positions that lead to `version` of `fragment`, ascending and joined.

        AssertionError when a position is in two of them.
        """
        ranges = sorted((a, b) for c, parts in self.commits for part in parts
                        for _, a, b in part.ranges
                        if c.fragment == fragment and c.version <= version)
        joined = []
        for a, b in ranges:
            assert not joined or a >= joined[-1][1], f"{a} is trained twice on fragment {fragment}"
            if joined and joined[-1][1] == a:
                joined[-1] = (joined[-1][0], b)
            else:
                joined.append((a, b))
        return joined


def ledgers(file):
    """Of a checkpoint's ledger.bin: per fragment {state: [(from, to)]}, joined."""
    fields = Bytes(pathlib.Path(file).read_bytes())
    found = []
    for _ in range(fields.take("<Q")[0]):
        total, _ = fields.take("<QQ")
        pieces = fields.list(PIECE)
        ends = [piece[0] for piece in pieces[1:]] + [total]
        book = {state: [] for state in STATES}
        for (begin, state, *_), end in zip(pieces, ends):
            ranges = book[STATES[state]]
            if ranges and ranges[-1][1] == begin:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((begin, end))
        found.append(book)
    return found
