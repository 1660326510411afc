// The decisions, as journaled. State changes only by applying these (Coordinator::Apply), and
// recovery is nothing else. A record's layout never changes once released; a new need is a new
// record type.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "coordinator/core/state.h"

namespace longhaul {

// First record of a run.
struct RunStarted {
  std::string run_id;
  std::string run_config;  // EncodeRunConfig
  Generation generation;
  uint64_t parameters = 0;
  Digest data_identity{};
  uint64_t positions = 0;  // size of the ledger
  ObjectInfo snapshot;     // version 0; its root is the state hash
};
// A new generation from a checkpoint: local progress and worker residuals of the old one are void.
struct GenerationStarted {
  Generation generation;
  ObjectInfo snapshot;
  std::string ledger;  // as stored in the checkpoint
};
// The coordinator's process began again: deadlines move by `grace`.
struct Restarted {
  Duration grace{0};
};
struct InvitationMade {
  std::string id;
  WorkerKey one_off_key;
  uint64_t expires_unix_s = 0;
  uint32_t uses = 0;
};
struct InvitationRevoked {
  std::string id;
};
struct WorkerEnrolled {
  WorkerKey key;
  std::string name;
  std::string invitation;  // "" when the operator enrolled it
};
struct SessionOpened {
  SessionId session;
  WorkerKey key;
  ProcessId process;
  std::string name;
};
// Its leases return, unless they are sealed.
struct SessionEnded {
  SessionId session;
  EndReason reason = EndReason::kLeft;
};
struct MemberReady {
  SessionId session;
};
struct LeaseGranted {
  SessionId session;
  Fence fence;
  uint64_t positions = 0;  // the lowest free ones
};
// Not included for more rounds than `carry` allows: its ranges return and it starts again from the
// global parameters.
struct ProgressDropped {
  SessionId session;
};
struct RoundOpened {
  RoundId round;
  Version base;
  Duration time_limit{0};
  std::vector<SessionId> members;
  uint32_t quorum = 0;
  uint64_t weight_numerator = 1;
  uint64_t weight_denominator = 1;
};
struct ContributionAccepted {
  ObjectInfo object;
  std::vector<LeaseRange> leases;
  uint64_t steps = 0;
  uint64_t tokens = 0;
  uint32_t weight = 0;
  uint64_t loss_bits = 0;
};
struct ContributionHeld {
  ContributionId id;
};
struct ContributionRefused {
  ContributionId id;
  std::string reason;
};
struct RoundClosed {
  RoundId round;
  Closing closing;
};
struct RoundCommitted {
  CommitView commit;
};
struct RoundAborted {
  RoundId round;
  std::string reason;
};
struct CheckpointStored {
  ObjectInfo snapshot;
  Version oldest_kept;
};
struct RequestOpened {
  WorkRequest request;
  SessionId session;
};
struct RequestClosed {
  RequestId request;
  double loss = 0;
  uint64_t tokens = 0;
  std::string text;
  std::string error;
};
struct PhaseChanged {
  Phase phase = Phase::kWaiting;
  std::string reason;
};

using RecordBody =
    std::variant<RunStarted, GenerationStarted, Restarted, InvitationMade, InvitationRevoked,
                 WorkerEnrolled, SessionOpened, SessionEnded, MemberReady, LeaseGranted,
                 ProgressDropped, RoundOpened, ContributionAccepted, ContributionHeld,
                 ContributionRefused, RoundClosed, RoundCommitted, RoundAborted, CheckpointStored,
                 RequestOpened, RequestClosed, PhaseChanged>;

struct Record {
  Timestamp now;
  RecordBody body;
};

std::string EncodeRecord(const Record& record);
// Refuses unknown types, short and overlong input.
absl::StatusOr<Record> DecodeRecord(ByteSpan bytes);
// One line for people and transcripts.
std::string DescribeRecord(const Record& record);

}  // namespace longhaul
