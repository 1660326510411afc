// The data set that a coordinator hands out: the manifest, and where its shards are read from.
// Nothing is checked here but sizes: workers compare every block with its digest.
//
// Thread rule: Read is for one thread at a time; the rest is immutable.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "data/blob_source.h"
#include "data/manifest.h"
#include "proto/messages.h"
#include "sharding/order/mixed_order.h"

namespace longhaul {

class DataOrigin {
 public:
  // A valid manifest and its encoding.
  DataOrigin(Manifest manifest, std::string encoded, MixedOrder order,
             std::shared_ptr<BlobSource> source);

  const Manifest& manifest() const { return manifest_; }
  const MixedOrder& order() const { return order_; }
  const Digest& manifest_id() const { return id_; }
  const std::string& encoded() const { return encoded_; }

  // NotFound for a blob that is not of this data set or bytes outside of it; what the source says.
  absl::StatusOr<std::string> Read(const FetchBlob& request);

 private:
  const Manifest manifest_;
  const std::string encoded_;
  const MixedOrder order_;
  const Digest id_;
  const std::shared_ptr<BlobSource> source_;
  std::map<Digest, uint64_t> sizes_;  // of the shards
};

}  // namespace longhaul
