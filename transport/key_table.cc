#include "transport/key_table.h"

#include <mutex>

namespace longhaul {

void KeyTable::Add(const WorkerKey& key, Role role) {
  std::unique_lock lock(mutex_);
  roles_[key] = role;
}

void KeyTable::Remove(const WorkerKey& key) {
  std::unique_lock lock(mutex_);
  roles_.erase(key);
}

std::optional<Role> KeyTable::Find(const WorkerKey& key) const {
  std::shared_lock lock(mutex_);
  const auto it = roles_.find(key);
  if (it == roles_.end()) return std::nullopt;
  return it->second;
}

}  // namespace longhaul
