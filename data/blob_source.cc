#include "data/blob_source.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {

std::string BlobPath(const Digest& blob_id) { return "shards/" + ToHex(blob_id) + ".lhs"; }

absl::StatusOr<std::string> FolderSource::Read(const Digest& blob_id, uint64_t offset,
                                               uint64_t size) {
  LONGHAUL_CHECK(size > 0 && size <= kMaxBlobRead, "a read out of range");
  ASSIGN_OR_RETURN(std::string bytes, storage_.Read(BlobPath(blob_id), offset, size));
  if (bytes.size() != size) return absl::DataLossError("the file is too short");
  return bytes;
}

}  // namespace longhaul
