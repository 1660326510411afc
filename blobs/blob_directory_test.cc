#include "blobs/blob_directory.h"

#include <gtest/gtest.h>

#include "common/rng.h"

namespace longhaul {
namespace {

WorkerKey Key(uint8_t i) { return WorkerKey{{i}}; }

FetchBlob Part(uint64_t offset, bool direct = false) {
  return {.transfer = 1, .blob_id = Digest{7}, .offset = offset, .bytes = 100, .direct = direct};
}

std::vector<uint64_t> Sessions(const std::vector<PeerView>& holders) {
  std::vector<uint64_t> sessions;
  for (const PeerView& holder : holders) sessions.push_back(holder.session.value);
  return sessions;
}

class BlobDirectoryTest : public ::testing::Test {
 protected:
  void Offer(uint8_t i) { directory_.Offer({i}, Key(i), "10.0.0.1:" + std::to_string(i)); }
  std::vector<uint64_t> Ask(uint8_t i, const FetchBlob& part) {
    return Sessions(directory_.Ask(Key(i), part));
  }
  BlobDirectory directory_{4};
};

TEST_F(BlobDirectoryTest, TheFirstGetsItFromTheCoordinatorTheRestFromEarlierOnes) {
  for (uint8_t i = 1; i <= 20; ++i) Offer(i);
  EXPECT_TRUE(Ask(1, Part(5)).empty());
  EXPECT_EQ(Ask(2, Part(5)), std::vector<uint64_t>{1});
  EXPECT_TRUE(Ask(1, Part(5)).empty());  // said again: nobody is before it
  EXPECT_EQ(Ask(2, Part(5)), std::vector<uint64_t>{1});
  EXPECT_TRUE(Ask(2, Part(6)).empty());  // another part
  for (uint8_t i = 3; i <= 20; ++i) {
    const std::vector<uint64_t> named = Ask(i, Part(5));
    EXPECT_EQ(named.size(), std::min<size_t>(i - 1, kMaxBlobHolders));
    for (const uint64_t holder : named) EXPECT_LT(holder, i);
  }
  EXPECT_EQ(directory_.Ask(Key(2), Part(5))[0], (PeerView{{1}, Key(1), "10.0.0.1:1"}));
}

TEST_F(BlobDirectoryTest, WhoAsksForTheBytesThemselvesIsNamedFirst) {
  for (uint8_t i = 1; i <= 3; ++i) Offer(i);
  Ask(1, Part(5));
  Ask(2, Part(5));
  EXPECT_TRUE(Ask(2, Part(5, /*direct=*/true)).empty());
  EXPECT_EQ(Ask(1, Part(5)), std::vector<uint64_t>{2});  // it has lost it meanwhile
}

TEST_F(BlobDirectoryTest, WhoDoesNotShareIsNeitherSentElsewhereNorNamed) {
  Offer(1);
  EXPECT_TRUE(Ask(9, Part(5)).empty());
  EXPECT_TRUE(Ask(1, Part(5)).empty());
  EXPECT_TRUE(Ask(9, Part(5)).empty());
  Offer(2);
  EXPECT_EQ(Ask(2, Part(5)), std::vector<uint64_t>{1});
  EXPECT_TRUE(directory_.Withdraw({1}));
  EXPECT_FALSE(directory_.Withdraw({1}));
  EXPECT_TRUE(Ask(2, Part(5)).empty());
  EXPECT_EQ(Sessions(directory_.Members()), std::vector<uint64_t>{2});
  EXPECT_EQ(directory_.Members()[0].address, "");
}

TEST_F(BlobDirectoryTest, ANewSessionOfAKeyTakesItsPlace) {
  EXPECT_TRUE(directory_.Offer({1}, Key(1), "a:1"));
  EXPECT_FALSE(directory_.Offer({1}, Key(1), "a:1"));
  EXPECT_TRUE(directory_.Offer({2}, Key(1), "a:2"));
  EXPECT_TRUE(directory_.Withdraw({1}));
  Offer(3);
  EXPECT_TRUE(Ask(1, Part(5)).empty());
  EXPECT_EQ(Ask(3, Part(5)), std::vector<uint64_t>{2});
  EXPECT_TRUE(directory_.Offer({2}, Key(1), ""));
  EXPECT_FALSE(directory_.Offer({4}, Key(4), std::string(BlobDirectory::kMaxAddress + 1, 'a')));
}

TEST_F(BlobDirectoryTest, RemembersNoMoreThanItsLimits) {
  for (uint8_t i = 1; i <= 40; ++i) Offer(i);
  for (uint64_t offset = 1; offset <= 20; ++offset) Ask(1, Part(offset));
  EXPECT_EQ(directory_.parts(), 4u);
  EXPECT_TRUE(Ask(2, Part(1)).empty());  // forgotten
  EXPECT_EQ(Ask(2, Part(20)), std::vector<uint64_t>{1});
  for (uint8_t i = 1; i <= 40; ++i) EXPECT_LE(Ask(i, Part(20)).size(), kMaxBlobHolders);
  for (uint8_t i = 1; i <= 40; ++i) Ask(i, Part(20, true));
  for (uint64_t i = 0; i < 2 * kMaxPeers; ++i) directory_.Offer({100 + i}, WorkerKey{}, "a:1");
  EXPECT_LE(directory_.Members().size(), kMaxPeers);
}

// Whatever happened before, following the first name always ends at somebody who was not sent on.
TEST_F(BlobDirectoryTest, NobodyWaitsInACircle) {
  Rng rng(5);
  for (uint8_t i = 1; i <= 9; ++i) Offer(i);
  std::map<uint64_t, std::vector<uint64_t>> waits_for;
  for (int i = 0; i < 2000; ++i) {
    const auto asker = static_cast<uint8_t>(1 + rng.Below(9));
    waits_for[asker] = Ask(asker, Part(1, rng.Below(4) == 0));
    // Everybody can be ordered such that each waits for earlier ones only.
    std::set<uint64_t> done;
    for (size_t round = 0; round < 10; ++round) {
      for (const auto& [who, named] : waits_for) {
        if (std::all_of(named.begin(), named.end(),
                        [&](uint64_t n) { return done.contains(n) || !waits_for.contains(n); }))
          done.insert(who);
      }
    }
    if (waits_for[asker].empty()) continue;
    EXPECT_EQ(done.size(), waits_for.size());
  }
}

}  // namespace
}  // namespace longhaul
