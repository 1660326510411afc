// Bugs that can be put into a simulated world on purpose, to see whether the checkers find them.
// Production code knows nothing of this: the bugs sit in filters between it and the simulator's
// shells, for events, records, jobs of the trainer, and the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "common/storage.h"
#include "coordinator/core/coordinator.h"
#include "worker/core/worker.h"

namespace longhaul::sim {

enum class PlantedBug : uint8_t {
  kNone,
  kCanary,  // every seed fails
  kSaidBeforeSync,
  kIncludeListNotJournaled,
  kStaleBaseAccepted,
  kFenceCheckSkipped,
  kHeldTooEarly,
  kResidualKept,
  kVoidProgressSent,
  kIncludedTakenForExcluded,
  kExcludedTakenForIncluded,
  kFolderNotSynced,
  kFileNotSynced,
};
inline constexpr size_t kPlantedBugs = static_cast<size_t>(PlantedBug::kFileNotSynced) + 1;

std::string_view PlantedName(PlantedBug bug);

// An event on its way to the coordinator's core.
void PlantInEvent(PlantedBug bug, const State& state, EventBody& event);
// Records on their way to the journal; the core has applied them already.
void PlantInRecords(PlantedBug bug, std::vector<Record>& records);
// A job on its way to the trainer.
void PlantInJob(PlantedBug bug, WorkerRequest& job);
// The coordinator's disk as its process sees it; `disk` outlives it.
std::unique_ptr<Storage> PlantInStorage(PlantedBug bug, Storage& disk);

}  // namespace longhaul::sim
