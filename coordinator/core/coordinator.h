// Decides everything the coordinator decides. Owned by one loop. Never blocks; reads no clock,
// draws no randomness: the event carries both.
//
//   Step(event):  handle the event -> records; then repeat Decide -> record, Apply(record) until no
//   record comes.
//
// Recovery is Apply over the journal. docs/ARCHITECTURE.md follows one round through it.
#pragma once

#include <optional>
#include <string>

#include "coordinator/core/effects.h"
#include "coordinator/core/event.h"
#include "coordinator/core/record.h"
#include "coordinator/core/state.h"
#include "proto/run_config.h"

namespace longhaul {

class Coordinator {
 public:
  explicit Coordinator(const RunConfig& config);

  Effects Step(const Event& event);

  // No policy in it. A record that does not fit the state is a broken invariant.
  static void Apply(State& state, const Record& record);

  const State& state() const { return state_; }
  // For recovery, before the first Step.
  void Restore(State state) { state_ = std::move(state); }

  // All that `session` should know now; `stated` is the version it last stated (nothing: none yet).
  Assignment AssignmentFor(SessionId session, std::optional<Version> stated) const;

  // Why a message of this session cannot be taken; nothing when the session is live.
  std::optional<Refused> WhyNotLive(SessionId session) const;

  uint64_t positions_per_round() const { return positions_per_step_ * config_.sync.inner_steps; }

 private:
  friend struct EventHandler;

  // The next decision that follows from the state alone, or nothing (then reason_ says why).
  std::optional<RecordBody> Decide() const;
  std::optional<RecordBody> DecidePhase() const;
  std::optional<RecordBody> DecideRound() const;
  std::optional<RecordBody> DecideOpenRound() const;
  std::optional<RecordBody> DecideCarry() const;
  std::optional<RecordBody> DecideLease() const;
  std::optional<RecordBody> DecideRequest() const;

  RoundOpened MakeRound(std::vector<SessionId> members) const;
  Closing MakeClosing(const Round& round) const;
  Duration Grace(const Round& round) const;
  std::optional<SessionId> FirstReady() const;
  void Commit(RecordBody body);  // apply, collect, derive requests
  void DeriveRequests(const RecordBody& body);
  void IssueAll();  // every request that the state implies
  bool CheckpointDue() const;
  ReduceRound MakeReduceRound(const Round& round) const;
  std::optional<Timestamp> NextWake() const;
  std::string CheckContribution(SessionId session, const ContributionReady& ready) const;

  RunConfig config_;
  uint64_t positions_per_step_;
  uint32_t quorum_per_mille_;
  uint32_t patience_per_mille_;
  uint32_t grace_per_mille_;
  State state_;

  // Of the Step that is running.
  Timestamp now_;
  Effects effects_;
};

// What the model continues at the end of a run.
inline constexpr char kSamplePrompt[] = "def ";

// Chunks and payload bytes that a contribution of `parameters` values coded with `sync.codec` must
// have; `bytes` are the most it can have when its size varies (the reducer counts them).
struct ObjectSize {
  uint32_t chunks = 0;
  uint64_t bytes = 0;
  bool varies = false;
};
ObjectSize CodedSize(const SyncSection& sync, uint64_t parameters);

}  // namespace longhaul
