#include "worker/block_feed.h"

#include <gtest/gtest.h>

#include <future>

#include "data/memory_storage.h"
#include "data/sample_shards.h"

namespace longhaul {
namespace {

// What a coordinator answers with, on the caller's thread.
class Origin {
 public:
  explicit Origin(const Manifest& manifest, const std::vector<std::string>& files) {
    blobs_[manifest.Id()] = EncodeManifest(manifest);
    for (size_t i = 0; i < files.size(); ++i) blobs_[manifest.shards[i].blob_id] = files[i];
  }
  void Answer(CoordinatorSource& to, const FetchBlob& request) {
    {
      std::lock_guard lock(mutex_);
      requests.push_back(request);
    }
    const std::string& blob = blobs_.at(request.blob_id);
    const std::string part = blob.substr(request.offset, request.bytes);
    if (part.size() == request.bytes)
      return to.OnChunk(WorkerKey{}, request.transfer, AsBytes(part));
    to.OnRefused(WorkerKey{}, request.transfer, "outside");
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return requests.size();
  }
  std::vector<FetchBlob> requests;

 private:
  std::map<Digest, std::string> blobs_;
  std::mutex mutex_;
};

// A feed over a small manifest; everything that is asked for is answered at once.
class BlockFeedTest : public ::testing::Test {
 protected:
  BlockFeedTest() : manifest_(SmallManifest(&files_)), origin_(manifest_, files_) {}
  ~BlockFeedTest() override {
    if (feed_) feed_->Close();
  }

  MixedOrder Order() const {
    return MixedOrder(3, {{4, 4, 2}, {19, 4, 2}}, {{0, SharesOf({1, 3})}}, 64);
  }

  absl::Status Start(uint64_t cache_bytes, std::vector<std::shared_ptr<BlobSource>> sources = {},
                     MemoryStorage** disk = nullptr) {
    auto storage = std::make_unique<MemoryStorage>();
    if (disk) {
      for (const auto& [name, content] : left_) storage->files[name] = content;
      *disk = storage.get();
    }
    source_ = std::make_shared<CoordinatorSource>([this](const FetchBlob& r) {
      if (source_) origin_.Answer(*source_, r);
    });
    sources.push_back(source_);
    auto ready = std::make_shared<std::promise<absl::Status>>();
    auto result = ready->get_future();
    feed_ = std::make_unique<BlockFeed>(
        BlockFeed::Options{.manifest_id = manifest_.Id(),
                           .manifest_bytes = EncodeManifest(manifest_).size(),
                           .sources = std::move(sources),
                           .coordinator = source_,
                           .cache = std::move(storage),
                           .cache_bytes = cache_bytes,
                           .make_order = [this](const Manifest&) { return Order(); },
                           .on_ready = [ready](absl::Status s) { ready->set_value(std::move(s)); },
                           .say = [](const std::string&) {}});
    return result.get();
  }

  // Reads positions [0, n) and compares with the files.
  void ReadAll(uint64_t n) {
    DataSet ours(feed_->manifest(), *feed_, {.decoded_cache_bytes = 0});
    VerifiedBlobs direct({std::make_shared<MapSource>(manifest_, files_)});
    DataSet theirs(manifest_, direct);
    std::vector<uint32_t> a(8), b(8);
    for (uint64_t p = 0; p < n; ++p) {
      const OrderPlace at = feed_->order().At(p);
      ASSERT_TRUE(ours.ReadSample(at.domain, at.sample, a).ok()) << p;
      ASSERT_TRUE(theirs.ReadSample(at.domain, at.sample, b).ok());
      EXPECT_EQ(a, b);
      feed_->NoteRead(p);
    }
  }

  struct MapSource : BlobSource {
    MapSource(const Manifest& m, const std::vector<std::string>& files) {
      for (size_t i = 0; i < files.size(); ++i) blobs[m.shards[i].blob_id] = files[i];
    }
    const std::string& name() const override { return label; }
    absl::StatusOr<std::string> Read(const Digest& blob, uint64_t offset, uint64_t size) override {
      ++reads;
      std::string bytes = blobs.at(blob).substr(offset, size);
      if (lying) bytes[0] ^= 1;
      return bytes;
    }
    std::string label = "map";
    std::map<Digest, std::string> blobs;
    std::atomic<int> reads = 0;
    bool lying = false;
  };

  std::vector<std::string> files_;
  Manifest manifest_;
  Origin origin_;
  std::map<std::string, std::string> left_;  // on the disk from before
  std::shared_ptr<CoordinatorSource> source_;
  std::unique_ptr<BlockFeed> feed_;
};

TEST_F(BlockFeedTest, EverySampleComesOverTheNetworkAndEachBlockOnce) {
  MemoryStorage* disk = nullptr;
  ASSERT_TRUE(Start(1 << 20, {}, &disk).ok());
  feed_->SetLeases({{Fence{1}, 0, 60}});
  ReadAll(60);
  // 4 indexes and 4 + 3 + 2 + 2 blocks, some of which the order may not touch.
  const BlockFeed::Stats stats = feed_->stats();
  EXPECT_LE(stats.blocks, 11u);
  EXPECT_LE(origin_.count(), 1 + 4 + 11u);
  EXPECT_EQ(stats.damaged, 0u);
}

TEST_F(BlockFeedTest, ADiskOfAnySizeWillDo) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{60}, uint64_t{150}, uint64_t{400}}) {
    feed_.reset();
    MemoryStorage* disk = nullptr;
    ASSERT_TRUE(Start(bytes, {}, &disk).ok());
    feed_->SetLeases({{Fence{1}, 0, 30}, {Fence{2}, 30, 60}});
    ReadAll(60);
    uint64_t used = 0;
    std::lock_guard lock(disk->mutex);
    for (const auto& [name, content] : disk->files) used += content.size();
    EXPECT_LE(used, bytes);
  }
}

TEST_F(BlockFeedTest, AFullDiskCostsDownloadsOnly) {
  MemoryStorage* disk = nullptr;
  ASSERT_TRUE(Start(1 << 20, {}, &disk).ok());
  disk->free_bytes = 0;
  ReadAll(40);
}

TEST_F(BlockFeedTest, WhatAnEarlierProcessLeftIsUsedAndDamageIsFound) {
  MemoryStorage* disk = nullptr;
  ASSERT_TRUE(Start(1 << 20, {}, &disk).ok());
  ReadAll(60);
  {
    std::lock_guard lock(disk->mutex);
    left_ = disk->files;
  }
  feed_.reset();
  ASSERT_FALSE(left_.empty());
  left_.begin()->second[5] ^= 1;
  left_["nonsense"] = "x";
  ASSERT_TRUE(Start(1 << 20, {}, &disk).ok());
  EXPECT_FALSE(disk->Exists("nonsense"));
  ReadAll(60);
  EXPECT_EQ(feed_->stats().damaged, 1u);
  EXPECT_EQ(feed_->stats().blocks, 1u);
}

TEST_F(BlockFeedTest, AnotherSourceIsAskedFirstAndLeftWhenItLies) {
  auto other = std::make_shared<MapSource>(manifest_, files_);
  ASSERT_TRUE(Start(1 << 20, {other}).ok());
  ReadAll(60);
  EXPECT_EQ(origin_.count(), 1u);  // the manifest
  feed_.reset();
  other->lying = true;
  other->reads = 0;
  ASSERT_TRUE(Start(1 << 20, {other}).ok());
  ReadAll(60);
  EXPECT_LE(other->reads, static_cast<int>(VerifiedBlobs::kMaxWrongBlobs));
}

TEST_F(BlockFeedTest, AnotherManifestThanWasNamedIsRefused) {
  Manifest other = manifest_;
  other.tokenizer = "other";
  const Digest named = manifest_.Id();
  // The coordinator names one manifest and sends another one of the same size.
  std::string bytes = EncodeManifest(other);
  auto source = std::make_shared<CoordinatorSource>([](const FetchBlob&) {});
  std::promise<absl::Status> ready;
  auto result = ready.get_future();
  BlockFeed feed({.manifest_id = named,
                  .manifest_bytes = bytes.size(),
                  .sources = {source},
                  .coordinator = source,
                  .cache = std::make_unique<MemoryStorage>(),
                  .cache_bytes = 1 << 20,
                  .make_order = [this](const Manifest&) { return Order(); },
                  .on_ready = [&](absl::Status s) { ready.set_value(std::move(s)); },
                  .say = [](const std::string&) {}});
  source->OnChunk(WorkerKey{}, 1, AsBytes(bytes));
  while (result.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready)
    source->OnChunk(WorkerKey{}, 1, AsBytes(bytes));  // whenever it has asked
  EXPECT_TRUE(absl::IsDataLoss(result.get()));
}

TEST_F(BlockFeedTest, WhatIsReadAheadComesInTheOrderOfUseAndTrainingDoesNotWait) {
  ASSERT_TRUE(Start(1 << 20).ok());
  feed_->SetLeases({{Fence{1}, 0, 60}});
  std::set<std::pair<uint32_t, uint64_t>> blocks;
  const SampleMap map(manifest_);
  for (uint64_t p = 0; p < 60; ++p) {
    const OrderPlace at = feed_->order().At(p);
    const auto place = map.Training(at.domain, at.sample);
    blocks.insert({place.shard, place.sample / 3});
  }
  while (feed_->stats().blocks < blocks.size()) std::this_thread::yield();
  const int64_t waited = feed_->stats().waited_ns;
  ReadAll(60);
  EXPECT_EQ(feed_->stats().waited_ns, waited);
}

// The coordinator sends every block request elsewhere, until it is asked for the bytes.
class HolderTest : public BlockFeedTest {
 protected:
  using Answer = std::function<void(CoordinatorSource&, const PeerView&, const FetchBlob&)>;

  void StartWith(Answer answer) {
    auto storage = std::make_unique<MemoryStorage>();
    source_ = std::make_shared<CoordinatorSource>(
        [this](const FetchBlob& r) {
          if (r.direct || r.offset == 0) {
            direct_ += r.direct ? 1 : 0;
            return origin_.Answer(*source_, r);
          }
          source_->OnElsewhere({r.transfer, {{{1}, Key(1), "a:1"}, {{2}, Key(2), "a:2"}}});
        },
        [this, answer](const PeerView& holder, const FetchBlob& r) {
          ++asked_;
          answer(*source_, holder, r);
        });
    auto ready = std::make_shared<std::promise<absl::Status>>();
    auto result = ready->get_future();
    feed_ = std::make_unique<BlockFeed>(
        BlockFeed::Options{.manifest_id = manifest_.Id(),
                           .manifest_bytes = EncodeManifest(manifest_).size(),
                           .sources = {source_},
                           .coordinator = source_,
                           .cache = std::move(storage),
                           .cache_bytes = 1 << 20,
                           .make_order = [this](const Manifest&) { return Order(); },
                           .on_ready = [ready](absl::Status s) { ready->set_value(std::move(s)); },
                           .say = [](const std::string&) {}});
    ASSERT_TRUE(result.get().ok());
  }
  std::string Right(const FetchBlob& r) const {
    for (size_t i = 0; i < files_.size(); ++i) {
      if (manifest_.shards[i].blob_id == r.blob_id) return files_[i].substr(r.offset, r.bytes);
    }
    return "";
  }
  static WorkerKey Key(uint8_t i) { return WorkerKey{{i}}; }

  std::atomic<int> direct_ = 0;
  std::atomic<int> asked_ = 0;
};

TEST_F(HolderTest, BlocksComeFromAHolder) {
  StartWith([this](CoordinatorSource& to, const PeerView& holder, const FetchBlob& r) {
    to.OnChunk(holder.key, r.transfer, AsBytes(Right(r)));
  });
  ReadAll(60);
  EXPECT_EQ(direct_, 0);
  EXPECT_GT(feed_->stats().holder_bytes, 0u);
}

TEST_F(HolderTest, AHolderThatLiesIsAskedOnceAndTheCoordinatorIsStillBelieved) {
  StartWith([this](CoordinatorSource& to, const PeerView& holder, const FetchBlob& r) {
    std::string bytes = Right(r);
    bytes[0] ^= 1;
    to.OnChunk(holder.key, r.transfer, AsBytes(bytes));
  });
  ReadAll(60);
  EXPECT_EQ(asked_, 2);  // two holders, each once
  EXPECT_GT(direct_, 2);
}

TEST_F(HolderTest, WhoRefusesOrCannotBeReachedIsPassedOver) {
  StartWith([this](CoordinatorSource& to, const PeerView& holder, const FetchBlob& r) {
    if (holder.key == Key(1)) return to.OnHolder(holder.key, false);
    to.OnChunk(Key(1), r.transfer, AsBytes(Right(r)));  // not who was asked
    to.OnRefused(holder.key, r.transfer, "not here");
  });
  ReadAll(60);
  EXPECT_EQ(feed_->stats().holder_bytes, 0u);
  EXPECT_GT(direct_, 0);
}

TEST_F(HolderTest, GivesWhatItHasAndNothingElse) {
  StartWith([this](CoordinatorSource& to, const PeerView& holder, const FetchBlob& r) {
    to.OnChunk(holder.key, r.transfer, AsBytes(Right(r)));
  });
  const auto index = ParseShardIndex(AsBytes(files_[0]).first(manifest_.shards[0].index_bytes));
  ASSERT_TRUE(index.ok());
  const BlockRow& row = index->rows[0];
  FetchBlob request{1, manifest_.shards[0].blob_id, row.offset, row.stored_bytes};
  EXPECT_TRUE(absl::IsNotFound(feed_->Stored(request).status()));
  ReadAll(60);
  const auto stored = feed_->Stored(request);
  if (stored.ok()) {
    EXPECT_EQ(*stored, Right(request));
  }
  request.bytes = kMaxBlobPartBytes;
  EXPECT_TRUE(absl::IsNotFound(feed_->Stored(request).status()));
  request = {1, manifest_.shards[0].blob_id, UINT64_MAX, 1};
  EXPECT_TRUE(absl::IsNotFound(feed_->Stored(request).status()));
  request = {1, Digest{}, row.offset, 1};
  EXPECT_TRUE(absl::IsNotFound(feed_->Stored(request).status()));
}

}  // namespace
}  // namespace longhaul
