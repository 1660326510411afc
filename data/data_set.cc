#include "data/data_set.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

void Widen(std::string_view bytes, uint32_t token_bytes, std::span<uint32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint32_t token = 0;
    std::memcpy(&token, bytes.data() + i * token_bytes, token_bytes);
    out[i] = token;
  }
}

}  // namespace

uint64_t BlockSamples(const Manifest& manifest) {
  return std::max<uint64_t>(1, kUsualBlockBytes / manifest.format.sample_bytes());
}

SampleMap::SampleMap(const Manifest& manifest)
    : block_samples_(BlockSamples(manifest)),
      starts_(manifest.domains.size()),
      totals_(manifest.domains.size()) {
  for (const ManifestDomain& domain : manifest.domains)
    validation_.push_back(domain.validation_samples);
  for (uint32_t i = 0; i < manifest.shards.size(); ++i) {
    const ShardEntry& entry = manifest.shards[i];
    starts_[entry.domain].emplace_back(totals_[entry.domain], i);
    totals_[entry.domain] += entry.samples;
  }
}

SampleMap::Place SampleMap::PlaceOf(uint32_t domain, uint64_t number_in_domain) const {
  LONGHAUL_CHECK(domain < starts_.size() && number_in_domain < totals_[domain], "no such sample");
  const auto& starts = starts_[domain];
  const auto after =
      std::upper_bound(starts.begin(), starts.end(), std::pair(number_in_domain, UINT32_MAX));
  const auto& [before, shard] = *std::prev(after);
  return {shard, number_in_domain - before};
}

SampleMap::Place SampleMap::Training(uint32_t domain, uint64_t number) const {
  const uint64_t count = samples(domain);
  LONGHAUL_CHECK(number < count, "no such sample");
  const uint64_t into = validation_[domain] % block_samples_;
  const uint64_t shared = std::min(into == 0 ? 0 : block_samples_ - into, count);
  return PlaceOf(domain, validation_[domain] + (number + shared) % count);
}

SampleMap::Place SampleMap::Validation(uint32_t domain, uint64_t number) const {
  LONGHAUL_CHECK(number < validation_[domain], "no such validation sample");
  return PlaceOf(domain, number);
}

DataSet::DataSet(Manifest manifest, Blocks& blocks, Options options)
    : manifest_(std::move(manifest)), map_(manifest_), blocks_(blocks), options_(options) {}

absl::Status DataSet::ReadSample(uint32_t domain, uint64_t number, std::span<uint32_t> out) {
  return Read(map_.Training(domain, number), out);
}

absl::Status DataSet::ReadValidationSample(uint32_t domain, uint64_t number,
                                           std::span<uint32_t> out) {
  return Read(map_.Validation(domain, number), out);
}

absl::StatusOr<BlockId> DataSet::Locate(uint32_t domain, uint64_t number) {
  const SampleMap::Place place = map_.Training(domain, number);
  ASSIGN_OR_RETURN(const ShardIndex* index, Index(place.shard));
  return BlockId{place.shard, index->header.BlockOf(place.sample)};
}

absl::Status DataSet::Read(const SampleMap::Place& place, std::span<uint32_t> out) {
  LONGHAUL_CHECK(out.size() == manifest_.format.sample_tokens, "a sample of another size");
  if (manifest_.Withdrawn(place.shard, place.sample)) {
    return absl::FailedPreconditionError("this sample has been withdrawn from the data set");
  }
  ASSIGN_OR_RETURN(const ShardIndex* index, Index(place.shard));
  const uint32_t block = index->header.BlockOf(place.sample);
  ASSIGN_OR_RETURN(const std::string* decoded, DecodedBlock(place.shard, block));
  const uint64_t bytes = manifest_.format.sample_bytes();
  const uint64_t in_block = place.sample % index->header.block_samples;
  Widen(std::string_view(*decoded).substr(in_block * bytes, bytes), manifest_.format.token_bytes,
        out);
  return absl::OkStatus();
}

absl::StatusOr<const ShardIndex*> DataSet::Index(uint32_t shard) {
  auto& slot = indexes_[shard];
  if (!slot) {
    ASSIGN_OR_RETURN(std::shared_ptr<const ShardIndex> index,
                     blocks_.Index(manifest_.shards[shard]));
    if (index->header.format != manifest_.format) {
      return absl::DataLossError(
          "a shard is of another sample size or tokenizer than its manifest");
    }
    slot = std::move(index);
  }
  return slot.get();
}

absl::StatusOr<const std::string*> DataSet::DecodedBlock(uint32_t shard, uint32_t block) {
  const BlockId id{shard, block};
  if (const auto it = decoded_by_id_.find(id); it != decoded_by_id_.end()) {
    decoded_.splice(decoded_.end(), decoded_, it->second);
    return &decoded_.back().second;
  }
  ASSIGN_OR_RETURN(const ShardIndex* index, Index(shard));
  ASSIGN_OR_RETURN(const std::string stored, blocks_.StoredBlock(*index, block));
  ASSIGN_OR_RETURN(std::string decoded, DecodeBlock(*index, block, AsBytes(stored)));
  decoded_bytes_ += decoded.size();
  decoded_.emplace_back(id, std::move(decoded));
  decoded_by_id_[id] = std::prev(decoded_.end());
  while (decoded_bytes_ > options_.decoded_cache_bytes && decoded_.size() > 1) {
    decoded_bytes_ -= decoded_.front().second.size();
    decoded_by_id_.erase(decoded_.front().first);
    decoded_.pop_front();
  }
  return &decoded_.back().second;
}

absl::Status VerifyShard(Blocks& blocks, const ShardEntry& entry) {
  ASSIGN_OR_RETURN(const auto index, blocks.Index(entry));
  LogicalHash logical(index->header.format);
  for (uint32_t block = 0; block < index->rows.size(); ++block) {
    ASSIGN_OR_RETURN(const std::string stored, blocks.StoredBlock(*index, block));
    ASSIGN_OR_RETURN(const std::string decoded, DecodeBlock(*index, block, AsBytes(stored)));
    logical.Add(AsBytes(decoded));
  }
  if (logical.Finish() != entry.logical_id) {
    return absl::DataLossError("the samples are not those of the logical id");
  }
  return absl::OkStatus();
}

}  // namespace longhaul
