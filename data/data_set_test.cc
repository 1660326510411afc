#include "data/data_set.h"

#include <gtest/gtest.h>

#include <cstring>

#include "data/sample_shards.h"
#include "data/verified_blobs.h"

namespace longhaul {
namespace {

// A source in memory that can misbehave.
class FakeSource : public BlobSource {
 public:
  explicit FakeSource(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::string> Read(const Digest& blob, uint64_t offset, uint64_t size) override {
    ++reads;
    if (silent) return absl::UnavailableError("silent");
    const auto it = blobs.find(blob);
    if (it == blobs.end()) return absl::NotFoundError("no such blob");
    std::string bytes = it->second.substr(offset, size);
    if (lying) bytes[bytes.size() / 2] ^= 1;
    return bytes;
  }

  std::map<Digest, std::string> blobs;
  bool silent = false;
  bool lying = false;
  int reads = 0;

 private:
  const std::string name_;
};

class DataSetTest : public ::testing::Test {
 protected:
  DataSetTest() : manifest_(SmallManifest(&files_)) {
    for (auto& source : {a_, b_}) {
      for (size_t i = 0; i < files_.size(); ++i) {
        source->blobs[manifest_.shards[i].blob_id] = files_[i];
      }
    }
  }

  // What a reader must give, from the definition.
  std::vector<uint32_t> Expected(uint32_t domain, uint64_t number) const {
    for (size_t i = 0; i < manifest_.shards.size(); ++i) {
      const ShardEntry& e = manifest_.shards[i];
      if (e.domain != domain) continue;
      if (number >= e.samples) {
        number -= e.samples;
        continue;
      }
      const std::string bytes = SampleBytes(manifest_.format, e.samples, i);
      std::vector<uint16_t> tokens(8);
      std::memcpy(tokens.data(), bytes.data() + number * 16, 16);
      return {tokens.begin(), tokens.end()};
    }
    return {};
  }

  std::vector<std::string> files_;
  Manifest manifest_;
  std::shared_ptr<FakeSource> a_ = std::make_shared<FakeSource>("a");
  std::shared_ptr<FakeSource> b_ = std::make_shared<FakeSource>("b");
  std::vector<uint32_t> out_ = std::vector<uint32_t>(8);
};

TEST_F(DataSetTest, EverySampleOfEveryDomain) {
  for (uint64_t cache : {uint64_t{0}, uint64_t{1} << 20}) {
    VerifiedBlobs blobs({a_});
    DataSet data(manifest_, blobs, {.decoded_cache_bytes = cache});
    for (uint32_t domain : {0u, 1u}) {
      const uint64_t validation = data.validation_samples(domain);
      for (uint64_t i = 0; i < validation; ++i) {
        ASSERT_TRUE(data.ReadValidationSample(domain, i, out_).ok());
        EXPECT_EQ(out_, Expected(domain, i));
      }
      for (uint64_t i = 0; i < data.samples(domain); ++i) {
        ASSERT_TRUE(data.ReadSample(domain, i, out_).ok());
        EXPECT_EQ(out_, Expected(domain, validation + i));
      }
    }
    EXPECT_EQ(data.samples(1), 19u);
  }
}

TEST_F(DataSetTest, ReadsABlockOnceWhileItIsKept) {
  VerifiedBlobs blobs({a_});
  DataSet data(manifest_, blobs);
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (uint64_t i = 0; i < data.samples(1); ++i) {
      ASSERT_TRUE(data.ReadSample(1, i, out_).ok());
    }
  }
  EXPECT_EQ(a_->reads, 3 + 4 + 3 + 2);  // indexes, then blocks
  EXPECT_EQ(data.Locate(1, 0).value(), (BlockId{0, 0}));
  EXPECT_EQ(data.Locate(1, 8).value(), (BlockId{1, 0}));
}

TEST_F(DataSetTest, ALiarIsDroppedAfterOneBlockAndAnotherSourceServes) {
  VerifiedBlobs blobs({a_, b_});
  DataSet data(manifest_, blobs);
  ASSERT_TRUE(data.ReadSample(1, 0, out_).ok());
  EXPECT_EQ(b_->reads, 0);
  a_->lying = true;
  const int before = a_->reads;
  ASSERT_TRUE(data.ReadSample(1, 7, out_).ok());
  EXPECT_EQ(out_, Expected(1, 9));
  ASSERT_TRUE(data.ReadSample(1, 1, out_).ok());
  ASSERT_TRUE(data.ReadSample(1, 4, out_).ok());
  EXPECT_EQ(a_->reads, before + 1);
  const auto report = blobs.Report();
  EXPECT_EQ(report[0].quarantine, (std::set<Digest>{manifest_.shards[0].blob_id}));
  EXPECT_GT(report[0].wrong_bytes, 0u);
  EXPECT_EQ(report[1].wrong_bytes, 0u);
  EXPECT_FALSE(report[0].dropped);
}

TEST_F(DataSetTest, AfterThreeWrongBlobsASourceIsAskedForNothing) {
  a_->lying = true;
  VerifiedBlobs blobs({a_, b_});
  DataSet data(manifest_, blobs);
  for (uint64_t i = 0; i < data.samples(1); ++i) ASSERT_TRUE(data.ReadSample(1, i, out_).ok());
  ASSERT_TRUE(data.ReadSample(0, 0, out_).ok());
  EXPECT_EQ(a_->reads, 3);
  EXPECT_TRUE(blobs.Report()[0].dropped);
}

TEST_F(DataSetTest, ASilentSourceIsAskedLast) {
  a_->silent = true;
  VerifiedBlobs blobs({a_, b_});
  DataSet data(manifest_, blobs);
  for (uint64_t i = 0; i < data.samples(1); ++i) ASSERT_TRUE(data.ReadSample(1, i, out_).ok());
  EXPECT_EQ(a_->reads, 1);
  a_->silent = false;
  b_->silent = true;
  DataSet again(manifest_, blobs);
  ASSERT_TRUE(again.ReadSample(1, 0, out_).ok());
}

TEST_F(DataSetTest, SaysWhatEverySourceSaid) {
  a_->silent = true;
  b_->blobs.clear();
  VerifiedBlobs blobs({a_, b_});
  DataSet data(manifest_, blobs);
  const absl::Status status = data.ReadSample(1, 0, out_);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_NE(std::string(status.message()).find("a: silent"), std::string::npos);
  EXPECT_NE(std::string(status.message()).find("b: no such blob"), std::string::npos);
}

TEST_F(DataSetTest, WithdrawnSamplesAreRefused) {
  manifest_.withdrawn = {{0, 3, 4}};
  VerifiedBlobs blobs({a_});
  DataSet data(manifest_, blobs);
  EXPECT_TRUE(data.ReadSample(1, 0, out_).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(data.ReadSample(1, 1, out_)));
  EXPECT_TRUE(data.ReadSample(1, 2, out_).ok());
}

TEST_F(DataSetTest, AManifestThatMisnamesAShardIsFound) {
  manifest_.shards[0].logical_id[3] ^= 1;
  VerifiedBlobs blobs({a_});
  DataSet data(manifest_, blobs);
  EXPECT_TRUE(absl::IsDataLoss(data.ReadSample(1, 0, out_)));
  EXPECT_FALSE(VerifyShard(blobs, manifest_.shards[0]).ok());
  EXPECT_TRUE(VerifyShard(blobs, manifest_.shards[1]).ok());
}

TEST_F(DataSetTest, FoldersServeBlobs) {
  const ScratchFolder folder;
  for (size_t i = 0; i < files_.size(); ++i) {
    folder.Write(BlobPath(manifest_.shards[i].blob_id), files_[i]);
  }
  const auto storage = folder.Open();
  VerifiedBlobs blobs({std::make_shared<FolderSource>("disk", *storage)});
  for (const ShardEntry& entry : manifest_.shards) {
    EXPECT_TRUE(VerifyShard(blobs, entry).ok()) << VerifyShard(blobs, entry);
  }
  folder.Write(BlobPath(manifest_.shards[1].blob_id), files_[1].substr(0, files_[1].size() - 1));
  EXPECT_FALSE(VerifyShard(blobs, manifest_.shards[1]).ok());
}

}  // namespace
}  // namespace longhaul
