// What the coordinator knows: a fold over journaled records and nothing else. Value type; no
// pointer, clock or float in any decision. Ordered containers only, so that equal states have equal
// bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"
#include "common/time.h"
#include "proto/messages.h"
#include "sharding/lease/lease_book.h"

namespace longhaul {

inline constexpr size_t kMaxEndedSessions =
    4096;  // remembered, to tell a late message why it is refused
inline constexpr size_t kMaxInvitations = 10'000;
inline constexpr size_t kMaxWorkers = 100'000;

inline constexpr uint32_t kMaxAttempts = 4;  // of one round: lists that it tries to add up
inline constexpr uint32_t kMaxFragments = 64;
inline constexpr size_t kMaxSuperseded = 16;

// By key; survives sessions.
struct EnrolledWorker {
  std::string name;
  uint32_t number = 0;                   // by order of enrolment, from 1: names the key in short
  SessionId session;                     // its live one; 0: none
  std::vector<ContributionId> included;  // per fragment: the last included one of this generation
  uint32_t failures = 0;                 // refused contributions
  std::vector<ProcessId> superseded;     // the newest kMaxSuperseded: none of them may come back
  bool operator==(const EnrolledWorker&) const = default;
};

struct OpenInvitation {
  WorkerKey one_off_key;
  uint64_t expires_unix_s = 0;
  uint32_t uses_left = 0;
  bool operator==(const OpenInvitation&) const = default;
};

enum class EndReason : uint8_t {
  kLeft = 1,
  kSilent = 2,
  kSuperseded = 3,
  kBroken = 4,
  kGeneration = 5
};

// What a session owes on one fragment.
struct SessionFragment {
  uint64_t last_sequence = 0;       // of its contributions; 0: none yet
  uint32_t carried_rounds = 0;      // contributions that were not included since one was
  std::vector<LeaseRange> carried;  // what the last of them was trained on
  ContributionId dropped;           // this one's progress is void: carried over too often
  bool operator==(const SessionFragment&) const = default;
};

// What the link of a session carries, both above 0.
struct LinkRates {
  SessionId session;
  uint64_t up_bytes_per_s = 0;
  uint64_t down_bytes_per_s = 0;
};

struct Session {
  WorkerKey key;
  ProcessId process;
  std::string name;
  bool ready = false;      // has stated the current state once: it can be a member of rounds
  bool finishing = false;  // hands in what it has, trains no more
  uint64_t steps = 0;      // inner steps per round, as planned
  std::vector<SessionFragment> fragments;
  std::string peer_address;     // not empty: it offers to reduce
  bool poor_reducer = false;    // it failed to, or was late: not asked again
  uint64_t up_bytes_per_s = 0;  // of its link, as measured; 0: not known
  uint64_t down_bytes_per_s = 0;
  bool operator==(const Session&) const = default;
};

struct Contribution {
  ObjectInfo object;
  WorkerKey key;
  std::vector<LeaseRange> leases;
  uint64_t steps = 0;
  uint64_t tokens = 0;
  uint64_t quorum_tokens = 0;  // what it counts for the quorum
  uint32_t weight = 0;
  uint64_t loss_bits = 0;         // double
  bool held = false;              // complete and durable at the reducer, or at those of all slices
  std::vector<SlicePart> slices;  // in a round that is reduced in slices
  uint64_t held_slices = 0;       // bit s: slice s is held by its reducer
  bool operator==(const Contribution&) const = default;
  const ContributionId& id() const { return object.id.contribution; }
};

// The list that an attempt adds up.
struct Closing {
  uint32_t attempt = 0;
  std::vector<ContributionId> included;  // ascending
  uint64_t divisor = 0;                  // of their weighted sum
  bool operator==(const Closing&) const = default;
};

// A slice of a fragment in one round: chunks [first_chunk, first_chunk + chunks).
struct Slice {
  uint32_t first_chunk = 0;
  uint32_t chunks = 0;
  SessionId reducer;       // 0: the coordinator
  bool continues = false;  // with the residual that belongs to the round's base; no: from zero
  uint32_t attempt = 0;    // whose aggregate it has ready; 0: none
  SlicePart aggregate;
  bool operator==(const Slice&) const = default;
};

// The aggregate of a round with slices, put together and durable here; what it leads to.
struct Assembled {
  ObjectInfo aggregate;
  Digest state_hash{};
  Timestamp since;
  bool operator==(const Assembled&) const = default;
};

struct Member {
  SessionId session;
  uint64_t steps = 0;  // planned
  bool operator==(const Member&) const = default;
};

// Of one fragment.
struct Round {
  RoundId id;
  Version base;
  Timestamp opened;
  Timestamp deadline;  // of the state it is in: collecting, or closed
  Duration time_limit{0};
  std::map<SessionId, uint64_t> members;  // at open, with their planned steps
  uint64_t live_members = 0;
  uint64_t quorum = 0;         // contributions
  uint64_t quorum_tokens = 0;  // and tokens
  uint64_t weight_numerator = 1;
  uint64_t weight_denominator = 1;
  std::map<SessionId, Contribution> contributions;  // at most one per session
  uint64_t held = 0;                                // how many of them
  uint64_t held_tokens = 0;
  std::optional<Timestamp> quorum_held;
  std::optional<Closing> closing;
  std::vector<Slice> slices;           // empty: the coordinator reduces the fragment as a whole
  uint32_t moves = 0;                  // of slices to another reducer
  std::optional<Assembled> assembled;  // with slices only
  std::set<SessionId> holders;         // of that aggregate
  bool operator==(const Round&) const = default;
  bool Includes(const ContributionId& id) const;  // in the list of its closing
  bool AllSlicesReady() const;                    // for the attempt of its closing
};

// A committed outer step, kept while a replica may still need it.
struct Commit {
  CommitView view;
  uint64_t tokens = 0;
  uint32_t contributions = 0;
  uint64_t loss_bits = 0;  // token-weighted mean training loss
  bool operator==(const Commit&) const = default;
};

struct OpenRequest {
  WorkRequest request;
  SessionId session;  // who does it
  bool operator==(const OpenRequest&) const = default;
};

struct Fragment {
  uint64_t elements = 0;
  Version version;
  Digest state_hash{};
  RoundId decided;  // every round of this fragment up to this one is committed or aborted
  std::optional<Round> round;
  ObjectInfo snapshot;                // newest checkpoint, as a state object
  Version oldest_snapshot;            // oldest checkpoint kept; commits since then are kept too
  std::map<Version, Commit> commits;  // by the version they lead to
  std::map<Version, Digest> hashes;   // of `oldest_snapshot` and every version since
  std::set<WorkerKey> disputes;       // who stated another hash for the current version
  Duration last_round_time{0};        // open to commit of the newest committed round
  std::vector<Slice> reduced_by;      // of the commit that led to `version`: which may continue
  bool operator==(const Fragment&) const = default;
};

struct State {
  bool started = false;
  std::string run_id;
  std::string run_config;  // as the run began (EncodeRunConfig)
  Generation generation;
  Digest data_identity{};
  Timestamp now;  // of the last record
  Phase phase = Phase::kWaiting;
  std::string reason;
  std::string degraded;  // not empty: the participation contract was broken, and how

  SessionId last_session;
  RoundId last_round;  // highest number ever used
  Fence last_fence;
  RequestId last_request;

  std::map<WorkerKey, EnrolledWorker> workers;
  std::map<std::string, OpenInvitation> invitations;
  std::map<SessionId, Session> sessions;  // live
  uint64_t ready_sessions = 0;            // how many of them are ready
  std::map<SessionId, EndReason> ended;   // bounded, newest kept
  std::optional<Timestamp> frozen_until;  // too many fell silent at once: nobody expires until then

  std::vector<Fragment> fragments;
  LeaseBook leases{0, 1};
  std::vector<Version> cutting;  // versions of the checkpoint that is being written; empty: none

  std::map<RequestId, OpenRequest> requests;
  std::optional<uint64_t> evaluated;  // outer steps for which an evaluation was asked for last
  bool sampled = false;               // the final sample was asked for
  uint64_t aborted_rounds = 0;

  uint64_t parameters() const;      // of the whole model
  uint64_t outer_steps() const;     // sum of all versions
  uint64_t snapshot_steps() const;  // the same of the newest checkpoint
  Version lowest_version() const;
  const Fragment& fragment(FragmentId id) const { return fragments[id.value]; }
  Fragment& fragment(FragmentId id) { return fragments[id.value]; }
  bool operator==(const State&) const = default;
};

// Canonical bytes, for snapshots. Decode refuses everything that Encode does not write.
std::string EncodeState(const State& state);
std::optional<State> DecodeState(ByteSpan bytes);

}  // namespace longhaul
