// One list of fields per struct serves writing and reading: Fields(x) returns a tuple of
// references, Put and Get walk it. Private to record.cc.
#pragma once

#include <tuple>
#include <type_traits>

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
LONGHAUL_FIELDS(RunStarted, x.run_id, x.run_config, x.generation, x.parameters, x.data_identity,
                x.positions, x.snapshot)
LONGHAUL_FIELDS(GenerationStarted, x.generation, x.snapshot, x.ledger)
LONGHAUL_FIELDS(Restarted, x.grace)
LONGHAUL_FIELDS(InvitationMade, x.id, x.one_off_key, x.expires_unix_s, x.uses)
LONGHAUL_FIELDS(InvitationRevoked, x.id)
LONGHAUL_FIELDS(WorkerEnrolled, x.key, x.name, x.invitation)
LONGHAUL_FIELDS(SessionOpened, x.session, x.key, x.process, x.name)
LONGHAUL_FIELDS(SessionEnded, x.session, x.reason)
LONGHAUL_FIELDS(MemberReady, x.session)
LONGHAUL_FIELDS(LeaseGranted, x.session, x.fence, x.positions)
LONGHAUL_FIELDS(ProgressDropped, x.session)
LONGHAUL_FIELDS(RoundOpened, x.round, x.base, x.time_limit, x.members, x.quorum, x.weight_numerator,
                x.weight_denominator)
LONGHAUL_FIELDS(ContributionAccepted, x.object, x.leases, x.steps, x.tokens, x.weight, x.loss_bits)
LONGHAUL_FIELDS(ContributionHeld, x.id)
LONGHAUL_FIELDS(ContributionRefused, x.id, x.reason)
LONGHAUL_FIELDS(RoundClosed, x.round, x.closing)
LONGHAUL_FIELDS(RoundCommitted, x.commit)
LONGHAUL_FIELDS(RoundAborted, x.round, x.reason)
LONGHAUL_FIELDS(CheckpointStored, x.snapshot, x.oldest_kept)
LONGHAUL_FIELDS(RequestOpened, x.request, x.session)
LONGHAUL_FIELDS(RequestClosed, x.request, x.loss, x.tokens, x.text, x.error)
LONGHAUL_FIELDS(PhaseChanged, x.phase, x.reason)

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
void Put(ByteWriter& w, const T& x);

template <class T>
void Put(ByteWriter& w, const std::vector<T>& list) {
  w.U64(list.size());
  for (const T& x : list) Put(w, x);
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
  } else if constexpr (std::is_same_v<T, std::string>) {
    w.String(x);
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
void Get(ByteReader& r, T& x);

template <class T>
void Get(ByteReader& r, std::vector<T>& list) {
  uint64_t n = r.Count(8);  // every element type here takes at least eight bytes
  for (uint64_t i = 0; i < n && r.ok(); ++i) Get(r, list.emplace_back());
}

template <class T>
void Get(ByteReader& r, T& x) {
  if constexpr (HasFields<T>) {
    std::apply([&r](auto&... field) { (Get(r, field), ...); }, Fields(x));
  } else if constexpr (WriterKnows<T>) {
    r.Read(x);
  } else if constexpr (std::is_enum_v<T>) {
    x = static_cast<T>(r.U8());
  } else if constexpr (std::is_same_v<T, Duration>) {
    x = Duration(r.I64());
  } else if constexpr (std::is_same_v<T, std::string>) {
    x = r.String(kMaxStringBytes);
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
