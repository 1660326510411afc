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
  Digest data_identity{};
  uint64_t positions = 0;             // size of the ledger
  std::vector<uint64_t> elements;     // per fragment
  std::vector<ObjectInfo> snapshots;  // per fragment at version 0; its root is the state hash
};
// A new generation from a checkpoint: local progress and worker residuals of the old one are void.
struct GenerationStarted {
  Generation generation;
  std::vector<ObjectInfo> snapshots;  // per fragment
  std::string leases;                 // LeaseBook, as stored in the checkpoint
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
// It is fenced as a whole: its leases return, those under a sealed range once that is decided.
struct SessionEnded {
  SessionId session;
  EndReason reason = EndReason::kLeft;
};
struct MemberReady {
  SessionId session;
};
// It trains no more and hands in what it has.
struct SessionFinishing {
  SessionId session;
};
struct StepsPlanned {
  SessionId session;
  uint64_t steps = 0;  // per round
};
// So many fell silent at once that the fault is taken to be ours: nobody expires before `until`.
struct ExpiryFrozen {
  Timestamp until;
};
struct ExpiryThawed {};
// A worker holds another state than ours.
struct StateDisputed {
  SessionId session;
  FragmentId fragment;
};
struct LeaseGranted {
  SessionId session;
  Fence fence;
  uint64_t positions = 0;  // the lowest free ones
};
// Not included for more rounds than `carry` allows: what the last contribution was trained on is
// void on this fragment.
struct ProgressDropped {
  SessionId session;
  FragmentId fragment;
};
struct RoundOpened {
  RoundId round;
  FragmentId fragment;
  Version base;
  Duration time_limit{0};  // for collecting, and again for each attempt to add up
  std::vector<Member> members;
  uint64_t quorum = 0;
  uint64_t quorum_tokens = 0;
  uint64_t weight_numerator = 1;
  uint64_t weight_denominator = 1;
};
struct ContributionAccepted {
  ObjectInfo object;
  std::vector<LeaseRange> leases;
  uint64_t steps = 0;
  uint64_t tokens = 0;
  uint64_t quorum_tokens = 0;
  uint32_t weight = 0;
  uint64_t loss_bits = 0;
};
struct ContributionHeld {
  FragmentId fragment;
  ContributionId id;
};
struct ContributionRefused {
  FragmentId fragment;
  ContributionId id;
  std::string reason;
};
// A later attempt's list is a subset of the one before.
struct RoundClosed {
  RoundId round;
  FragmentId fragment;
  Closing closing;
};
struct RoundCommitted {
  CommitView commit;
};
struct RoundAborted {
  RoundId round;
  FragmentId fragment;
  std::string reason;
};
// The run goes on without what round.required_workers and round.min_tokens ask for.
struct ContractBroken {
  RoundId round;
  std::string reason;
};
// The checkpoint that is written now.
struct CheckpointCut {
  std::vector<Version> versions;  // per fragment
};
struct CheckpointStored {
  std::vector<ObjectInfo> snapshots;  // per fragment
  std::vector<Version> oldest_kept;
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

// The session can be reached by other workers there, and offers to reduce; "": no longer.
struct PeerOffered {
  SessionId session;
  std::string address;
};
struct SliceMove {
  uint32_t slice = 0;
  SessionId from;
  SessionId reducer;
};
// Right after RoundOpened: workers reduce this round.
struct SlicesPlaced {
  RoundId round;
  FragmentId fragment;
  std::vector<Slice> slices;
};
// Their reducers are gone, failed or are late: others begin anew with these slices, without a
// residual, and the round has as much time again.
struct SlicesMoved {
  RoundId round;
  FragmentId fragment;
  std::vector<SliceMove> moves;
  bool poor = false;  // the ones before are not asked again
};
// The parts of an accepted contribution.
struct ContributionCut {
  FragmentId fragment;
  ContributionId id;
  std::vector<SlicePart> slices;
};
struct SliceHeld {
  FragmentId fragment;
  uint32_t slice = 0;
  std::vector<ContributionId> contributions;
};
struct SliceReady {
  RoundId round;
  FragmentId fragment;
  uint32_t slice = 0;
  uint32_t attempt = 0;
  SlicePart aggregate;
};
struct AggregateAssembled {
  RoundId round;
  FragmentId fragment;
  ObjectInfo aggregate;
  Digest state_hash{};
};
struct AggregateStored {
  RoundId round;
  FragmentId fragment;
  SessionId holder;
};

// The next slices are sized by it.
struct LinkMeasured {
  LinkRates link;
};

using RecordBody =
    std::variant<RunStarted, GenerationStarted, Restarted, InvitationMade, InvitationRevoked,
                 WorkerEnrolled, SessionOpened, SessionEnded, MemberReady, SessionFinishing,
                 StepsPlanned, ExpiryFrozen, ExpiryThawed, StateDisputed, LeaseGranted,
                 ProgressDropped, RoundOpened, ContributionAccepted, ContributionHeld,
                 ContributionRefused, RoundClosed, RoundCommitted, RoundAborted, ContractBroken,
                 CheckpointCut, CheckpointStored, RequestOpened, RequestClosed, PhaseChanged,
                 PeerOffered, SlicesPlaced, SlicesMoved, ContributionCut, SliceHeld, SliceReady,
                 AggregateAssembled, AggregateStored, LinkMeasured>;

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
