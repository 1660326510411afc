// Checkpoints. A checkpoint IS a Hugging Face folder (config.json, model.safetensors) plus what is
// needed to go on training:
//
//   config.json  model.safetensors  trainer/{momentum.bin, residual.bin, ledger.bin, state.json}
//
// momentum.bin and residual.bin are raw little-endian float32, as long as the model or empty;
// ledger.bin belongs to the caller. state.json names the digest of every other file and of itself;
// a checkpoint is read whole or refused. A file's digest is RootDigest over ChunkDigest of pieces
// of kDigestChunkBytes.
//
// Thread rule: one thread writes and prunes one folder of checkpoints; reading a finished one is
// free.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/storage.h"
#include "model/llama.h"

namespace longhaul {

inline constexpr uint32_t kCheckpointFormat = 1;
inline constexpr uint64_t kDigestChunkBytes = 1 << 20;
inline constexpr uint64_t kMaxLedgerBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxStateJsonBytes = 1 << 20;
inline constexpr uint32_t kMaxCheckpointFragments = 4096;

struct CheckpointFragment {
  Version version;
  Digest state_hash{};
  auto operator<=>(const CheckpointFragment&) const = default;
};

struct CheckpointState {
  std::string run;  // run id
  Generation generation;
  uint64_t round = 0;
  std::vector<CheckpointFragment> fragments;
  Digest data_identity{};
  uint64_t seed = 0;
  auto operator<=>(const CheckpointState&) const = default;
};

// What is written; the spans must live during the call.
struct CheckpointContents {
  LlamaShape shape;
  std::span<const float> parameters;  // ParameterCount(shape)
  std::span<const float> momentum;    // as many, or none
  std::span<const float> residual;    // as many, or none
  std::string_view ledger;
  CheckpointState state;
};

// What is read.
struct Checkpoint {
  LlamaShape shape;
  std::vector<float> parameters;
  std::vector<float> momentum;
  std::vector<float> residual;
  std::string ledger;
  CheckpointState state;
};

// "checkpoints/round-000010" for parent "checkpoints" and round 10.
std::string CheckpointFolder(const std::string& parent, uint64_t round);

// Writes everything into a temporary folder beside `folder`, syncs files and folders, renames,
// syncs the parent: after a crash the whole checkpoint is there or none. AlreadyExists when
// `folder` exists; InvalidArgument when sizes disagree; else the storage's error. After an error
// the temporary folder may remain; the next write or KeepNewest removes it.
absl::Status WriteCheckpoint(Storage& storage, const std::string& folder,
                             const CheckpointContents& contents);

// NotFound when there is no such folder; InvalidArgument, naming the file, when one is missing,
// shorter, longer or has another digest, or when the parts disagree.
absl::StatusOr<Checkpoint> ReadCheckpoint(Storage& storage, const std::string& folder);

// What a checkpoint says of itself; the other files are not looked at. Errors as above.
absl::StatusOr<CheckpointState> ReadCheckpointState(Storage& storage, const std::string& folder);

// Paths of the finished checkpoints below `parent`, newest round first. Their contents are not
// checked.
std::vector<std::string> ListCheckpoints(Storage& storage, const std::string& parent);

// Removes all but the newest `count`, and what an interrupted write or removal left. A checkpoint
// is renamed before it is removed, so a half-removed one is never listed.
absl::Status KeepNewest(Storage& storage, const std::string& parent, uint32_t count);

// Where the parameters start in <folder>/model.safetensors: element i of the flat vector is the
// four bytes at this offset + 4 i.
absl::StatusOr<uint64_t> ParametersOffsetBytes(Storage& storage, const std::string& folder);

}  // namespace longhaul
