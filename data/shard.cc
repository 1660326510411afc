#include "data/shard.h"

#include <zstd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr std::string_view kMagic = "LHSHARD\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kChecksumAt = kShardHeaderBytes - sizeof(Digest);

absl::Status Damaged(const std::string& reason) { return absl::DataLossError("shard: " + reason); }

uint64_t BlockCount(uint64_t samples, uint32_t block_samples) {
  return samples / block_samples + (samples % block_samples != 0);
}

absl::Status CheckHeader(const ShardHeader& h) {
  if (!CheckSampleFormat(h.format).ok()) return Damaged("its sample sizes are out of range");
  if (h.codec != BlockCodec::kNone && h.codec != BlockCodec::kZstd) {
    return Damaged("unknown compression");
  }
  if (h.block_samples == 0 || h.block_samples > kMaxBlockBytes / h.format.sample_bytes()) {
    return Damaged("its block size is out of range");
  }
  if (h.blocks == 0 || h.blocks > kMaxShardBlocks)
    return Damaged("its block count is out of range");
  if (BlockCount(h.samples, h.block_samples) != h.blocks) {
    return Damaged("samples and blocks do not belong together");
  }
  return absl::OkStatus();
}

std::string EncodeHeader(const ShardHeader& h) {
  ByteWriter w;
  w.Raw(kMagic.data(), kMagic.size());
  w.U32(kVersion);
  w.U32(static_cast<uint32_t>(h.codec));
  w.U32(h.format.token_bytes);
  w.U32(h.format.sample_tokens);
  w.U32(h.block_samples);
  w.U32(h.blocks);
  w.U64(h.samples);
  w.U64(h.file_bytes);
  w.Write(h.logical_id);
  w.Write(h.format.tokenizer_hash);
  w.Write(h.format.recipe_hash);
  std::string bytes = w.Take();
  bytes.resize(kChecksumAt);
  const Digest checksum = Blake2b(std::string_view(bytes));
  bytes.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  return bytes;
}

std::string EncodeIndex(const ShardHeader& header, const std::vector<BlockRow>& rows) {
  ByteWriter w;
  const std::string head = EncodeHeader(header);
  w.Raw(head.data(), head.size());
  for (const BlockRow& row : rows) {
    w.U64(row.offset);
    w.U32(row.stored_bytes);
    w.Write(row.digest);
  }
  return w.Take();
}

Digest BlobId(ByteSpan index, const std::vector<BlockRow>& rows, uint64_t file_bytes) {
  std::vector<Digest> leaves = {LeafDigest(index)};
  for (const BlockRow& row : rows) leaves.push_back(row.digest);
  return MerkleRoot(leaves, file_bytes);
}

absl::Status CheckRows(const ShardHeader& header, const std::vector<BlockRow>& rows) {
  uint64_t offset = header.index_bytes();
  for (uint32_t i = 0; i < rows.size(); ++i) {
    const BlockRow& row = rows[i];
    if (row.offset != offset)
      return Damaged(absl::StrCat("block ", i, " is not where it should be"));
    if (row.stored_bytes == 0 || row.stored_bytes > kMaxStoredBlockBytes) {
      return Damaged(absl::StrCat("the size of block ", i, " is out of range"));
    }
    offset += row.stored_bytes;
  }
  return offset == header.file_bytes ? absl::OkStatus() : Damaged("blocks and file size disagree");
}

}  // namespace

absl::Status CheckSampleFormat(const SampleFormat& f) {
  const bool width = f.token_bytes == 1 || f.token_bytes == 2 || f.token_bytes == 4;
  if (!width) return absl::InvalidArgumentError("tokens have 1, 2 or 4 bytes");
  if (f.sample_tokens == 0 || f.sample_tokens > kMaxSampleTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sample has 1 to ", kMaxSampleTokens, " tokens"));
  }
  return absl::OkStatus();
}

uint64_t ShardHeader::SamplesIn(uint32_t block) const {
  return block + 1 < blocks ? block_samples : samples - uint64_t{block_samples} * (blocks - 1);
}

absl::StatusOr<ShardHeader> ParseShardHeader(ByteSpan bytes) {
  if (bytes.size() < kShardHeaderBytes) return Damaged("shorter than a header");
  ByteReader r(bytes.first(kShardHeaderBytes));
  char magic[8];
  r.Raw(magic, sizeof magic);
  if (std::string_view(magic, sizeof magic) != kMagic) return Damaged("not a shard file");
  if (const uint32_t version = r.U32(); version != kVersion) {
    return Damaged(absl::StrCat("version ", version, ", this program reads version ", kVersion));
  }
  ShardHeader h;
  h.codec = static_cast<BlockCodec>(r.U32());
  h.format.token_bytes = r.U32();
  h.format.sample_tokens = r.U32();
  h.block_samples = r.U32();
  h.blocks = r.U32();
  h.samples = r.U64();
  h.file_bytes = r.U64();
  r.Read(h.logical_id);
  r.Read(h.format.tokenizer_hash);
  r.Read(h.format.recipe_hash);
  RETURN_IF_ERROR(CheckHeader(h));
  // The one canonical form: padding and checksum too.
  const std::string canonical = EncodeHeader(h);
  if (!std::equal(bytes.begin(), bytes.begin() + kShardHeaderBytes, AsBytes(canonical).begin())) {
    return Damaged("the header's checksum is wrong");
  }
  return h;
}

absl::StatusOr<ShardIndex> ParseShardIndex(ByteSpan bytes) {
  ShardIndex index;
  ASSIGN_OR_RETURN(index.header, ParseShardHeader(bytes));
  if (bytes.size() != index.header.index_bytes()) return Damaged("the index has another size");
  ByteReader r(bytes.subspan(kShardHeaderBytes));
  index.rows.resize(index.header.blocks);
  for (BlockRow& row : index.rows) {
    row.offset = r.U64();
    row.stored_bytes = r.U32();
    r.Read(row.digest);
  }
  RETURN_IF_ERROR(CheckRows(index.header, index.rows));
  index.blob_id = BlobId(bytes, index.rows, index.header.file_bytes);
  return index;
}

absl::Status CheckStoredBlock(const ShardIndex& index, uint32_t block, ByteSpan stored) {
  LONGHAUL_CHECK(block < index.rows.size(), "no such block");
  const BlockRow& row = index.rows[block];
  if (stored.size() == row.stored_bytes && LeafDigest(stored) == row.digest) {
    return absl::OkStatus();
  }
  return Damaged(absl::StrCat("block ", block, " has other bytes than its digest says"));
}

absl::StatusOr<std::string> DecodeBlock(const ShardIndex& index, uint32_t block, ByteSpan stored) {
  LONGHAUL_CHECK(block < index.rows.size(), "no such block");
  const uint64_t size = index.header.DecodedBytes(block);
  if (index.header.codec == BlockCodec::kNone) {
    if (stored.size() != size) return Damaged(absl::StrCat("block ", block, " has another size"));
    return std::string(reinterpret_cast<const char*>(stored.data()), stored.size());
  }
  std::string decoded(size, '\0');
  const size_t n = ZSTD_decompress(decoded.data(), decoded.size(), stored.data(), stored.size());
  if (ZSTD_isError(n) || n != size) {
    return Damaged(absl::StrCat("block ", block, " does not decompress to ", size, " bytes"));
  }
  return decoded;
}

std::string EncodeBlock(BlockCodec codec, int zstd_level, ByteSpan decoded) {
  LONGHAUL_CHECK(decoded.size() <= kMaxBlockBytes, "a block is too large");
  if (codec == BlockCodec::kNone) {
    return std::string(reinterpret_cast<const char*>(decoded.data()), decoded.size());
  }
  std::string stored(ZSTD_compressBound(decoded.size()), '\0');
  const size_t n =
      ZSTD_compress(stored.data(), stored.size(), decoded.data(), decoded.size(), zstd_level);
  LONGHAUL_CHECK(!ZSTD_isError(n) && n <= kMaxStoredBlockBytes, "compression failed");
  stored.resize(n);
  return stored;
}

LogicalHash::LogicalHash(const SampleFormat& format) : hash_("LH-samples") {
  ByteWriter w;
  w.U32(format.token_bytes);
  w.U32(format.sample_tokens);
  hash_.Add(AsBytes(w.str()));
}

void LogicalHash::Add(ByteSpan decoded_samples) {
  hash_.Add(decoded_samples);
  bytes_ += decoded_samples.size();
}

Digest LogicalHash::Finish() {
  ByteWriter w;
  w.U64(bytes_);
  hash_.Add(AsBytes(w.str()));
  return hash_.Finish();
}

ShardBuilder::ShardBuilder(const SampleFormat& format, BlockCodec codec, uint32_t block_samples)
    : logical_(format) {
  LONGHAUL_CHECK(CheckSampleFormat(format).ok(), "a bad sample format");
  LONGHAUL_CHECK(block_samples > 0 && block_samples <= kMaxBlockBytes / format.sample_bytes(),
                 "a bad block size");
  header_.format = format;
  header_.codec = codec;
  header_.block_samples = block_samples;
}

void ShardBuilder::Add(ByteSpan decoded, ByteSpan stored) {
  const uint64_t samples = decoded.size() / header_.format.sample_bytes();
  LONGHAUL_CHECK(samples > 0 && samples <= header_.block_samples &&
                     decoded.size() % header_.format.sample_bytes() == 0,
                 "a block holds whole samples");
  LONGHAUL_CHECK(header_.samples % header_.block_samples == 0 && rows_.size() < kMaxShardBlocks,
                 "no block follows a short one");
  rows_.push_back({blocks_.size(), static_cast<uint32_t>(stored.size()), LeafDigest(stored)});
  blocks_.append(reinterpret_cast<const char*>(stored.data()), stored.size());
  header_.samples += samples;
  logical_.Add(decoded);
}

ShardBuilder::Result ShardBuilder::Finish() {
  LONGHAUL_CHECK(!rows_.empty(), "a shard without blocks");
  header_.blocks = static_cast<uint32_t>(rows_.size());
  header_.file_bytes = header_.index_bytes() + blocks_.size();
  header_.logical_id = logical_.Finish();
  for (BlockRow& row : rows_) row.offset += header_.index_bytes();
  Result result{.file = EncodeIndex(header_, rows_)};
  result.index = {header_, rows_, BlobId(AsBytes(result.file), rows_, header_.file_bytes)};
  result.file += blocks_;
  return result;
}

}  // namespace longhaul
