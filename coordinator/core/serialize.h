// One list of fields per struct serves writing and reading: Fields(x) returns a tuple of
// references, Put and Get walk it. Private to record.cc and
// state.cc.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/bytes.h"
#include "coordinator/core/record.h"

namespace longhaul::serialize {

inline constexpr size_t kMaxStringBytes = 16 * 1024 * 1024;

#define LONGHAUL_FIELDS(Type, ...)                              \
  inline auto Fields(Type& x) { return std::tie(__VA_ARGS__); } \
  inline auto Fields(const Type& x) { return std::tie(__VA_ARGS__); }

LONGHAUL_FIELDS(ObjectId, x.kind, x.generation, x.fragment, x.version, x.contribution)
LONGHAUL_FIELDS(ObjectInfo, x.id, x.chunks, x.bytes, x.root)
LONGHAUL_FIELDS(LeaseRange, x.fence, x.from, x.to)
LONGHAUL_FIELDS(CommitView, x.round, x.attempt, x.fragment, x.version, x.aggregate, x.outer_lr_bits,
                x.outer_momentum_bits, x.state_hash)
LONGHAUL_FIELDS(WorkRequest, x.id, x.kind, x.version, x.prompt, x.tokens)
LONGHAUL_FIELDS(Closing, x.attempt, x.included, x.divisor)
LONGHAUL_FIELDS(Member, x.session, x.steps)

LONGHAUL_FIELDS(RunStarted, x.run_id, x.run_config, x.generation, x.data_identity, x.positions,
                x.elements, x.snapshots)
LONGHAUL_FIELDS(GenerationStarted, x.generation, x.snapshots, x.leases)
LONGHAUL_FIELDS(Restarted, x.grace)
LONGHAUL_FIELDS(InvitationMade, x.id, x.one_off_key, x.expires_unix_s, x.uses)
LONGHAUL_FIELDS(InvitationRevoked, x.id)
LONGHAUL_FIELDS(WorkerEnrolled, x.key, x.name, x.invitation)
LONGHAUL_FIELDS(SessionOpened, x.session, x.key, x.process, x.name)
LONGHAUL_FIELDS(SessionEnded, x.session, x.reason)
LONGHAUL_FIELDS(MemberReady, x.session)
LONGHAUL_FIELDS(SessionFinishing, x.session)
LONGHAUL_FIELDS(StepsPlanned, x.session, x.steps)
LONGHAUL_FIELDS(ExpiryFrozen, x.until)
inline std::tuple<> Fields(const ExpiryThawed&) { return {}; }
LONGHAUL_FIELDS(StateDisputed, x.session, x.fragment)
LONGHAUL_FIELDS(LeaseGranted, x.session, x.fence, x.positions)
LONGHAUL_FIELDS(ProgressDropped, x.session, x.fragment)
LONGHAUL_FIELDS(RoundOpened, x.round, x.fragment, x.base, x.time_limit, x.members, x.quorum,
                x.quorum_tokens, x.weight_numerator, x.weight_denominator)
LONGHAUL_FIELDS(ContributionAccepted, x.object, x.leases, x.steps, x.tokens, x.quorum_tokens,
                x.weight, x.loss_bits)
LONGHAUL_FIELDS(ContributionHeld, x.fragment, x.id)
LONGHAUL_FIELDS(ContributionRefused, x.fragment, x.id, x.reason)
LONGHAUL_FIELDS(RoundClosed, x.round, x.fragment, x.closing)
LONGHAUL_FIELDS(RoundCommitted, x.commit)
LONGHAUL_FIELDS(RoundAborted, x.round, x.fragment, x.reason)
LONGHAUL_FIELDS(ContractBroken, x.round, x.reason)
LONGHAUL_FIELDS(CheckpointCut, x.versions)
LONGHAUL_FIELDS(CheckpointStored, x.snapshots, x.oldest_kept)
LONGHAUL_FIELDS(RequestOpened, x.request, x.session)
LONGHAUL_FIELDS(RequestClosed, x.request, x.loss, x.tokens, x.text, x.error)
LONGHAUL_FIELDS(PhaseChanged, x.phase, x.reason)

LONGHAUL_FIELDS(PeerOffered, x.session, x.address)
LONGHAUL_FIELDS(SlicesPlaced, x.round, x.fragment, x.slices)
LONGHAUL_FIELDS(SliceMove, x.slice, x.from, x.reducer)
LONGHAUL_FIELDS(SlicesMoved, x.round, x.fragment, x.moves, x.poor)
LONGHAUL_FIELDS(ContributionCut, x.fragment, x.id, x.slices)
LONGHAUL_FIELDS(SliceHeld, x.fragment, x.slice, x.contributions)
LONGHAUL_FIELDS(SliceReady, x.round, x.fragment, x.slice, x.attempt, x.aggregate)
LONGHAUL_FIELDS(AggregateAssembled, x.round, x.fragment, x.aggregate, x.state_hash)
LONGHAUL_FIELDS(AggregateStored, x.round, x.fragment, x.holder)
LONGHAUL_FIELDS(LinkRates, x.session, x.up_bytes_per_s, x.down_bytes_per_s)
LONGHAUL_FIELDS(LinkMeasured, x.link)

LONGHAUL_FIELDS(SlicePart, x.chunks, x.bytes, x.root)
LONGHAUL_FIELDS(Slice, x.first_chunk, x.chunks, x.reducer, x.continues, x.attempt, x.aggregate)
LONGHAUL_FIELDS(Assembled, x.aggregate, x.state_hash, x.since)
LONGHAUL_FIELDS(EnrolledWorker, x.name, x.number, x.session, x.included, x.failures, x.superseded)
LONGHAUL_FIELDS(OpenInvitation, x.one_off_key, x.expires_unix_s, x.uses_left)
LONGHAUL_FIELDS(SessionFragment, x.last_sequence, x.carried_rounds, x.carried, x.dropped)
LONGHAUL_FIELDS(Session, x.key, x.process, x.name, x.ready, x.finishing, x.steps, x.fragments,
                x.peer_address, x.poor_reducer, x.up_bytes_per_s, x.down_bytes_per_s)
LONGHAUL_FIELDS(Contribution, x.object, x.key, x.leases, x.steps, x.tokens, x.quorum_tokens,
                x.weight, x.loss_bits, x.held, x.slices, x.held_slices)
LONGHAUL_FIELDS(Round, x.id, x.base, x.opened, x.deadline, x.time_limit, x.members, x.live_members,
                x.quorum, x.quorum_tokens, x.weight_numerator, x.weight_denominator,
                x.contributions, x.held, x.held_tokens, x.quorum_held, x.closing, x.slices, x.moves,
                x.assembled, x.holders)
LONGHAUL_FIELDS(Commit, x.view, x.tokens, x.contributions, x.loss_bits)
LONGHAUL_FIELDS(OpenRequest, x.request, x.session)
LONGHAUL_FIELDS(Fragment, x.elements, x.version, x.state_hash, x.decided, x.round, x.snapshot,
                x.oldest_snapshot, x.commits, x.hashes, x.disputes, x.last_round_time, x.reduced_by)
LONGHAUL_FIELDS(State, x.started, x.run_id, x.run_config, x.generation, x.data_identity, x.now,
                x.phase, x.reason, x.degraded, x.last_session, x.last_round, x.last_fence,
                x.last_request, x.workers, x.invitations, x.sessions, x.ready_sessions, x.ended,
                x.frozen_until, x.fragments, x.leases, x.cutting, x.requests, x.evaluated,
                x.sampled, x.aborted_rounds)

#undef LONGHAUL_FIELDS

template <class T>
concept HasFields = requires(T& x) {
  Fields(x);
};
template <class T>
concept WriterKnows = requires(ByteWriter& w, const T& x) {
  w.Write(x);
};

template <class T>
concept Resizable = requires(T& x) {
  typename T::value_type;
  x.clear();
  x.insert(x.end(), std::declval<typename T::value_type>());
}
&&!std::is_same_v<T, std::string>;

template <class T>
void Put(ByteWriter& w, const T& x);
template <class T>
void Get(ByteReader& r, T& x);

template <class T>
void Put(ByteWriter& w, const std::optional<T>& x) {
  w.Bool(x.has_value());
  if (x) Put(w, *x);
}
template <class T>
void Get(ByteReader& r, std::optional<T>& x) {
  x.reset();
  if (r.Bool()) Get(r, x.emplace());
}

template <class A, class B>
void Put(ByteWriter& w, const std::pair<A, B>& x) {
  Put(w, x.first);
  Put(w, x.second);
}

// Vectors, sets and maps. Sets and maps come in order, so that equal ones have equal bytes.
template <Resizable T>
void Put(ByteWriter& w, const T& list) {
  w.U64(list.size());
  for (const auto& x : list) Put(w, x);
}
template <class T>
void Get(ByteReader& r, std::vector<T>& list) {
  list.clear();
  const uint64_t n = r.Count(1);
  for (uint64_t i = 0; i < n && r.ok(); ++i) Get(r, list.emplace_back());
}
template <class K>
void Get(ByteReader& r, std::set<K>& set) {
  set.clear();
  const uint64_t n = r.Count(1);
  for (uint64_t i = 0; i < n && r.ok(); ++i) {
    K key{};
    Get(r, key);
    if (!set.empty() && !(*set.rbegin() < key)) return r.Fail();
    set.insert(set.end(), std::move(key));
  }
}
template <class K, class V>
void Get(ByteReader& r, std::map<K, V>& map) {
  map.clear();
  const uint64_t n = r.Count(1);
  for (uint64_t i = 0; i < n && r.ok(); ++i) {
    K key{};
    Get(r, key);
    if (!map.empty() && !(map.rbegin()->first < key)) return r.Fail();
    Get(r, map.emplace_hint(map.end(), std::move(key), V{})->second);
  }
}

template <class T>
void Put(ByteWriter& w, const T& x) {
  if constexpr (HasFields<T>) {
    std::apply([&w](const auto&... field) { (Put(w, field), ...); }, Fields(x));
  } else if constexpr (WriterKnows<T>) {
    w.Write(x);
  } else if constexpr (std::is_enum_v<T>) {
    w.U8(static_cast<uint8_t>(x));
  } else if constexpr (std::is_same_v<T, Duration>) {
    w.I64(x.count());
  } else if constexpr (std::is_same_v<T, Timestamp>) {
    w.I64(x.since_epoch.count());
  } else if constexpr (std::is_same_v<T, std::string>) {
    w.String(x);
  } else if constexpr (std::is_same_v<T, LeaseBook>) {
    x.Encode(w);
  } else if constexpr (std::is_same_v<T, bool>) {
    w.Bool(x);
  } else if constexpr (std::is_same_v<T, double>) {
    w.F64(x);
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    w.U32(x);
  } else {
    static_assert(std::is_same_v<T, uint64_t>);
    w.U64(x);
  }
}

template <class T>
void Get(ByteReader& r, T& x) {
  if constexpr (HasFields<T>) {
    std::apply([&r](auto&&... field) { (Get(r, field), ...); }, Fields(x));
  } else if constexpr (WriterKnows<T>) {
    r.Read(x);
  } else if constexpr (std::is_enum_v<T>) {
    x = static_cast<T>(r.U8());
  } else if constexpr (std::is_same_v<T, Duration>) {
    x = Duration(r.I64());
  } else if constexpr (std::is_same_v<T, Timestamp>) {
    x.since_epoch = Duration(r.I64());
  } else if constexpr (std::is_same_v<T, std::string>) {
    x = r.String(kMaxStringBytes);
  } else if constexpr (std::is_same_v<T, LeaseBook>) {
    std::optional<LeaseBook> book = LeaseBook::Decode(r);
    if (!book) return r.Fail();
    x = std::move(*book);
  } else if constexpr (std::is_same_v<T, bool>) {
    x = r.Bool();
  } else if constexpr (std::is_same_v<T, double>) {
    x = r.F64();
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    x = r.U32();
  } else {
    static_assert(std::is_same_v<T, uint64_t>);
    x = r.U64();
  }
}

}  // namespace longhaul::serialize
