// Reads shards from several sources and believes none of them: an index must hash to the blob_id
// that the manifest names, a block to the digest in the index. A source that gave wrong bytes of a
// blob is never asked for that blob again, and after kMaxWrongBlobs of them for nothing; a source
// that is silent moves to the end of the list.
//
// Owned by one thread.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/blob_source.h"
#include "data/blocks.h"

namespace longhaul {

class VerifiedBlobs : public Blocks {
 public:
  static constexpr size_t kMaxWrongBlobs = 3;

  explicit VerifiedBlobs(std::vector<std::shared_ptr<BlobSource>> sources);

  // Unavailable comes with what every source said.
  absl::StatusOr<std::shared_ptr<const ShardIndex>> Index(const ShardEntry& entry) override;
  absl::StatusOr<std::string> StoredBlock(const ShardIndex& index, uint32_t block) override;

  struct SourceReport {
    std::string name;
    uint64_t good_bytes = 0;
    uint64_t wrong_bytes = 0;     // that did not verify
    std::set<Digest> quarantine;  // blobs it is not asked for any more
    uint32_t failures = 0;        // in a row, without an answer
    bool dropped = false;
  };
  std::vector<SourceReport> Report() const;

 private:
  struct Source {
    std::shared_ptr<BlobSource> source;
    SourceReport report;
  };
  // Asks the sources in turn until `accept` takes what one of them read.
  template <class Accept>
  absl::Status ReadFrom(const Digest& blob_id, uint64_t offset, uint64_t size, Accept accept);
  std::vector<Source*> Candidates(const Digest& blob_id);

  std::vector<Source> sources_;
};

}  // namespace longhaul
