// Rounds that workers reduce: who gets which slice, what reducers are told, what happens when one
// is lost, when the aggregate is safe enough to commit.
#include <algorithm>

#include "common/check.h"
#include "compression/codec.h"
#include "coordinator/core/coordinator.h"
#include "proto/chunk.h"
#include "sharding/plan/shares.h"

namespace longhaul {
namespace {

// One reducer is told of so many contributions, over all its orders: they fit its Assignment.
constexpr uint64_t kMaxOrderedContributions = 512;
constexpr uint32_t kMaxMoves = 4;             // then the coordinator takes what is left
constexpr Duration kHolderTime = Seconds(5);  // for another holder, times patience
constexpr size_t kMaxSources = 128;           // named in one Assignment

uint32_t ChunksOf(uint64_t elements) {
  return static_cast<uint32_t>((elements + kChunkElements - 1) / kChunkElements);
}

std::string Hex(const WorkerKey& key) { return ToHex(key.bytes); }

}  // namespace

SharePayload PayloadOf(const RunConfig& config, uint64_t elements) {
  const auto bytes = [&](const std::string& codec, double bits) {
    SyncSection sync = config.sync;
    sync.codec = codec;
    sync.bits = bits;
    return HasBitBudget(*CodecByName(codec)) ? static_cast<double>(elements) * bits / 8
                                             : static_cast<double>(CodedSize(sync, elements).bytes);
  };
  return {bytes(config.sync.codec, config.sync.bits),
          bytes(config.sync.codec_down, BitsDown(config))};
}

std::vector<uint32_t> Cuts(uint64_t elements, uint32_t slices) {
  const uint32_t chunks = ChunksOf(elements);
  const uint32_t n = std::clamp<uint32_t>(slices, 1, std::min(chunks, kMaxSlices));
  return ChunksOfShares(std::vector<double>(n, 1.0 / n), chunks);
}

bool Coordinator::Trusted(const WorkerKey& key) const {
  if (trusted_reducers_.contains("*") || trusted_reducers_.contains(Hex(key))) return true;
  const EnrolledWorker& worker = state_.workers.at(key);
  if (!trusted_reducers_.contains(worker.name)) return false;
  return std::none_of(state_.workers.begin(), state_.workers.end(), [&](const auto& other) {
    return other.second.name == worker.name && other.second.number < worker.number;
  });
}

uint64_t Coordinator::OrderedFrom(SessionId id) const {
  uint64_t n = 0;
  for (const Fragment& f : state_.fragments) {
    if (!f.round) continue;
    for (const Slice& slice : f.round->slices)
      n += slice.reducer == id ? f.round->members.size() : 0;
  }
  return n;
}

bool Coordinator::MayReduce(SessionId id, const Session& session, uint64_t members) const {
  return session.ready && !session.finishing && !session.poor_reducer &&
         !session.peer_address.empty() && OrderedFrom(id) + members <= kMaxOrderedContributions &&
         Trusted(session.key);
}

std::vector<SessionId> Coordinator::ReducersFor(const RoundOpened& opened) const {
  const uint64_t members = opened.members.size();
  std::vector<SessionId> reducers;
  for (const auto& [id, session] : state_.sessions) {
    if (reducers.size() < kMaxSlices && MayReduce(id, session, members)) reducers.push_back(id);
  }
  // Fragments begin with different reducers, so that small ones are spread.
  if (!reducers.empty()) {
    const auto first = static_cast<ptrdiff_t>(opened.fragment.value % reducers.size());
    std::rotate(reducers.begin(), reducers.begin() + first, reducers.end());
  }
  return reducers;
}

// A link that has not been measured counts as the mean of those that were.
SharePeer Coordinator::PeerOf(SessionId id) const {
  double up = 0, down = 0, known = 0;
  for (const auto& [other, session] : state_.sessions) {
    if (session.up_bytes_per_s == 0) continue;
    up += static_cast<double>(session.up_bytes_per_s);
    down += static_cast<double>(session.down_bytes_per_s);
    ++known;
  }
  const auto session = state_.sessions.find(id);
  if (session != state_.sessions.end() && session->second.up_bytes_per_s > 0) {
    return {static_cast<double>(session->second.up_bytes_per_s),
            static_cast<double>(session->second.down_bytes_per_s)};
  }
  return known > 0 ? SharePeer{up / known, down / known} : SharePeer{1, 1};
}

std::vector<double> Coordinator::SharesOf(const std::vector<SessionId>& reducers,
                                          const RoundOpened& opened) const {
  std::set<SessionId> others;
  for (const Member& m : opened.members) others.insert(m.session);
  std::vector<SharePeer> peers;
  for (SessionId id : reducers) {
    peers.push_back(PeerOf(id));
    peers.back().contributes = others.erase(id) > 0;
  }
  for (SessionId id : others) {
    peers.push_back(PeerOf(id));
    peers.back().most_share = 0;
  }
  SharePlan plan = PlanShares(peers, PayloadOf(config_, state_.fragment(opened.fragment).elements));
  LONGHAUL_CHECK(plan.possible, "any reducer may take all of it");
  plan.shares.resize(reducers.size());
  return plan.shares;
}

std::optional<SlicesPlaced> Coordinator::PlaceSlices(const RoundOpened& opened) const {
  const uint64_t members = opened.members.size();
  if (!WorkersReduce() || members > kMaxReduceMembers || state_.sessions.size() > kMaxPeers)
    return std::nullopt;
  const std::vector<SessionId> reducers = ReducersFor(opened);
  if (reducers.empty()) return std::nullopt;
  const Fragment& f = state_.fragment(opened.fragment);
  const std::vector<double> shares = SharesOf(reducers, opened);
  SlicesPlaced placed{opened.round, opened.fragment, {}};
  uint32_t first = 0;
  const auto place = [&](SessionId reducer, uint32_t chunks) {
    const Slice slice{.first_chunk = first, .chunks = chunks, .reducer = reducer};
    placed.slices.push_back(slice);
    placed.slices.back().continues =
        std::any_of(f.reduced_by.begin(), f.reduced_by.end(), [&](const Slice& s) {
          return s.continues && s.first_chunk == first && s.chunks == chunks &&
                 s.reducer == reducer;
        });
    first += chunks;
  };
  // Slices of a given size, so many to each; or one to each, sized by its share.
  const std::vector<uint32_t> cuts = Cuts(f.elements, config_.reduce.slices);
  const bool sized = config_.reduce.slices == 0;
  const std::vector<uint32_t> parts =
      ChunksOfShares(shares, sized ? ChunksOf(f.elements) : static_cast<uint32_t>(cuts.size()));
  size_t cut = 0;
  for (size_t i = 0; i < reducers.size(); ++i) {
    // No one gets more of one round than its orders may hold.
    const uint64_t slices = sized ? std::min(parts[i], 1u) : parts[i];
    if (OrderedFrom(reducers[i]) + slices * members > kMaxOrderedContributions) return std::nullopt;
    for (uint64_t s = 0; s < slices; ++s) place(reducers[i], sized ? parts[i] : cuts[cut++]);
  }
  return placed;
}

SlicesMoved Coordinator::MoveSlices(FragmentId id, const std::vector<uint32_t>& slices,
                                    bool poor) const {
  const Round& round = *state_.fragment(id).round;
  SlicesMoved moved{round.id, id, {}, poor};
  std::map<SessionId, uint64_t> load;
  for (const auto& [session_id, session] : state_.sessions) {
    if (!poor && round.moves < kMaxMoves && MayReduce(session_id, session, round.members.size()))
      load[session_id] = OrderedFrom(session_id);
  }
  for (uint32_t slice : slices) {
    SessionId next{0};
    for (const auto& [session_id, n] : load) {
      if (n + round.members.size() > kMaxOrderedContributions) continue;
      if (next.value == 0 || n < load.at(next)) next = session_id;
    }
    if (next.value != 0) load[next] += round.members.size();
    moved.moves.push_back({slice, round.slices[slice].reducer, next});
  }
  return moved;
}

std::optional<RecordBody> Coordinator::DecideMoves(FragmentId id) const {
  const Round& round = *state_.fragment(id).round;
  if (round.slices.empty() || round.assembled) return std::nullopt;
  std::vector<uint32_t> gone, late;
  for (uint32_t i = 0; i < round.slices.size(); ++i) {
    const Slice& slice = round.slices[i];
    if (slice.reducer.value == 0) continue;
    if (!state_.sessions.contains(slice.reducer)) gone.push_back(i);
    const bool waits =
        std::any_of(round.contributions.begin(), round.contributions.end(),
                    [&](const auto& c) { return (c.second.held_slices >> i & 1) == 0; });
    const bool ready = round.closing && slice.attempt == round.closing->attempt;
    // When all are ready and yet not put together, any of them may be to blame.
    if (round.closing ? !ready || round.AllSlicesReady() : waits) late.push_back(i);
  }
  if (!gone.empty()) return MoveSlices(id, gone, /*poor=*/false);
  // A quorum that is held closes the round without what is missing.
  if (now_ < round.deadline || late.empty() || (!round.closing && QuorumHeld(round)))
    return std::nullopt;
  return MoveSlices(id, late, /*poor=*/true);
}

// The coordinator, whose copy is durable, and one more worker than the reducer, where there is one.
bool Coordinator::EnoughHolders(const Round& round) const {
  return std::all_of(round.slices.begin(), round.slices.end(), [&](const Slice& slice) {
    const auto other = [&](SessionId id) {
      return id != slice.reducer && state_.sessions.contains(id);
    };
    const bool held = std::any_of(round.holders.begin(), round.holders.end(), other);
    const bool possible =
        std::any_of(state_.sessions.begin(), state_.sessions.end(),
                    [&](const auto& s) { return s.second.ready && other(s.first); });
    return slice.reducer.value == 0 || held || !possible;
  });
}

// The copy here is durable: nothing is lost when no other holder is found in time.
Timestamp Coordinator::HoldersUntil(const Round& round) const {
  return round.assembled->since + kHolderTime * patience_per_mille_ / 1000;
}

RoundCommitted Coordinator::MakeCommit(FragmentId id, const Assembled& assembled) const {
  const Fragment& f = state_.fragment(id);
  return RoundCommitted{CommitView{.round = f.round->id,
                                   .attempt = f.round->closing->attempt,
                                   .fragment = id,
                                   .version = f.version.Next(),
                                   .aggregate = assembled.aggregate,
                                   .outer_lr_bits = OuterLrBits(f.version.Next()),
                                   .outer_momentum_bits = OuterMomentumBits(),
                                   .state_hash = assembled.state_hash}};
}

// ---- what others are told ----

std::vector<SliceOrder> Coordinator::OrdersFor(SessionId id) const {
  std::vector<SliceOrder> orders;
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const std::optional<Round>& round = state_.fragments[i].round;
    if (!round) continue;
    for (uint32_t s = 0; s < round->slices.size(); ++s) {
      const Slice& slice = round->slices[s];
      if (slice.reducer != id || orders.size() == kMaxOrders) continue;
      SliceOrder order{.round = round->id,
                       .fragment = FragmentId{i},
                       .base = round->base,
                       .slice = s,
                       .first_chunk = slice.first_chunk,
                       .chunks = slice.chunks,
                       .continues = slice.continues};
      for (const auto& [session, c] : round->contributions) {
        if (c.slices.empty()) continue;
        order.contributions.push_back({c.id(), c.slices[s].bytes, c.slices[s].root, c.weight});
      }
      if (round->closing) {
        order.attempt = round->closing->attempt;
        order.included = round->closing->included;
        order.divisor = round->closing->divisor;
      }
      orders.push_back(std::move(order));
    }
  }
  return orders;
}

std::vector<PeerView> Coordinator::PeersOf(SessionId id) const {
  std::set<SessionId> reducers;
  for (const Fragment& f : state_.fragments) {
    for (const Slice& slice : f.reduced_by) reducers.insert(slice.reducer);
    if (!f.round) continue;
    for (const Slice& slice : f.round->slices) reducers.insert(slice.reducer);
  }
  std::vector<PeerView> peers;
  for (const auto& [session_id, session] : state_.sessions) {
    const bool reduces = reducers.contains(session_id);
    if (!reduces && !reducers.contains(id)) continue;
    if (peers.size() == kMaxPeers) break;
    peers.push_back({session_id, session.key, reduces ? session.peer_address : ""});
  }
  return peers;
}

std::vector<AggregateView> Coordinator::AggregatesFor(
    const std::vector<FragmentState>& stated) const {
  std::vector<AggregateView> views;
  size_t sources = 0;
  for (uint64_t i = 0; i < state_.fragments.size(); ++i) {
    const Fragment& f = state_.fragments[i];
    const bool next = f.round && f.round->assembled;
    const std::vector<Slice>& slices = next ? f.round->slices : f.reduced_by;
    auto commit = f.commits.find(f.version);
    if (slices.empty() || (!next && commit == f.commits.end())) continue;
    const bool has = !next && std::any_of(stated.begin(), stated.end(), [&](const auto& s) {
      return s.fragment.value == i && s.version == f.version;
    });
    sources += slices.size();
    if (has || sources > kMaxSources) continue;
    AggregateView view{next ? f.round->assembled->aggregate : commit->second.view.aggregate, {}};
    for (const Slice& slice : slices) {
      auto reducer = state_.sessions.find(slice.reducer);
      view.slices.push_back(
          {slice.aggregate, reducer == state_.sessions.end() ? WorkerKey{} : reducer->second.key});
    }
    views.push_back(std::move(view));
  }
  return views;
}

ReduceSlices Coordinator::MakeReduceSlices() const {
  ReduceSlices request{OrdersFor(SessionId{0}), {}};
  for (const SliceOrder& order : request.orders) {
    for (const auto& [session, c] : state_.fragment(order.fragment).round->contributions)
      request.keys[session] = c.key;
  }
  return request;
}

AssembleRound Coordinator::MakeAssembleRound(FragmentId id) const {
  const Fragment& f = state_.fragment(id);
  const RoundCommitted commit = MakeCommit(id, {});
  AssembleRound request{.fragment = id,
                        .round = f.round->id,
                        .attempt = f.round->closing->attempt,
                        .moves = f.round->moves,
                        .version = f.version.Next(),
                        .outer_lr_bits = commit.commit.outer_lr_bits,
                        .outer_momentum_bits = commit.commit.outer_momentum_bits};
  for (const Slice& slice : f.round->slices) {
    auto reducer = state_.sessions.find(slice.reducer);
    ObjectId object{ObjectKind::kAggregate, state_.generation, id, request.version, {},
                    slice.first_chunk};
    request.parts.push_back(
        {{object, slice.aggregate.chunks, slice.aggregate.bytes, slice.aggregate.root},
         slice.reducer,
         reducer == state_.sessions.end() ? WorkerKey{} : reducer->second.key});
  }
  return request;
}

// Before and after a record is applied: whose orders it changes.
void Coordinator::NoteSlices(const RecordBody& body) {
  const auto note = [this](FragmentId id) {
    const std::optional<Round>& round = state_.fragment(id).round;
    if (!round) return;
    for (const Slice& slice : round->slices) {
      if (slice.reducer.value == 0) {
        own_slices_changed_ = true;
      } else if (state_.sessions.contains(slice.reducer)) {
        Notify(slice.reducer);
      }
    }
  };
  if (const auto* r = std::get_if<ContributionCut>(&body)) {
    note(r->fragment);
  } else if (const auto* r = std::get_if<RoundClosed>(&body)) {
    note(r->fragment);
  } else if (const auto* r = std::get_if<SlicesMoved>(&body)) {
    note(r->fragment);
  } else if (const auto* r = std::get_if<RoundCommitted>(&body)) {
    note(r->commit.fragment);
  } else if (const auto* r = std::get_if<RoundAborted>(&body)) {
    note(r->fragment);
  } else if (std::holds_alternative<GenerationStarted>(body)) {
    own_slices_changed_ = true;
  }
}

bool Coordinator::FitsSlices(const Round& round, uint64_t elements,
                             const ContributionReady& ready) const {
  if (ready.slices.size() != round.slices.size()) return false;
  if (round.slices.empty()) return true;
  uint64_t bytes = 0;
  for (size_t i = 0; i < round.slices.size(); ++i) {
    const Slice& slice = round.slices[i];
    const uint64_t first = uint64_t{slice.first_chunk} * kChunkElements;
    const uint64_t n = std::min(slice.chunks * kChunkElements, elements - first);
    const ObjectSize size = CodedSize(config_.sync, n);
    const SlicePart& part = ready.slices[i];
    if (part.chunks != slice.chunks || part.bytes > size.bytes ||
        (!size.varies && part.bytes != size.bytes))
      return false;
    bytes += part.bytes;
  }
  return bytes == ready.object.bytes;
}

}  // namespace longhaul
