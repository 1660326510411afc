// Snapshots: the whole state at one place of the journal's history, as opaque bytes. One file each,
// named by the sequence it stands for:
//   magic u32 | sequence u64 | chain 32 bytes | size u64 | BLAKE2b-256 over all of the above and
//   the state | state
//
// Free functions over one folder; one thread at a time. A snapshot is written atomically: after a
// crash it is there as a whole or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "coordinator/journal_format.h"

namespace longhaul {

inline constexpr uint64_t kMaxSnapshotBytes = uint64_t{1} << 30;

struct Snapshot {
  JournalPlace place;
  std::string state;
};

// "00000000000000000042.snapshot"
std::string SnapshotName(uint64_t sequence);
// Sequences by name, newest first. What is in the files is not looked at.
std::vector<uint64_t> ListSnapshots(Storage& storage, const std::string& folder);
absl::Status WriteSnapshot(Storage& storage, const std::string& folder, const JournalPlace& place,
                           std::string_view state);
// DataLoss when any byte of the file, or its name, is not as it was written.
absl::StatusOr<Snapshot> ReadSnapshot(Storage& storage, const std::string& folder,
                                      uint64_t sequence);

}  // namespace longhaul
