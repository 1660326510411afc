#include "wan/sim/history.h"

#include <utility>

#include "common/bytes.h"
#include "common/hash.h"

namespace longhaul::sim {
namespace {

// Everything by which two states that came from one history can differ.
std::string Fingerprint(const State& s) {
  ByteWriter w;
  w.Write(s.generation);
  w.I64(s.now.since_epoch.count());
  w.Write(s.last_session), w.Write(s.last_round), w.Write(s.last_fence), w.Write(s.last_request);
  w.Write(s.version), w.Write(s.state_hash), w.Write(s.decided);
  w.U8(static_cast<uint8_t>(s.phase));
  w.U64(s.sessions.size()), w.U64(s.ended.size()), w.U64(s.workers.size());
  s.ledger.Encode(w);
  w.Bool(s.round.has_value());
  if (s.round) {
    w.U64(s.round->contributions.size());
    for (const auto& [id, c] : s.round->contributions) w.Write(id), w.Bool(c.held);
    w.Bool(s.round->closing.has_value());
  }
  w.Write(s.snapshot.root), w.Write(s.oldest_snapshot);
  w.U64(s.commits.size()), w.U64(s.hashes.size());
  return w.Take();
}

}  // namespace

void History::Keep(const Record& record) {
  Coordinator::Apply(state_, record);
  ++records_;
  reader_(record, state_);
}

void History::Written() {
  for (const Record& record : std::exchange(pending_, {})) Keep(record);
}

void History::Recovered(const State& state) {
  const std::string wanted = Fingerprint(state);
  State guess = state_;
  size_t kept = 0;
  while (Fingerprint(guess) != wanted && kept < pending_.size()) {
    Coordinator::Apply(guess, pending_[kept++]);
  }
  const std::vector<Record> survived(pending_.begin(),
                                     pending_.begin() + static_cast<ptrdiff_t>(kept));
  pending_.clear();
  if (Fingerprint(guess) != wanted) {
    return complain_("the recovered state (version " + std::to_string(state.version.value) +
                     ", fence " + std::to_string(state.last_fence.value) +
                     ") is not what was made durable (version " +
                     std::to_string(state_.version.value) + ", fence " +
                     std::to_string(state_.last_fence.value) + ")");
  }
  for (const Record& record : survived) Keep(record);
}

}  // namespace longhaul::sim
