// Which CURVE keys may connect, and as what. Thread-safe. A removed key cannot connect again, and
// what still comes from it over an open connection is dropped.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <shared_mutex>

#include "common/ids.h"

namespace longhaul {

enum class Role : uint8_t { kWorker = 1, kInvitation = 2, kAdmin = 3 };

class KeyTable {
 public:
  void Add(const WorkerKey& key, Role role);  // replaces the role of a known key
  void Remove(const WorkerKey& key);
  std::optional<Role> Find(const WorkerKey& key) const;

 private:
  mutable std::shared_mutex mutex_;
  std::map<WorkerKey, Role> roles_;
};

}  // namespace longhaul
