// What a preparation remembers on disk, so that a killed process goes on at the last block.
//
//   prepare.state   everything up to the last finished shard; replaced in one step
//   prepare.blocks  the blocks of the shard at hand, appended; what is torn or damaged at its end
//                   is made again
//
// One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/storage.h"
#include "data/manifest.h"
#include "data/prepare.h"

namespace longhaul {

// How far the inputs have been used: everything before this token of this record.
struct InputCursor {
  uint64_t file = 0;
  uint64_t offset = 0;  // of the record
  uint64_t tokens = 0;  // of the record that are used
  auto operator<=>(const InputCursor&) const = default;
};

struct PrepareState {
  Digest fingerprint{};  // of inputs, tokenizer, options
  std::vector<ShardEntry> shards;
  std::vector<QuarantinedRecord> quarantine;
  uint64_t tokens_left = 0;
  InputCursor cursor;
  auto operator<=>(const PrepareState&) const = default;
};

struct BlockRecord {
  InputCursor cursor;                         // behind the block
  std::vector<QuarantinedRecord> quarantine;  // since the block before
  uint64_t tokens_left = 0;                   // that this block's end of a domain left over
  std::string stored;
  uint32_t decoded_bytes = 0;
  auto operator<=>(const BlockRecord&) const = default;
};

class PrepareLog {
 public:
  explicit PrepareLog(Storage& storage) : storage_(storage) {}

  // NotFound when there is none, DataLoss when it is damaged.
  absl::StatusOr<PrepareState> ReadState();
  absl::Status WriteState(const PrepareState& state);

  // The blocks after `state`, in order, up to the first one that is not whole. None when they
  // belong to another state. Continue with StartBlocks and AppendBlock for each that is kept.
  absl::StatusOr<std::vector<BlockRecord>> ReadBlocks(const PrepareState& state);
  absl::Status StartBlocks(const PrepareState& state);
  absl::Status AppendBlock(const BlockRecord& block);

  absl::Status Remove();

 private:
  Storage& storage_;
  std::unique_ptr<AppendFile> blocks_;
};

}  // namespace longhaul
