#include "coordinator/data_origin.h"

namespace longhaul {

DataOrigin::DataOrigin(Manifest manifest, std::string encoded, MixedOrder order,
                       std::shared_ptr<BlobSource> source)
    : manifest_(std::move(manifest)),
      encoded_(std::move(encoded)),
      order_(std::move(order)),
      id_(manifest_.Id()),
      source_(std::move(source)) {
  for (const ShardEntry& entry : manifest_.shards) sizes_[entry.blob_id] = entry.file_bytes;
}

absl::StatusOr<std::string> DataOrigin::Read(const FetchBlob& request) {
  const bool is_manifest = request.blob_id == id_;
  const auto shard = sizes_.find(request.blob_id);
  if (!is_manifest && shard == sizes_.end())
    return absl::NotFoundError("this is not a shard of the run's data");
  const uint64_t size = is_manifest ? encoded_.size() : shard->second;
  if (request.bytes == 0 || request.offset > size || request.bytes > size - request.offset)
    return absl::NotFoundError("these bytes are outside of it");
  if (is_manifest) return encoded_.substr(request.offset, request.bytes);
  return source_->Read(request.blob_id, request.offset, request.bytes);
}

}  // namespace longhaul
