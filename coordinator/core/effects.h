// What the core wants done. The shell MUST make `records` durable before it sends any message,
// notifies any session or starts any request. Requests are idempotent and are issued again from
// state after a restart.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/core/event.h"
#include "coordinator/core/record.h"

namespace longhaul {

struct ExpectContribution {
  ObjectInfo object;
  uint32_t weight = 0;
};
struct DropContribution {
  FragmentId fragment;
  ContributionId id;
};
struct ReduceRound {
  FragmentId fragment;
  RoundId round;
  uint32_t attempt = 0;
  std::vector<std::pair<ContributionId, uint32_t>> included;  // with weights
  uint64_t divisor = 0;
  Version version;  // the new one
  uint32_t outer_lr_bits = 0;
  uint32_t outer_momentum_bits = 0;
  std::vector<uint32_t> slices;  // chunks of each: they are coded each on its own
};
// All slices that the coordinator's process reduces now, for whom. Replaces every earlier one.
struct ReduceSlices {
  std::vector<SliceOrder> orders;
  std::map<SessionId, WorkerKey> keys;  // of whoever contributes to them
};
// Every slice is ready: fetch them, and find the state that follows.
struct AssembleRound {
  FragmentId fragment;
  RoundId round;
  uint32_t attempt = 0;
  uint32_t moves = 0;
  Version version;  // the new one
  struct Part {
    ObjectInfo object;
    SessionId reducer;
    WorkerKey key;  // the reducer's; zero: the coordinator
  };
  std::vector<Part> parts;  // in order
  uint32_t outer_lr_bits = 0;
  uint32_t outer_momentum_bits = 0;
};
struct InstallRound {
  FragmentId fragment;
  RoundId round;
  uint32_t attempt = 0;
};
// A cut through all fragments at the moment of the request: every InstallRound before it counts,
// none after it.
struct StoreCheckpoint {
  std::vector<Version> versions;  // per fragment
  RoundId round;                  // highest number used
  std::string leases;             // LeaseBook with nothing leased: a lease ends with its generation
};
struct AdmitKey {
  WorkerKey key;
  bool invitation = false;
};
struct ExpelKey {
  WorkerKey key;
};
struct ShutDown {
  bool success = false;  // all rounds done, and the participation contract kept
};
using Request =
    std::variant<ExpectContribution, DropContribution, ReduceRound, InstallRound, StoreCheckpoint,
                 AdmitKey, ExpelKey, ShutDown, ReduceSlices, AssembleRound>;

// A direct answer to one connection, before or without a session.
struct Reply {
  ReplyTo to;
  Message message;
};

// A message that was not acted upon and changed nothing.
struct Ignored {
  SessionId session;
  std::string reason;
};

struct Effects {
  std::vector<Record> records;
  std::vector<Reply> replies;
  // Their Assignment changed: send Coordinator::AssignmentFor. Ascending, each once.
  std::vector<SessionId> notify;
  std::vector<Request> requests;
  std::vector<Ignored> ignored;
  std::optional<Timestamp> wake;  // a tick is wanted then
  std::string fatal;  // not empty: the journal is behind the workers; stop at once and say this
};

}  // namespace longhaul
