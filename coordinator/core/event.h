// What can happen to the coordinator. The shell, or the simulator, turns messages, timers and
// finished work into these. Heartbeats stay in the shell: the core sees transitions only (a stated
// version that changed, silence).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "common/ids.h"
#include "common/time.h"
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
  FragmentState fragment;
};
struct ContributionEvent {
  SessionId session;
  ContributionReady ready;
};
// The reducer holds all of it, durably.
struct HeldEvent {
  ContributionId id;
};
// The reducer refused its content.
struct RefusedEvent {
  ContributionId id;
  std::string reason;
};
// The reducer has the aggregate of a closed round durable, and computed the state that follows.
struct PreparedEvent {
  RoundId round;
  uint32_t attempt = 0;
  ObjectInfo aggregate;
  Digest state_hash{};
};
struct CheckpointEvent {
  ObjectInfo snapshot;
  Version oldest_kept;
};
struct RequestDoneEvent {
  SessionId session;
  RequestDone done;
};
struct LeaveEvent {
  SessionId session;
};
struct SilentEvent {
  SessionId session;
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

using EventBody =
    std::variant<BootEvent, TickEvent, EnrollEvent, HelloEvent, StatedEvent, ContributionEvent,
                 HeldEvent, RefusedEvent, PreparedEvent, CheckpointEvent, RequestDoneEvent,
                 LeaveEvent, SilentEvent, InviteEvent, RevokeEvent, AllowEvent>;

struct Event {
  Timestamp now;
  EventBody body;
};

}  // namespace longhaul
