#include "wan/sim/packet_text.h"

#include "proto/chunk.h"
#include "proto/codec.h"

namespace longhaul::sim {
namespace {

std::string Number(uint64_t n) { return std::to_string(n); }

std::string Name(const ObjectId& id) {
  static constexpr const char* kKinds[] = {"?", "contribution", "aggregate", "state"};
  return std::string(kKinds[static_cast<int>(id.kind) % 4]) + " " + Number(id.fragment.value) +
         "/v" + Number(id.version.value) + " " + Number(id.contribution.session.value) + "-" +
         Number(id.contribution.sequence);
}

struct Text {
  std::string operator()(const Hello&) const { return "Hello"; }
  std::string operator()(const Heartbeat& h) const {
    std::string s = "Heartbeat";
    for (const FragmentState& f : h.fragments)
      s += " f" + Number(f.fragment.value) + "=v" + Number(f.version.value);
    return s;
  }
  std::string operator()(const ContributionReady& c) const {
    std::string s = "ContributionReady " + Name(c.object.id) + " to round " +
                    Number(c.round.value) + ", steps " + Number(c.steps) + ", leases";
    for (const LeaseRange& l : c.leases)
      s += " " + Number(l.fence.value) + ":[" + Number(l.from) + "," + Number(l.to) + ")";
    return s;
  }
  std::string operator()(const Leave& l) const {
    return l.hand_in ? "Leave after handing in" : "Leave";
  }
  std::string operator()(const Fetch& f) const {
    return "Fetch " + Name(f.object) + " attempt " + Number(f.attempt);
  }
  std::string operator()(const FetchRefused& f) const {
    return "FetchRefused " + Name(f.object) + ": " + f.reason;
  }
  std::string operator()(const Refused& r) const { return "Refused: " + r.reason; }
  std::string operator()(const Welcome& w) const { return "Welcome " + Number(w.session.value); }
  std::string operator()(const Assignment& a) const {
    std::string s = "Assignment";
    for (const FragmentState& f : a.current) s += " v" + Number(f.version.value);
    for (const RoundView& r : a.rounds) s += " round " + Number(r.round.value);
    for (const OutcomeView& o : a.outcomes)
      s += " decided " + Number(o.decided.value) + " included " + Number(o.included.session.value) +
           "-" + Number(o.included.sequence);
    for (const LeaseRange& l : a.leases)
      s += " " + Number(l.fence.value) + ":[" + Number(l.from) + "," + Number(l.to) + ")";
    return s;
  }
  template <class T>
  std::string operator()(const T&) const {
    return "message";
  }
};

}  // namespace

std::string DescribePacket(const Packet& packet) {
  const std::string who = "process " + Number(packet.process) + " ";
  if (packet.is_chunk()) {
    const auto header = DecodeChunkHeader(AsBytes(packet.chunk_header));
    return who + "chunk" + (header.ok() ? " of transfer " + Number(header->transfer) : "");
  }
  const auto envelope = DecodeEnvelope(AsBytes(packet.control));
  if (!envelope.ok()) return who + "unreadable";
  return who + "session " + Number(envelope->session.value) + " " +
         std::visit(Text{}, envelope->body);
}

}  // namespace longhaul::sim
