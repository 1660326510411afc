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

#include "common/ids.h"
#include "common/time.h"
#include "proto/messages.h"
#include "sharding/lease/ledger.h"

namespace longhaul {

inline constexpr size_t kMaxEndedSessions =
    4096;  // remembered, to tell a late message why it is refused
inline constexpr size_t kMaxInvitations = 10'000;
inline constexpr size_t kMaxWorkers = 100'000;

// By key; survives sessions.
struct EnrolledWorker {
  std::string name;
  ContributionId included;  // the last included one of this generation
  uint32_t failures = 0;    // refused contributions
};

struct OpenInvitation {
  WorkerKey one_off_key;
  uint64_t expires_unix_s = 0;
  uint32_t uses_left = 0;
};

enum class EndReason : uint8_t {
  kLeft = 1,
  kSilent = 2,
  kSuperseded = 3,
  kBroken = 4,
  kGeneration = 5
};

struct Session {
  WorkerKey key;
  ProcessId process;
  std::string name;
  bool ready = false;  // has stated the current state once: it can be a member of rounds
  uint64_t leased_positions = 0;
  uint32_t carried_rounds = 0;  // contributions that were not included since one was
  uint64_t last_sequence = 0;   // of its contributions
};

struct Contribution {
  ObjectInfo object;
  WorkerKey key;
  std::vector<LeaseRange> leases;
  uint64_t steps = 0;
  uint64_t tokens = 0;
  uint32_t weight = 0;
  uint64_t loss_bits = 0;  // double
  bool held = false;       // complete and durable at the reducer
};

// The list that an attempt adds up.
struct Closing {
  uint32_t attempt = 0;
  std::vector<ContributionId> included;  // ascending
  uint64_t divisor = 0;                  // sum of their weights
};

struct Round {
  RoundId id;
  Version base;
  Timestamp opened;
  Timestamp deadline;
  std::set<SessionId> members;  // at open
  uint32_t quorum = 0;          // contributions
  uint64_t weight_numerator = 1;
  uint64_t weight_denominator = 1;
  std::map<ContributionId, Contribution> contributions;
  std::optional<Timestamp> quorum_held;
  std::optional<Closing> closing;
};

// A committed outer step, kept while a replica may still need it.
struct Commit {
  CommitView view;
  uint64_t tokens = 0;
  uint32_t contributions = 0;
  uint64_t loss_bits = 0;  // token-weighted mean training loss
};

struct OpenRequest {
  WorkRequest request;
  SessionId session;  // who does it
};

struct State {
  bool started = false;
  std::string run_id;
  Generation generation;
  uint64_t parameters = 0;
  Digest data_identity{};
  Timestamp now;  // of the last record
  Phase phase = Phase::kWaiting;
  std::string reason;

  SessionId last_session;
  RoundId last_round;  // highest number ever used
  Fence last_fence;
  RequestId last_request;

  std::map<WorkerKey, EnrolledWorker> workers;
  std::map<std::string, OpenInvitation> invitations;
  std::map<SessionId, Session> sessions;  // live
  std::map<SessionId, EndReason> ended;   // bounded, newest kept
  Ledger ledger{0};

  Version version;
  Digest state_hash{};
  RoundId decided;  // every round up to this one is committed or aborted
  std::optional<Round> round;
  ObjectInfo snapshot;                // newest checkpoint, as a state object
  Version oldest_snapshot;            // oldest checkpoint kept; commits since then are kept too
  std::map<Version, Commit> commits;  // by the version they lead to
  std::map<Version, Digest> hashes;   // of `oldest_snapshot` and every version since

  std::map<RequestId, OpenRequest> requests;
  std::optional<Version> evaluated;  // newest version for which an evaluation was asked for
  bool sampled = false;              // the final sample was asked for
  uint64_t aborted_rounds = 0;
  Duration last_round_time{0};  // open to commit of the newest committed round
};

}  // namespace longhaul
