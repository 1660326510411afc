// Decides everything the coordinator decides. Owned by one loop. Never blocks; reads no clock,
// draws no randomness: the event carries both.
//
//   Step(event):  handle the event -> records; then repeat Decide -> record, Apply(record) until no
//   record comes.
//
// Recovery is Apply over the journal, or over what follows a snapshot of the state.
// docs/ARCHITECTURE.md follows one round through it.
//
// Files: handle.cc what an event means; decide.cc what follows from the state and the time;
// apply.cc what a record changes; requests.cc what others must do or know because of it; slices.cc
// rounds that workers reduce.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/effects.h"
#include "coordinator/core/event.h"
#include "coordinator/core/record.h"
#include "coordinator/core/state.h"
#include "proto/run_config.h"
#include "sharding/plan/shares.h"

namespace longhaul {

class Coordinator {
 public:
  explicit Coordinator(const RunConfig& config);

  Effects Step(const Event& event);

  // No policy in it. A record that does not fit the state is a broken invariant.
  static void Apply(State& state, const Record& record);

  const State& state() const { return state_; }
  // For recovery, before the first Step.
  void Restore(State state);

  // All that `session` should know now; `stated` is what it last stated (empty: nothing yet).
  Assignment AssignmentFor(SessionId session, const std::vector<FragmentState>& stated) const;

  // Why a message of this session cannot be taken; nothing when the session is live.
  std::optional<Refused> WhyNotLive(SessionId session) const;

  // What the run waits for, in words. For people; no decision reads it.
  std::string WaitingFor() const;

  uint64_t PositionsPerRound(const Session& session) const;

 private:
  friend struct EventHandler;

  // The next decision that follows from the state and the time, or nothing.
  std::optional<RecordBody> Decide();
  std::optional<RecordBody> DecidePhase() const;
  std::optional<RecordBody> DecideCarry();
  std::optional<RecordBody> DecideLease();
  std::optional<RecordBody> DecideRequest() const;
  std::optional<RecordBody> DecideCheckpoint() const;
  std::optional<RecordBody> DecideFragment(FragmentId id) const;
  std::optional<RecordBody> DecideNextRound(FragmentId id) const;
  std::optional<RecordBody> DecideCollecting(FragmentId id) const;
  std::optional<RecordBody> DecideClosed(FragmentId id) const;
  // Quorum and grace are there: close, wait for the contract, or break it.
  std::optional<RecordBody> DecideClose(FragmentId id) const;

  RoundOpened MakeRound(FragmentId id, std::vector<Member> members) const;
  Closing MakeClosing(const Round& round) const;
  // What the participation contract misses in this round; "" when nothing.
  std::string Unmet(const Round& round) const;
  Duration Grace(const Round& round) const;
  bool QuorumHeld(const Round& round) const;
  // A live member that is not late has no contribution held.
  bool WorthWaiting(const Round& round) const;
  uint64_t StepsOf(const Session& session) const;
  // What a contribution counts before scaling (sync/weights.h).
  uint64_t RawWeightOf(uint64_t steps) const;
  // Of the sum of the contributions on the list.
  uint64_t DivisorOf(const std::vector<ContributionId>& included, const Round& round) const;
  // As they go into the round's commit.
  uint32_t OuterLrBits(Version next) const;
  uint32_t OuterMomentumBits() const;
  // Steps before its next contribution to this fragment. The first ones of a session are staggered
  // over the fragments (Douillard et al. 2025, streaming DiLoCo: offsets).
  uint64_t OwnSteps(const Session& session, FragmentId id) const;
  // Steps since its last send that its leases allow, once there are no more to come.
  uint64_t StepsWithinReach(SessionId id, FragmentId fragment) const;
  uint64_t TokensPerStep() const { return positions_per_step_ * kSampleTokens; }
  std::optional<SessionId> FirstReady() const;
  bool NeedsLease(SessionId id, const Session& session) const;
  bool RequiredAreReady() const;
  bool AllRoundsDone() const;
  bool HasStep(SessionId id, FragmentId fragment) const;  // leased to it, a step's worth
  bool DataUsedUp() const;  // not even one step's worth is left to anybody
  std::optional<Timestamp> NextWake() const;

  // ---- slices.cc: rounds that workers reduce ----
  bool WorkersReduce() const { return config_.reduce.placement == "workers"; }
  bool Trusted(const WorkerKey& key) const;
  // May be given slices of a round with so many members.
  bool MayReduce(SessionId id, const Session& session, uint64_t members) const;
  // Contributions that it is told of, in all its orders.
  uint64_t OrderedFrom(SessionId id) const;
  std::vector<SessionId> ReducersFor(const RoundOpened& opened) const;
  SharePeer PeerOf(SessionId id) const;  // its link
  std::vector<double> SharesOf(const std::vector<SessionId>& reducers,
                               const RoundOpened& opened) const;
  std::optional<SlicesPlaced> PlaceSlices(const RoundOpened& opened) const;
  // To another worker that may, otherwise to the coordinator; late ones to the coordinator.
  SlicesMoved MoveSlices(FragmentId id, const std::vector<uint32_t>& slices, bool poor) const;
  // Slices whose reducers are gone; or, at the deadline, late.
  std::optional<RecordBody> DecideMoves(FragmentId id) const;
  bool EnoughHolders(const Round& round) const;
  Timestamp HoldersUntil(const Round& round) const;  // then it commits without
  RoundCommitted MakeCommit(FragmentId id, const Assembled& assembled) const;
  std::vector<SliceOrder> OrdersFor(SessionId id) const;
  std::vector<PeerView> PeersOf(SessionId id) const;
  std::vector<AggregateView> AggregatesFor(const std::vector<FragmentState>& stated) const;
  ReduceSlices MakeReduceSlices() const;
  AssembleRound MakeAssembleRound(FragmentId id) const;
  void NoteSlices(const RecordBody& body);
  bool FitsSlices(const Round& round, uint64_t elements, const ContributionReady& ready) const;

  // "" when it may be accepted.
  std::string CheckContribution(SessionId session, const ContributionReady& ready) const;

  void Commit(RecordBody body);  // apply, collect, derive requests
  void NoteSessions(const RecordBody& body);
  void DropUndecided(FragmentId id, const Round& round);
  void DropOf(SessionId session);
  void DeriveRequests(const RecordBody& body);
  void IssueAll();  // every request that the state implies
  ReduceRound MakeReduceRound(FragmentId id) const;
  StoreCheckpoint MakeStoreCheckpoint() const;
  template <class T>
  void Ask(T request) {
    effects_.requests.emplace_back(std::in_place_type<T>, std::move(request));
  }
  void Notify(SessionId session) { notify_.insert(session); }

  RunConfig config_;
  uint64_t positions_per_step_;
  uint32_t quorum_per_mille_;
  uint32_t patience_per_mille_;
  uint32_t grace_per_mille_;
  std::set<std::string> required_workers_;
  std::set<std::string> trusted_reducers_;
  std::map<std::string, uint32_t> steps_per_worker_;
  State state_;

  // Sessions whose leases or carried rounds changed since Decide looked at them: a superset is
  // harmless. Not part of the state.
  std::set<SessionId> check_leases_;
  std::set<SessionId> check_carry_;
  // Whose heartbeats are overdue. Not part of the state: it only ends a wait.
  std::set<SessionId> late_;
  bool recovered_ = false;  // from a journal, and no round was committed since

  // Of the Step that is running.
  Timestamp now_;
  Effects effects_;
  bool notify_all_ = false;
  bool own_slices_changed_ = false;  // those that the coordinator's process reduces
  std::set<SessionId> notify_;
};

// What the model continues at the end of a run.
inline constexpr char kSamplePrompt[] = "def ";

// Chunks and payload bytes that a contribution of `elements` values coded with `sync.codec` must
// have; `bytes` are the most it can have when its size varies (the reducer counts them).
struct ObjectSize {
  uint32_t chunks = 0;
  uint64_t bytes = 0;
  bool varies = false;
};
ObjectSize CodedSize(const SyncSection& sync, uint64_t elements);

// What a contribution to a fragment and its aggregate take, or take at most.
SharePayload PayloadOf(const RunConfig& config, uint64_t elements);

// Chunks of each slice when a fragment is cut into as many as possible up to `slices` (0: one).
std::vector<uint32_t> Cuts(uint64_t elements, uint32_t slices);

}  // namespace longhaul
