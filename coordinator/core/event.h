// What can happen to the coordinator. The shell, or the simulator, turns messages, timers and
// finished work into these. Heartbeats stay in the shell: the core sees transitions only (a stated
// version that changed, silence).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/time.h"
#include "coordinator/core/state.h"
#include "proto/messages.h"

namespace longhaul {

// Names the connection that a direct answer goes to; given by the shell, never interpreted.
struct ReplyTo {
  uint64_t token = 0;
};

// After recovery, once, before anything else. Everything that was asked for and may be lost is
// asked for again.
struct BootEvent {
  bool restarted = false;
};
struct TickEvent {};
struct EnrollEvent {
  ReplyTo reply;
  Enroll enroll;
  bool signature_valid = false;   // checked by the shell
  bool one_off_key_used = false;  // the connection was made with the invitation's own key
  uint64_t unix_s = 0;  // wall clock of the shell: invitations expire by it, nothing else uses it
};
struct HelloEvent {
  ReplyTo reply;
  WorkerKey key;
  Hello hello;
};
// A session stated versions and hashes that differ from what it stated before.
struct StatedEvent {
  SessionId session;
  std::vector<FragmentState> fragments;
};
struct ContributionEvent {
  SessionId session;
  ContributionReady ready;
};
// The reducer holds all of it, durably.
struct HeldEvent {
  FragmentId fragment;
  ContributionId id;
};
// The reducer refused its content.
struct RefusedEvent {
  FragmentId fragment;
  ContributionId id;
  std::string reason;
};
// The reducer cannot add up these contributions of a closed round any more.
struct LostEvent {
  FragmentId fragment;
  RoundId round;
  uint32_t attempt = 0;
  std::vector<ContributionId> contributions;
};
// The reducer has the aggregate of a closed round durable, and computed the state that follows.
struct PreparedEvent {
  FragmentId fragment;
  RoundId round;
  uint32_t attempt = 0;
  ObjectInfo aggregate;
  Digest state_hash{};
  uint32_t moves = 0;  // AssembleRound's
};
// What the reducer of a slice has; session 0: the one in the coordinator's process.
struct SliceReportEvent {
  SessionId session;
  SliceReport report;
};
struct AggregateHeldEvent {
  SessionId session;
  ObjectInfo object;
};
// A checkpoint is durable. Per fragment: the state object it offers, and the oldest version among
// the checkpoints kept.
struct CheckpointEvent {
  std::vector<ObjectInfo> snapshots;
  std::vector<Version> oldest_kept;
};
struct RequestDoneEvent {
  SessionId session;
  RequestDone done;
};
// `hand_in`: it trains no more, but what it has trained shall be included first.
struct LeaveEvent {
  SessionId session;
  bool hand_in = false;
};
// Heartbeats that a session may miss, times patience, before it counts as late, or as silent.
inline constexpr int kLateBeats = 3;
inline constexpr int kSilentBeats = 10;

// All sessions that are silent for longer than they may, at this moment. Stated again while it is
// so.
struct SilentEvent {
  std::vector<SessionId> sessions;
};
// All sessions whose heartbeats are overdue now, though they do not count as silent yet: no grace
// is spent on them. Stated whenever the set changes.
struct LateEvent {
  std::vector<SessionId> sessions;
};
// What the links of sessions carry, where that has changed by more than a little.
struct LinksEvent {
  std::vector<LinkRates> links;
};
// Inner steps per round, as planned for each session.
struct PlanEvent {
  std::vector<Member> steps;
};
// The run goes back to a checkpoint: everything since is void.
struct RollBackEvent {
  Generation generation;
  std::vector<ObjectInfo> snapshots;
  std::string leases;  // LeaseBook, as stored in the checkpoint
};
// The operator, through the shell.
struct InviteEvent {
  std::optional<ReplyTo> reply;
  std::string id;
  WorkerKey one_off_key;
  uint64_t expires_unix_s = 0;
  uint32_t uses = 0;
};
struct RevokeEvent {
  std::optional<ReplyTo> reply;
  std::string invitation;
};
struct AllowEvent {
  WorkerKey key;
  std::string name;
};

using EventBody = std::variant<BootEvent, TickEvent, EnrollEvent, HelloEvent, StatedEvent,
                               ContributionEvent, HeldEvent, RefusedEvent, LostEvent, PreparedEvent,
                               CheckpointEvent, RequestDoneEvent, LeaveEvent, SilentEvent,
                               LateEvent, PlanEvent, RollBackEvent, InviteEvent, RevokeEvent,
                               AllowEvent, SliceReportEvent, AggregateHeldEvent, LinksEvent>;

struct Event {
  Timestamp now;
  EventBody body;
};

}  // namespace longhaul
