// A shard: an immutable file of samples, each of the same number of tokens. Little endian.
//
//   header   4 KiB: magic, version, sizes, logical id, tokenizer and recipe hashes, zeros, checksum
//   table    a 44-byte row per block: u64 offset, u32 stored bytes, digest of the stored bytes
//   blocks   whole samples, compressed one by one (zstd or none), without gaps
//
// Every sample has the same size, so the sample index is a division; offsets are 64-bit everywhere.
//
//   blob_id     Merkle root of (header and table, block, block, ...): names the stored bytes, what
//   is
//               transferred. Another zstd gives another blob_id.
//   logical_id  hash of the decoded samples, whatever the compression and the size of blocks: names
//               the content, what manifests and runs mean.
//
// Header and table together are the *index*: with them any block can be checked before a byte of it
// is decoded. Parsers read bytes of unknown origin: every size is compared with a limit below, and
// with what the other sizes say, before memory is asked for.
//
// ShardBuilder is owned by one thread; everything else is values and free functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/ids.h"
#include "data/merkle.h"

namespace longhaul {

inline constexpr uint32_t kShardHeaderBytes = 4096;
inline constexpr uint32_t kShardTableRowBytes = 44;
inline constexpr uint32_t kMaxBlockBytes = 1 << 20;      // decoded
inline constexpr uint32_t kUsualBlockBytes = 512 << 10;  // what PrepareData cuts
inline constexpr uint32_t kMaxStoredBlockBytes = kMaxBlockBytes + (kMaxBlockBytes >> 8) + 64;
inline constexpr uint32_t kMaxShardBlocks = 1 << 16;
inline constexpr uint32_t kMaxSampleTokens = 1 << 18;

enum class BlockCodec : uint32_t { kNone = 0, kZstd = 1 };

// What all samples of a data set share.
struct SampleFormat {
  uint32_t token_bytes = 0;    // 1, 2 or 4: the fewest that hold the vocabulary
  uint32_t sample_tokens = 0;  // up to kMaxSampleTokens
  Digest tokenizer_hash{};
  Digest recipe_hash{};  // of the cleaning; zeros: none
  uint64_t sample_bytes() const { return uint64_t{token_bytes} * sample_tokens; }
  auto operator<=>(const SampleFormat&) const = default;
};

// InvalidArgument unless sizes are in range and a sample fits into a block.
absl::Status CheckSampleFormat(const SampleFormat& format);

struct ShardHeader {
  SampleFormat format;
  BlockCodec codec = BlockCodec::kZstd;
  uint32_t block_samples = 0;  // of every block but the last
  uint64_t samples = 0;
  uint32_t blocks = 0;
  uint64_t file_bytes = 0;
  Digest logical_id{};
  auto operator<=>(const ShardHeader&) const = default;

  uint64_t index_bytes() const {
    return kShardHeaderBytes + uint64_t{blocks} * kShardTableRowBytes;
  }
  uint32_t BlockOf(uint64_t sample) const { return static_cast<uint32_t>(sample / block_samples); }
  uint64_t SamplesIn(uint32_t block) const;
  uint64_t DecodedBytes(uint32_t block) const { return SamplesIn(block) * format.sample_bytes(); }
};

struct BlockRow {
  uint64_t offset = 0;  // in the file
  uint32_t stored_bytes = 0;
  Digest digest{};  // LeafDigest of the stored bytes
  auto operator<=>(const BlockRow&) const = default;
};

struct ShardIndex {
  ShardHeader header;
  std::vector<BlockRow> rows;
  Digest blob_id{};
};

// The header at the beginning of `bytes` (at least kShardHeaderBytes of them). DataLoss for another
// kind of file, a wrong checksum, or sizes that do not belong together.
absl::StatusOr<ShardHeader> ParseShardHeader(ByteSpan bytes);

// `bytes` are exactly header().index_bytes(). The result's blob_id is computed from them: the
// caller compares it with the id it asked for. DataLoss as above, or for rows that leave gaps.
absl::StatusOr<ShardIndex> ParseShardIndex(ByteSpan bytes);

// DataLoss unless these are the stored bytes that the index names. To be asked before DecodeBlock.
absl::Status CheckStoredBlock(const ShardIndex& index, uint32_t block, ByteSpan stored);

// The decoded samples of one block. DataLoss when the bytes do not decode to exactly their number.
absl::StatusOr<std::string> DecodeBlock(const ShardIndex& index, uint32_t block, ByteSpan stored);

// Stored form of a block of samples.
std::string EncodeBlock(BlockCodec codec, int zstd_level, ByteSpan decoded);

class LogicalHash {
 public:
  explicit LogicalHash(const SampleFormat& format);
  void Add(ByteSpan decoded_samples);
  Digest Finish();  // once

 private:
  uint64_t bytes_ = 0;
  PersonalHash hash_;
};

// Collects the blocks of one shard in memory.
class ShardBuilder {
 public:
  // A valid format; block_samples > 0 and a full block within kMaxBlockBytes.
  ShardBuilder(const SampleFormat& format, BlockCodec codec, uint32_t block_samples);

  uint64_t samples() const { return header_.samples; }
  size_t blocks() const { return rows_.size(); }
  // `stored` is EncodeBlock of `decoded`: block_samples of them, or fewer in the last block.
  void Add(ByteSpan decoded, ByteSpan stored);
  // The file. At least one block.
  struct Result {
    std::string file;
    ShardIndex index;
  };
  Result Finish();  // once

 private:
  ShardHeader header_;
  std::vector<BlockRow> rows_;  // offsets from the first block until Finish
  std::string blocks_;
  LogicalHash logical_;
};

}  // namespace longhaul
