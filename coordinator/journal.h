// The journal: decisions in order, durable before anything that follows from them is sent.
//
// A folder of segments 000001.log, 000002.log, ...; every start opens a new one. A record on disk:
//   magic u32 | payload length u32 | sequence u64 | durable u64 | chain 32 bytes | xxh3-64 over all
//   of the above and the payload | payload
// `sequence` counts from 1 over all segments. `durable` is the highest sequence known to be synced
// when this record was written. chain(n) = BLAKE2b(chain(n-1) ‖ payload(n)).
//
// Reading: records up to the first damaged one are good. When any later record proves that the
// damaged one had been durable, the journal is refused (DataLoss). Otherwise the damage is a torn
// tail of a crash, which nobody was told about: it is cut off.
//
// Thread rule: one owner. After a failed Append or Sync the process must end (the state of the file
// is unknown).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"

namespace longhaul {

inline constexpr uint32_t kMaxRecordBytes = 32 * 1024 * 1024;

class Journal {
 public:
  struct Opened {
    std::unique_ptr<Journal> journal;
    std::vector<std::string> payloads;  // everything so far, in order
    uint64_t cut_bytes = 0;             // of a torn tail
  };
  // `storage` outlives the journal.
  static absl::StatusOr<Opened> Open(Storage& storage, const std::string& folder);

  absl::Status Append(std::string_view payload);
  // Everything appended is durable when this returns OK.
  absl::Status Sync();

  uint64_t last_sequence() const { return sequence_; }

 private:
  Journal(Storage& storage, std::string folder) : storage_(storage), folder_(std::move(folder)) {}
  absl::Status StartSegment(uint64_t number);

  Storage& storage_;
  const std::string folder_;
  std::unique_ptr<AppendFile> file_;
  uint64_t sequence_ = 0;
  uint64_t durable_ = 0;
  Digest chain_{};
};

}  // namespace longhaul
