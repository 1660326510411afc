#include "data/shard.h"

#include <gtest/gtest.h>

#include "data/sample_shards.h"

namespace longhaul {
namespace {

std::string_view IndexBytes(const ShardBuilder::Result& shard) {
  return std::string_view(shard.file).substr(0, shard.index.header.index_bytes());
}

std::string Stored(const ShardBuilder::Result& shard, const ShardIndex& index, uint32_t block) {
  return shard.file.substr(index.rows[block].offset, index.rows[block].stored_bytes);
}

// All samples of a file, checked as a reader does. DataLoss for any damage.
absl::StatusOr<std::string> ReadAll(const std::string& file, const Digest& blob_id) {
  auto header = ParseShardHeader(AsBytes(file));
  if (!header.ok()) return header.status();
  if (header->file_bytes != file.size()) return absl::DataLossError("size");
  auto index = ParseShardIndex(AsBytes(file).first(header->index_bytes()));
  if (!index.ok()) return index.status();
  if (index->blob_id != blob_id) return absl::DataLossError("another blob");
  std::string samples;
  for (uint32_t i = 0; i < index->rows.size(); ++i) {
    const ByteSpan stored =
        AsBytes(file).subspan(index->rows[i].offset, index->rows[i].stored_bytes);
    if (auto status = CheckStoredBlock(*index, i, stored); !status.ok()) return status;
    auto decoded = DecodeBlock(*index, i, stored);
    if (!decoded.ok()) return decoded.status();
    samples += *decoded;
  }
  return samples;
}

TEST(ShardTest, GivesBackWhatWasStored) {
  for (uint32_t width : {1u, 2u, 4u}) {
    for (BlockCodec codec : {BlockCodec::kNone, BlockCodec::kZstd}) {
      for (uint64_t samples : {1, 2, 3, 7, 50}) {
        const SampleFormat format = SmallFormat(width);
        const std::string bytes = SampleBytes(format, samples, samples);
        const auto shard = BuildShard(format, bytes, 3, codec);
        EXPECT_EQ(shard.index.header.samples, samples);
        auto read = ReadAll(shard.file, shard.index.blob_id);
        ASSERT_TRUE(read.ok()) << read.status();
        EXPECT_EQ(*read, bytes);
      }
    }
  }
}

TEST(ShardTest, ContentIsNamedWhateverTheStorage) {
  const SampleFormat format = SmallFormat();
  const std::string bytes = SampleBytes(format, 20, 1);
  const auto a = BuildShard(format, bytes, 3), b = BuildShard(format, bytes, 5),
             c = BuildShard(format, bytes, 3, BlockCodec::kNone);
  EXPECT_EQ(a.index.header.logical_id, b.index.header.logical_id);
  EXPECT_EQ(a.index.header.logical_id, c.index.header.logical_id);
  EXPECT_NE(a.index.blob_id, b.index.blob_id);
  EXPECT_NE(a.index.blob_id, c.index.blob_id);
  EXPECT_EQ(a.file, BuildShard(format, bytes, 3).file);
  std::string other = bytes;
  other[5] ^= 1;
  EXPECT_NE(a.index.header.logical_id, BuildShard(format, other, 3).index.header.logical_id);
  EXPECT_NE(a.index.header.logical_id,
            BuildShard(SmallFormat(4), bytes, 3).index.header.logical_id);
}

TEST(ShardTest, EveryFlippedBitIsFound) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 7, 2), 3);
  for (size_t i = 0; i < shard.file.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = shard.file;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      ASSERT_FALSE(ReadAll(damaged, shard.index.blob_id).ok()) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(ShardTest, EveryCutAndEveryAdditionIsFound) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 7, 2), 3);
  for (size_t size = 0; size < shard.file.size(); size += 13) {
    EXPECT_FALSE(ReadAll(shard.file.substr(0, size), shard.index.blob_id).ok()) << size;
  }
  EXPECT_FALSE(ReadAll(shard.file + "x", shard.index.blob_id).ok());
}

// What a header says is compared before anything is allocated: 2^64 samples in 2^32 blocks.
TEST(ShardTest, SizesFromOutsideAreRefused) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 7, 2), 3);
  auto with_u32 = [&](size_t at, uint32_t value) {
    std::string file = shard.file;
    std::memcpy(file.data() + at, &value, sizeof value);
    return file;
  };
  for (size_t at = 8; at < 48; at += 4) {
    for (uint32_t value : {0u, 1u, 3u, 0x7fffffffu, 0xffffffffu}) {
      const std::string file = with_u32(at, value);
      if (file == shard.file) continue;
      EXPECT_FALSE(ParseShardHeader(AsBytes(file)).ok()) << at << " " << value;
    }
  }
  EXPECT_FALSE(ParseShardIndex(AsBytes(IndexBytes(shard).substr(1))).ok());
}

TEST(ShardTest, ABlockIsNotAnotherBlock) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 9, 2), 3);
  auto index = ParseShardIndex(AsBytes(IndexBytes(shard)));
  ASSERT_TRUE(index.ok());
  EXPECT_TRUE(CheckStoredBlock(*index, 0, AsBytes(Stored(shard, *index, 0))).ok());
  EXPECT_FALSE(CheckStoredBlock(*index, 0, AsBytes(Stored(shard, *index, 1))).ok());
  EXPECT_FALSE(CheckStoredBlock(*index, 0, {}).ok());
}

// Right digest, but the compressed block holds more or fewer bytes than the header says.
TEST(ShardTest, AFrameOfAnotherSizeIsRefused) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 3, 2), 3);
  for (const size_t size : {size_t{47}, size_t{49}, size_t{1} << 20}) {
    const std::string frame = EncodeBlock(BlockCodec::kZstd, 1, AsBytes(std::string(size, 'x')));
    EXPECT_FALSE(DecodeBlock(shard.index, 0, AsBytes(frame)).ok()) << size;
  }
  EXPECT_FALSE(DecodeBlock(shard.index, 0, AsBytes("not a frame")).ok());
}

}  // namespace
}  // namespace longhaul
