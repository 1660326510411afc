// What the core wants done. The shell MUST make `records` durable before it sends any message,
// notifies any session or starts any request. Requests are idempotent and are issued again from
// state after a restart.
#pragma once

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
  ContributionId id;
};
struct ReduceRound {
  RoundId round;
  uint32_t attempt = 0;
  std::vector<std::pair<ContributionId, uint32_t>> included;  // with weights
  uint64_t divisor = 0;
  Version version;  // the new one
  uint32_t outer_lr_bits = 0;
  uint32_t outer_momentum_bits = 0;
};
struct InstallRound {
  RoundId round;
  uint32_t attempt = 0;
};
struct StoreCheckpoint {
  Version version;  // always the newest; asked for before a later round can be installed
};
struct AdmitKey {
  WorkerKey key;
  bool invitation = false;
};
struct ExpelKey {
  WorkerKey key;
};
struct ShutDown {
  bool success = false;
};
using Request = std::variant<ExpectContribution, DropContribution, ReduceRound, InstallRound,
                             StoreCheckpoint, AdmitKey, ExpelKey, ShutDown>;

// A direct answer to one connection, before or without a session.
struct Reply {
  ReplyTo to;
  Message message;
};

struct Effects {
  std::vector<Record> records;
  std::vector<Reply> replies;
  std::vector<SessionId> notify;  // their Assignment changed: send Coordinator::AssignmentFor
  std::vector<Request> requests;
  std::optional<Timestamp> wake;  // a tick is wanted then
  std::string fatal;  // not empty: the journal is behind the workers; stop at once and say this
};

}  // namespace longhaul
