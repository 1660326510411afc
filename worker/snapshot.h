// A worker's own snapshot: what a later process of the same worker may keep (DESIGN 5, processes
// and generations): the error-feedback residual, as long as the coordinator confirms it, and the
// inner optimizer's state.
//
// One file: magic u32 | generation | included contributions, per fragment | residual of each
// fragment (count u64, float32) | inner state (length u64, bytes) | BLAKE2b-256 over all before it.
// Replaced atomically. It is only a saving of work: one that is absent or damaged is as good as
// none.
//
// Thread rule: one thread at a time per file.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "worker/core/worker.h"

namespace longhaul {

inline constexpr char kSnapshotFile[] = "worker.snapshot";

struct WorkerSnapshot {
  SaveSnapshot saved;
  std::vector<std::vector<float>> residuals;  // by fragment; empty: zero
  std::string inner_state;
};

absl::Status WriteWorkerSnapshot(Storage& storage, const std::string& path,
                                 const SaveSnapshot& saved,
                                 const std::vector<std::span<const float>>& residuals,
                                 const std::string& inner_state);
// NotFound, or DataLoss when any byte is not as it was written or a residual is not finite.
absl::StatusOr<WorkerSnapshot> ReadWorkerSnapshot(Storage& storage, const std::string& path);

}  // namespace longhaul
