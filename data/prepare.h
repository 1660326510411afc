// Makes a data set: inputs -> records -> tokens -> blocks -> shards -> manifest.
//
//   OUT/manifest                 appears last, in one step
//   OUT/shards/<blob_id>.lhs     by content
//   OUT/quarantine.jsonl         records that were not used, and why
//   OUT/prepare.state, .blocks   while it is being made
//
// What is made depends on the inputs, the tokenizer and the options alone: not on when it was
// killed, nor on the order in which inputs were named. A process that is killed goes on from the
// last block that it wrote; what is in prepare.blocks is checked before it is believed.
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/storage.h"
#include "data/inputs.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

namespace longhaul {

inline constexpr const char* kManifestFile = "manifest";
inline constexpr const char* kQuarantineFile = "quarantine.jsonl";
inline constexpr size_t kMaxQuarantine = 100'000;

struct PrepareOptions {
  uint32_t sample_tokens = 1024;
  uint32_t block_bytes = kUsualBlockBytes;  // decoded; rounded down to whole samples
  uint64_t shard_bytes = 64 << 20;          // decoded; rounded down to whole blocks
  int zstd_level = 1;
  double validation = 0.05;  // share of each domain's samples, [0, 0.5]; at least one unless 0
  std::string json_field = "text";
  bool strict = false;  // stop at the first record that cannot be used
};

struct QuarantinedRecord {
  std::string path;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::string reason;
  auto operator<=>(const QuarantinedRecord&) const = default;
};

struct PrepareProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  uint64_t shards = 0;
  uint64_t quarantined = 0;
  bool resumed = false;
};

struct PrepareReport {
  Manifest manifest;  // unsigned
  std::vector<QuarantinedRecord> quarantine;
  uint64_t tokens = 0;         // in samples
  uint64_t tokens_left = 0;    // behind the last whole sample of a domain
  uint64_t bytes_resumed = 0;  // of the inputs, that an earlier process had read
};

// Called between records; false ends with Cancelled (what was done stays).
using PrepareCallback = std::function<bool(const PrepareProgress&)>;

// Everything but the manifest, which the caller may sign or add to an older one, and writes with
// FinishPreparation. `inputs` as ListInputs returns them. InvalidArgument for options out of range,
// token files that are not, tokens outside the vocabulary, or a domain without two samples;
// FailedPrecondition when `out` holds an unfinished preparation of something else.
absl::StatusOr<PrepareReport> Prepare(const std::vector<InputFile>& inputs, Tokenizer& tokenizer,
                                      const PrepareOptions& options, Storage& out,
                                      const PrepareCallback& callback);
// Writes the manifest and the quarantine list, then removes the traces of work.
absl::Status FinishPreparation(const Manifest& manifest,
                               const std::vector<QuarantinedRecord>& quarantine, Storage& out);
// Forgets an unfinished preparation; its shards stay.
absl::Status AbandonPreparation(Storage& out);

// Of the folder that FinishPreparation filled.
absl::StatusOr<Manifest> ReadManifest(Storage& folder);

}  // namespace longhaul
