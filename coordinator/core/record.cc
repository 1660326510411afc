#include "coordinator/core/record.h"

#include "coordinator/core/serialize.h"

namespace longhaul {
namespace {

template <size_t I = 0>
bool ReadBody(ByteReader& r, uint8_t type, RecordBody& body) {
  if constexpr (I == std::variant_size_v<RecordBody>) {
    return false;
  } else {
    if (type != I) return ReadBody<I + 1>(r, type, body);
    serialize::Get(r, body.emplace<I>());
    return true;
  }
}

std::string Text(SessionId s) { return "session " + std::to_string(s.value); }
std::string Text(RoundId r) { return "round " + std::to_string(r.value); }
std::string Text(Version v) { return "version " + std::to_string(v.value); }
std::string Text(const ContributionId& c) {
  return std::to_string(c.session.value) + "/" + std::to_string(c.sequence);
}

std::string Text(FragmentId f) { return "fragment " + std::to_string(f.value); }
std::string Text(const std::vector<Version>& versions) {
  std::string text = versions.size() == 1 ? "version" : "versions";
  for (Version v : versions) text += " " + std::to_string(v.value);
  return text;
}
std::string Text(const std::vector<ObjectInfo>& snapshots) {
  std::vector<Version> versions;
  for (const ObjectInfo& s : snapshots) versions.push_back(s.id.version);
  return Text(versions);
}

struct Describe {
  std::string operator()(const RunStarted& x) {
    return "run started, " + std::to_string(x.positions) + " positions, " +
           std::to_string(x.elements.size()) + " fragments";
  }
  std::string operator()(const GenerationStarted& x) {
    return "generation " + std::to_string(x.generation.counter) + " started at " +
           Text(x.snapshots);
  }
  std::string operator()(const Restarted&) { return "restarted"; }
  std::string operator()(const InvitationMade& x) { return "invitation " + x.id; }
  std::string operator()(const InvitationRevoked& x) { return "invitation " + x.id + " revoked"; }
  std::string operator()(const WorkerEnrolled& x) { return "worker enrolled: " + x.name; }
  std::string operator()(const SessionOpened& x) { return Text(x.session) + " opened: " + x.name; }
  std::string operator()(const SessionEnded& x) {
    static constexpr const char* kNames[] = {"",           "left",   "silent",
                                             "superseded", "broken", "generation"};
    return Text(x.session) + " ended: " + kNames[static_cast<int>(x.reason) % 6];
  }
  std::string operator()(const MemberReady& x) { return Text(x.session) + " ready"; }
  std::string operator()(const SessionFinishing& x) { return Text(x.session) + " hands in"; }
  std::string operator()(const StepsPlanned& x) {
    return Text(x.session) + " makes " + std::to_string(x.steps) + " steps per round";
  }
  std::string operator()(const ExpiryFrozen&) {
    return "many workers fell silent at once: nobody expires for a while";
  }
  std::string operator()(const ExpiryThawed&) { return "silent workers expire again"; }
  std::string operator()(const StateDisputed& x) {
    return Text(x.session) + " holds another state of " + Text(x.fragment);
  }
  std::string operator()(const LeaseGranted& x) {
    return Text(x.session) + " leases " + std::to_string(x.positions) + " under fence " +
           std::to_string(x.fence.value);
  }
  std::string operator()(const ProgressDropped& x) {
    return Text(x.session) + " drops its progress on " + Text(x.fragment);
  }
  std::string operator()(const RoundOpened& x) {
    return Text(x.round) + " of " + Text(x.fragment) + " opened at " + Text(x.base) + ", members " +
           std::to_string(x.members.size()) + ", quorum " + std::to_string(x.quorum);
  }
  std::string operator()(const ContributionAccepted& x) {
    return "contribution " + Text(x.object.id.contribution) + " to " + Text(x.object.id.fragment) +
           " accepted, weight " + std::to_string(x.weight);
  }
  std::string operator()(const ContributionHeld& x) {
    return "contribution " + Text(x.id) + " held";
  }
  std::string operator()(const ContributionRefused& x) {
    return "contribution " + Text(x.id) + " refused: " + x.reason;
  }
  std::string operator()(const RoundClosed& x) {
    std::string text =
        Text(x.round) + " closed, attempt " + std::to_string(x.closing.attempt) + ":";
    for (const ContributionId& id : x.closing.included) text += " " + Text(id);
    return text;
  }
  std::string operator()(const RoundCommitted& x) {
    return Text(x.commit.round) + " committed: " + Text(x.commit.fragment) + " at " +
           Text(x.commit.version);
  }
  std::string operator()(const RoundAborted& x) { return Text(x.round) + " aborted: " + x.reason; }
  std::string operator()(const ContractBroken& x) { return "degraded: " + x.reason; }
  std::string operator()(const CheckpointCut& x) { return "checkpoint cut at " + Text(x.versions); }
  std::string operator()(const CheckpointStored& x) { return "checkpoint at " + Text(x.snapshots); }
  std::string operator()(const RequestOpened& x) {
    return std::string(x.request.kind == RequestKind::kEvaluate ? "evaluate " : "sample ") +
           Text(x.request.version) + " by " + Text(x.session);
  }
  std::string operator()(const RequestClosed& x) {
    return "request " + std::to_string(x.request.value) +
           (x.error.empty() ? " done" : " failed: " + x.error);
  }
  std::string operator()(const PhaseChanged& x) {
    static constexpr const char* kNames[] = {"",         "waiting", "running",
                                             "finished", "stopped", "left"};
    return std::string("phase ") + kNames[static_cast<int>(x.phase) % 6] +
           (x.reason.empty() ? "" : ": " + x.reason);
  }
  std::string operator()(const PeerOffered& x) {
    return Text(x.session) + " offers to reduce at " + x.address;
  }
  std::string operator()(const SlicesPlaced& x) {
    std::string text = Text(x.round) + " of " + Text(x.fragment) + " is reduced by";
    for (const Slice& s : x.slices) {
      text += " " + Reducer(s.reducer) + " (" + std::to_string(s.chunks) +
              (s.chunks == 1 ? " chunk" : " chunks") + (s.continues ? ", continues)" : ")");
    }
    return text;
  }
  std::string operator()(const SlicesMoved& x) {
    std::string text = Text(x.round) + ":";
    for (const SliceMove& m : x.moves) {
      text += " slice " + std::to_string(m.slice) + " moves from " + Reducer(m.from) + " to " +
              Reducer(m.reducer);
    }
    return text;
  }
  std::string operator()(const ContributionCut& x) {
    return "contribution " + Text(x.id) + " has " + std::to_string(x.slices.size()) + " slices";
  }
  std::string operator()(const SliceHeld& x) {
    std::string text = "slice " + std::to_string(x.slice) + " of " + Text(x.fragment) + " held of";
    for (const ContributionId& id : x.contributions) text += " " + Text(id);
    return text;
  }
  std::string operator()(const SliceReady& x) {
    return SliceOf(x.round, x.slice) + " ready, attempt " + std::to_string(x.attempt);
  }
  std::string operator()(const AggregateAssembled& x) {
    return Text(x.round) + " assembled: " + Text(x.fragment);
  }
  std::string operator()(const AggregateStored& x) {
    return Text(x.round) + ": " + Text(x.holder) + " holds the aggregate";
  }
  std::string operator()(const LinkMeasured& x) {
    return Text(x.link.session) + " sends " + std::to_string(x.link.up_bytes_per_s) +
           " bytes/s, receives " + std::to_string(x.link.down_bytes_per_s);
  }

 private:
  static std::string Reducer(SessionId id) { return id.value == 0 ? "the coordinator" : Text(id); }
  static std::string SliceOf(RoundId round, uint32_t slice) {
    return "slice " + std::to_string(slice) + " of " + Text(round);
  }
};

}  // namespace

std::string EncodeRecord(const Record& record) {
  ByteWriter w;
  w.U8(static_cast<uint8_t>(record.body.index()));
  w.I64(record.now.since_epoch.count());
  std::visit([&w](const auto& body) { serialize::Put(w, body); }, record.body);
  return w.Take();
}

absl::StatusOr<Record> DecodeRecord(ByteSpan bytes) {
  ByteReader r(bytes);
  Record record;
  uint8_t type = r.U8();
  record.now.since_epoch = Duration(r.I64());
  if (!ReadBody(r, type, record.body)) {
    return absl::InvalidArgumentError("journal record of unknown type " + std::to_string(type) +
                                      ": written by a newer version?");
  }
  if (!r.AtEnd()) return absl::InvalidArgumentError("journal record with a wrong length");
  return record;
}

std::string DescribeRecord(const Record& record) { return std::visit(Describe{}, record.body); }

}  // namespace longhaul
