// Where the parts of shards come from, already compared with what the manifest names.
//
// Thread rule: as the implementation says.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "data/manifest.h"
#include "data/shard.h"

namespace longhaul {

class Blocks {
 public:
  virtual ~Blocks() = default;
  // The index of a manifest's entry. Unavailable when no source has it, DataLoss when it does not
  // say what the manifest says.
  virtual absl::StatusOr<std::shared_ptr<const ShardIndex>> Index(const ShardEntry& entry) = 0;
  // The stored bytes of a block, equal to their digest. Unavailable when no source has them.
  virtual absl::StatusOr<std::string> StoredBlock(const ShardIndex& index, uint32_t block) = 0;
};

}  // namespace longhaul
