// Tests and benchmarks: small shards and manifests with predictable samples.
#pragma once

#include <string>
#include <vector>

#include "common/hash.h"
#include "common/rng.h"
#include "data/manifest.h"
#include "data/scratch_folder.h"
#include "data/shard.h"

namespace longhaul {

inline SampleFormat SmallFormat(uint32_t token_bytes = 2) {
  return {.token_bytes = token_bytes, .sample_tokens = 8, .tokenizer_hash = Blake2b("small")};
}

// Decoded bytes of `samples` samples: half noise, half compressible.
inline std::string SampleBytes(const SampleFormat& format, uint64_t samples, uint64_t seed) {
  std::string bytes(samples * format.sample_bytes(), '\0');
  for (size_t i = 0; i < bytes.size(); i += 2) {
    bytes[i] = static_cast<char>(Draw(seed, {i}) % (format.token_bytes == 1 ? 250 : 256));
  }
  return bytes;
}

inline ShardBuilder::Result BuildShard(const SampleFormat& format, const std::string& samples,
                                       uint32_t block_samples, BlockCodec codec = BlockCodec::kZstd,
                                       int level = 1) {
  ShardBuilder builder(format, codec, block_samples);
  const size_t block_bytes = block_samples * format.sample_bytes();
  for (size_t at = 0; at < samples.size(); at += block_bytes) {
    const std::string_view block = std::string_view(samples).substr(at, block_bytes);
    builder.Add(AsBytes(block), AsBytes(EncodeBlock(codec, level, AsBytes(block))));
  }
  return builder.Finish();
}

inline ShardEntry EntryOf(const ShardIndex& index, uint32_t domain = 0) {
  return {.blob_id = index.blob_id,
          .logical_id = index.header.logical_id,
          .samples = index.header.samples,
          .file_bytes = index.header.file_bytes,
          .index_bytes = static_cast<uint32_t>(index.header.index_bytes()),
          .domain = domain};
}

// Two domains; shards of 10, 7 (prose), 5 (code) and 4 samples (prose), 3 to a block. 2 samples of
// prose and 1 of code are for validation. `files` gets the shard files.
inline Manifest SmallManifest(std::vector<std::string>* files = nullptr) {
  Manifest m;
  m.format = SmallFormat();
  m.vocab_size = 60000;
  m.tokenizer = "small";
  m.domains = {{"code", 1}, {"prose", 2}};
  const std::vector<std::pair<uint64_t, uint32_t>> shards = {{10, 1}, {7, 1}, {5, 0}, {4, 1}};
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto [samples, domain] = shards[i];
    auto built = BuildShard(m.format, SampleBytes(m.format, samples, i), 3);
    m.shards.push_back(EntryOf(built.index, domain));
    if (files) files->push_back(std::move(built.file));
  }
  return m;
}

}  // namespace longhaul
