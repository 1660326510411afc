// Where blobs (shard files, by blob_id) are read from: a folder, an HTTP origin. A source is not
// trusted: VerifiedBlobs compares everything it gives.
//
// Thread rule: a source is used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/storage.h"

namespace longhaul {

// One read is at most this long: an index or a block.
inline constexpr uint64_t kMaxBlobRead = uint64_t{4} << 20;

// Where a blob lies in a folder and below an origin's address: "shards/<64 hex digits>.lhs".
std::string BlobPath(const Digest& blob_id);

class BlobSource {
 public:
  virtual ~BlobSource() = default;
  virtual const std::string& name() const = 0;  // for messages
  // `size` bytes from `offset` of the blob, never more or fewer; 0 < size <= kMaxBlobRead. NotFound
  // when it has no such blob, DataLoss when the blob ends before, Unavailable and DeadlineExceeded
  // for what may pass.
  virtual absl::StatusOr<std::string> Read(const Digest& blob_id, uint64_t offset,
                                           uint64_t size) = 0;
  // What Read gave last was wrong. True: it came from somebody else, who is not believed any more;
  // read it again. False: the source itself is to blame. True a bounded number of times in a row.
  virtual bool Disown() { return false; }
};

// Does not own the storage.
class FolderSource : public BlobSource {
 public:
  FolderSource(std::string name, Storage& storage) : name_(std::move(name)), storage_(storage) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::string> Read(const Digest& blob_id, uint64_t offset, uint64_t size) override;

 private:
  const std::string name_;
  Storage& storage_;
};

}  // namespace longhaul
