// Decides everything a worker decides: when to join, what to train on, when to send a contribution,
// what to fetch and apply, when its local progress is void. Owned by one loop. Never blocks; reads
// no clock, draws no randomness.
//
// Level-triggered: each Assignment is the whole truth of the moment, and the core does what leads
// there. The trainer does one job at a time; fetching runs beside it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "proto/messages.h"

namespace longhaul {

// ---- what can happen ----
struct WorkerTick {};       // about once per heartbeat: repeats what may have been lost
struct WorkerConnected {};  // the control connection is up (again)
struct WorkerReceived {
  Generation generation;
  uint64_t sequence = 0;
  Message message;
};
struct DataLoaded {
  Digest identity{};
  std::string origin;
};
struct ObjectFetched {
  ObjectId id;
};
struct ObjectGone {  // the coordinator does not have it any more
  ObjectId id;
};
struct StateLoaded {
  FragmentState state;
};
struct CommitApplied {
  FragmentState state;
};
struct ContributionCoded {
  ObjectInfo object;
  std::vector<SlicePart> slices;  // when the job asked for them
};
struct StepDone {
  double loss = 0;
  bool finite = true;
};
struct RequestFinished {
  RequestDone done;
};
struct JobDone {};  // a trainer job without a result
// `hand_in`: what has been trained shall be included first; said again without it, the worker
// leaves at once.
struct LeaveWanted {
  std::string reason;
  bool hand_in = false;
};
using WorkerEvent =
    std::variant<WorkerTick, WorkerConnected, WorkerReceived, DataLoaded, ObjectFetched, ObjectGone,
                 StateLoaded, CommitApplied, ContributionCoded, StepDone, RequestFinished, JobDone,
                 LeaveWanted>;

// ---- what the shell shall do ----
struct LoadData {  // once; answer: DataLoaded
  RunConfig config;
  Digest identity{};
  uint64_t parameters = 0;
};
struct FetchObject {  // answer: ObjectFetched or ObjectGone; one per fragment is kept until used
  ObjectInfo object;
  std::vector<SliceSource> slices;  // where its parts are; empty: the coordinator has it
};
struct StopFetching {};
// Trainer jobs, one at a time.
struct LoadState {  // one fragment of a fetched snapshot; its θ = θ̄, its progress and sent
                    // contribution are void; answer: StateLoaded
  ObjectInfo object;
};
struct ApplyCommit {  // with a fetched aggregate; answer: CommitApplied
  CommitView commit;
};
struct TrainStep {  // answer: StepDone
  uint64_t step = 0;
  std::vector<uint64_t> positions;
};
struct CodeContribution {  // answer: ContributionCoded; with zero chunks when Δ is not finite
  ContributionId id;
  Generation generation;
  FragmentId fragment;
  Version base;
  std::vector<uint32_t> slices;  // chunks of each; empty: it is not cut
};
enum class Outcome : uint8_t {
  kIncluded = 1,
  kNotIncluded = 2,  // its progress stays in θ and goes out with the next one
  kDropped = 3,      // its progress is void
};
struct ResolveContribution {  // the sent contribution is decided; answer: JobDone
  FragmentId fragment;
  Outcome outcome = Outcome::kNotIncluded;
};
struct ResetProgress {       // θ = θ̄ on all fragments; answer: JobDone
  bool inner_state = false;  // moments too
  bool residual = false;     // error feedback too, and forget what was sent (a new generation)
};
// Residual and inner state to or from this worker's own disk; answer: JobDone.
struct SaveSnapshot {
  Generation generation;
  std::vector<ContributionId> included;  // what the residual accounts for, per fragment
};
struct LoadSnapshot {};
struct UnloadFragment {  // give back the memory: a snapshot will be loaded; answer: JobDone
  FragmentId fragment;
};
struct RunRequest {  // answer: RequestFinished
  WorkRequest request;
};
struct ExitWorker {
  bool success = false;
  std::optional<RefusalCode> refusal;
  std::string reason;
};
using WorkerRequest =
    std::variant<LoadData, FetchObject, StopFetching, LoadState, ApplyCommit, TrainStep,
                 CodeContribution, ResolveContribution, ResetProgress, UnloadFragment, SaveSnapshot,
                 LoadSnapshot, RunRequest, ExitWorker>;

struct WorkerEffects {
  std::vector<Message> messages;  // to the coordinator, in order
  std::vector<WorkerRequest> requests;
  std::string reason;  // for people: what just changed; mostly empty
};

inline constexpr uint64_t kSnapshotSteps = 10;  // outer steps per fragment between own snapshots

struct WorkerIdentity {
  ProcessId process;
  std::string name;
  std::string software;
  uint64_t memory_bytes = 0;
  uint32_t threads = 0;
  bool toy = false;
  std::string peer_address;  // not empty: it offers to reduce
  // Of the snapshot that an earlier process left; nothing: there is none.
  std::optional<SaveSnapshot> saved;
};

class Worker {
 public:
  explicit Worker(const WorkerIdentity& identity) : identity_(identity) {}

  WorkerEffects Step(const WorkerEvent& event);

  // For the envelope and the heartbeat.
  SessionId session() const { return joining_ ? SessionId{0} : session_; }  // 0: none now
  Generation generation() const { return generation_; }
  std::vector<FragmentState> states() const;  // of the fragments that are loaded
  const std::optional<Assignment>& assignment() const { return assignment_; }
  const std::optional<Welcome>& welcome() const { return welcome_; }
  uint64_t hash_checks() const { return hash_checks_; }
  uint64_t hash_mismatches() const { return hash_mismatches_; }

 private:
  friend struct WorkerHandler;

  // Positions trained into θ of one fragment but not committed.
  struct Progress {
    std::vector<LeaseRange> ranges;
    uint64_t steps = 0;
    double loss_sum = 0;
    void Add(const Progress& other);
  };
  // A coded contribution that is not decided yet.
  struct Sent {
    ContributionReady ready;
    Progress progress;
  };
  // What this worker has of one fragment.
  struct Part {
    std::optional<FragmentState> state;
    Progress carried;  // sent, but not included
    Progress current;  // since the last send
    std::optional<Sent> sent;
    bool unapplied = false;      // the commit that included our contribution is not applied yet
    bool distrusted = false;     // its hash was wrong: fetch it again
    uint64_t planned_steps = 0;  // of the newest round; 0: none yet
    bool travels() const { return sent || unapplied; }
    bool HasProgress() const { return sent || carried.steps > 0 || current.steps > 0; }
  };

  void Decide();
  // Each returns true when it started a trainer job.
  bool DecideSent();
  bool DecideVersion();
  bool DecideContribution(Part& part, FragmentId fragment);
  bool DecideRequest();
  bool DecideStep();
  bool DecideSnapshot();
  void DecideLeave();
  void Start(WorkerRequest job);
  // What a fragment needs next to get to the newest version.
  struct Need {
    ObjectInfo object;
    std::optional<CommitView> commit;  // nothing: it is a snapshot
    bool ahead = false;                // not committed yet: only to be held
  };
  std::optional<Need> NextNeed(FragmentId fragment) const;
  std::optional<Need> NextAhead() const;
  bool IsHere(const ObjectInfo& object) const;
  // An aggregate that is not committed yet, as far as we were told.
  bool IsAhead(const ObjectInfo& object) const;
  std::vector<SliceSource> SourcesOf(const ObjectInfo& object) const;
  const RoundView* OpenRound(FragmentId fragment) const;
  bool AllLoaded() const;
  bool AnyProgress() const;
  bool Idle() const;  // less than a step's worth of data is left
  uint64_t StepLimit(const Part& part) const;
  std::vector<LeaseRange> Unused() const;
  void Announce();
  void SayHello();
  void DropProgress(const ResetProgress& how);
  void CheckHash(Part& part);
  // Progress is lost while leases are held: the session ends, and what it held returns as a whole.
  void Rejoin(const std::string& why);

  const WorkerIdentity identity_;
  WorkerEffects effects_;

  SessionId session_;     // 0 before the first Welcome
  bool joining_ = false;  // told that it is over: asking which one is ours
  Generation generation_;
  std::optional<Welcome> welcome_;
  bool data_asked_ = false;
  std::optional<DataLoaded> data_;
  std::optional<Assignment> assignment_;
  // What was overtaken on its way is not taken: the coordinator's numbers grow over its lives.
  uint64_t welcome_sequence_ = 0;
  uint64_t assignment_sequence_ = 0;

  int jobs_ = 0;                           // trainer jobs that were started and have not answered
  std::vector<Part> parts_;                // by fragment; empty before the first Assignment
  std::optional<ObjectInfo> wanted_;       // being fetched
  std::map<FragmentId, ObjectInfo> here_;  // fetched, not used yet
  std::optional<FragmentId> loading_;      // by the running job; none: what it brings is void
  uint64_t sequence_ = 0;                  // of contributions; never used again in this process
  std::optional<std::vector<LeaseRange>> stepping_;  // what the running step trains on
  bool void_step_ = false;                           // the running step trains on void progress
  std::map<RequestId, RequestDone> answers_;  // bounded by kMaxRequestsPerMessage open requests
  uint64_t saved_steps_ = 0;  // sum of all versions when the newest snapshot was saved
  bool finishing_ = false;    // hands in what it has, then leaves
  bool leaving_ = false;
  bool rejoining_ = false;  // waits to hear that the session is over
  bool over_ = false;
  uint64_t hash_checks_ = 0;
  uint64_t hash_mismatches_ = 0;
};

}  // namespace longhaul
