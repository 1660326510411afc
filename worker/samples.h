// The run's samples by position, for the trainer's thread. Two bindings: a corpus in memory, and a
// manifest whose blocks come over the network.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/corpus.h"
#include "proto/messages.h"
#include "worker/block_feed.h"

namespace longhaul {

// Thread rule: Read and ReadValidation are for the trainer's thread and may wait; everything else
// is for any thread.
class Samples {
 public:
  virtual ~Samples() = default;
  // `out` has kSampleTokens. NotFound for a sample that has been withdrawn from the data set;
  // DataLoss when what is verified cannot be used; Cancelled after Close.
  virtual absl::Status Read(uint64_t position, std::span<uint16_t> out) = 0;
  virtual uint64_t validation_samples() const = 0;
  virtual absl::Status ReadValidation(uint64_t i, std::span<uint16_t> out) = 0;
  // What is leased now.
  virtual void SetLeases(const std::vector<LeaseRange>&) {}
  // The model is being exchanged: data gives way.
  virtual void NoteExchange() {}
  // BlockFeed::Stored, for other workers.
  virtual absl::StatusOr<std::string> Stored(const FetchBlob&) {
    return absl::NotFoundError("this worker keeps no blocks");
  }
  // For people: what came and how long training waited for it; empty: nothing worth saying.
  virtual std::string Describe() const { return ""; }
  // Whoever waits fails.
  virtual void Close() {}
};

std::unique_ptr<Samples> SamplesOf(std::shared_ptr<const Corpus> corpus, uint64_t seed);
// A feed that is ready. Tokens are below `vocab_size`, or it is DataLoss.
std::unique_ptr<Samples> SamplesOf(std::unique_ptr<BlockFeed> feed, uint32_t vocab_size);

}  // namespace longhaul
