#include "data/manifest.h"

#include <gtest/gtest.h>

#include "data/sample_shards.h"

namespace longhaul {
namespace {

SigningSeed Seed(uint8_t fill) {
  SigningSeed seed;
  seed.fill(fill);
  return seed;
}

ShardEntry NewEntry(uint64_t seed, uint32_t domain) {
  return EntryOf(BuildShard(SmallFormat(), SampleBytes(SmallFormat(), 6, seed), 3).index, domain);
}

TEST(ManifestTest, RoundTrip) {
  Manifest m = SmallManifest();
  m.withdrawn = {{0, 1, 3}, {0, 5, 6}, {3, 0, 4}};
  SignManifest(Seed(7), m);
  ASSERT_TRUE(CheckManifest(m).ok()) << CheckManifest(m);
  auto read = ParseManifest(AsBytes(EncodeManifest(m)));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, m);
  EXPECT_EQ(read->Id(), m.Id());
  EXPECT_EQ(m.DomainSamples(1), 21u);
  EXPECT_EQ(m.Samples(), 26u);
}

TEST(ManifestTest, EveryFlippedBitAndCutIsFound) {
  const std::string bytes = EncodeManifest(SmallManifest());
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      ASSERT_FALSE(ParseManifest(AsBytes(damaged)).ok()) << i;
    }
    ASSERT_FALSE(ParseManifest(AsBytes(bytes.substr(0, i))).ok()) << i;
  }
  EXPECT_FALSE(ParseManifest(AsBytes(bytes + "x")).ok());
}

TEST(ManifestTest, RefusesWhatDoesNotBelongTogether) {
  const std::vector<void (*)(Manifest&)> mistakes = {
      [](Manifest& m) { m.format.token_bytes = 3; },
      [](Manifest& m) { m.format.sample_tokens = 0; },
      [](Manifest& m) { m.vocab_size = 65537; },
      [](Manifest& m) { m.version = 0; },
      [](Manifest& m) { m.version = 2; },
      [](Manifest& m) { m.parent[0] = 1; },
      [](Manifest& m) { m.domains.clear(); },
      [](Manifest& m) { m.domains[1].name = m.domains[0].name; },
      [](Manifest& m) { m.domains[0].name = ""; },
      [](Manifest& m) { m.domains[0].validation_samples = 5; },
      [](Manifest& m) {
        m.domains.push_back({"empty", 0});
      },
      [](Manifest& m) { m.shards[1] = m.shards[0]; },
      [](Manifest& m) { m.shards[1].domain = 2; },
      [](Manifest& m) { m.shards[1].samples = 0; },
      [](Manifest& m) { m.shards[1].samples = UINT64_MAX; },
      [](Manifest& m) { m.shards[1].index_bytes = 4096; },
      [](Manifest& m) { m.shards[1].file_bytes = m.shards[1].index_bytes; },
      [](Manifest& m) {
        m.withdrawn = {{4, 0, 1}};
      },
      [](Manifest& m) {
        m.withdrawn = {{0, 1, 1}};
      },
      [](Manifest& m) {
        m.withdrawn = {{0, 0, 11}};
      },
      [](Manifest& m) {
        m.withdrawn = {{0, 2, 3}, {0, 0, 1}};
      },
      [](Manifest& m) {
        m.withdrawn = {{0, 0, 2}, {0, 2, 3}};
      },
  };
  EXPECT_TRUE(CheckManifest(SmallManifest()).ok());
  for (size_t i = 0; i < mistakes.size(); ++i) {
    Manifest m = SmallManifest();
    mistakes[i](m);
    EXPECT_FALSE(CheckManifest(m).ok()) << i;
    EXPECT_FALSE(ParseManifest(AsBytes(EncodeManifest(m))).ok()) << i;
  }
}

TEST(ManifestTest, IdentityNamesContentAndOrder) {
  const Manifest m = SmallManifest();
  Manifest same = m;
  same.shards[0].blob_id[0] ^= 1;  // another zstd
  same.tokenizer = "renamed";
  same.withdrawn = {{0, 0, 1}};
  EXPECT_EQ(same.Identity(), m.Identity());
  EXPECT_NE(same.Id(), m.Id());
  const std::vector<void (*)(Manifest&)> changes = {
      [](Manifest& m) { std::swap(m.shards[0], m.shards[1]); },
      [](Manifest& m) { m.shards[0].logical_id[0] ^= 1; },
      [](Manifest& m) { m.shards.pop_back(); },
      [](Manifest& m) { m.format.sample_tokens = 16; },
      [](Manifest& m) { m.format.tokenizer_hash[0] ^= 1; },
      [](Manifest& m) { m.format.recipe_hash[0] ^= 1; },
      [](Manifest& m) { m.domains[0].validation_samples = 2; },
      [](Manifest& m) { m.domains[0].name = "prose2"; },
      [](Manifest& m) { m.vocab_size = 1; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    Manifest other = m;
    changes[i](other);
    EXPECT_NE(other.Identity(), m.Identity()) << i;
    EXPECT_NE(other.Id(), m.Id()) << i;
  }
}

TEST(ManifestTest, WithdrawnIsWhatTheListSays) {
  Manifest m = SmallManifest();
  m.withdrawn = {{0, 1, 3}, {0, 5, 6}, {2, 0, 5}};
  for (uint32_t shard = 0; shard < 4; ++shard) {
    for (uint64_t sample = 0; sample < m.shards[shard].samples; ++sample) {
      bool naive = false;
      for (const Withdrawal& x : m.withdrawn) {
        naive |= x.shard == shard && x.from <= sample && sample < x.to;
      }
      EXPECT_EQ(m.Withdrawn(shard, sample), naive) << shard << " " << sample;
    }
  }
}

TEST(ManifestTest, SignaturesNameTheKeyAndTheManifest) {
  Manifest m = SmallManifest();
  const auto key = SigningPublicKey(Seed(1));
  EXPECT_FALSE(VerifyManifest(m, key).ok());
  SignManifest(Seed(1), m);
  EXPECT_TRUE(VerifyManifest(m, key).ok());
  EXPECT_FALSE(VerifyManifest(m, SigningPublicKey(Seed(2))).ok());
  Manifest changed = m;
  changed.withdrawn = {{0, 0, 1}};
  EXPECT_FALSE(VerifyManifest(changed, key).ok());
  m.signature.bytes[5] ^= 1;
  EXPECT_FALSE(VerifyManifest(m, key).ok());
}

TEST(ManifestDeltaTest, TakesOneVersionToTheNext) {
  Manifest first = SmallManifest();
  first.withdrawn = {{0, 1, 3}};
  Manifest second = NextVersion(first, {{"maths", 1}}, {NewEntry(50, 2), NewEntry(51, 1)},
                                {{0, 2, 5}, {1, 0, 1}});
  SignManifest(Seed(1), second);
  ASSERT_TRUE(CheckManifest(second).ok()) << CheckManifest(second);
  EXPECT_EQ(second.withdrawn, (std::vector<Withdrawal>{{0, 1, 5}, {1, 0, 1}}));
  auto delta = MakeDelta(first, second);
  ASSERT_TRUE(delta.ok()) << delta.status();
  auto read = ParseDelta(AsBytes(EncodeDelta(*delta)));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, *delta);
  auto made = ApplyDelta(first, *read);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(*made, second);
  EXPECT_TRUE(VerifyManifest(*made, SigningPublicKey(Seed(1))).ok());
}

TEST(ManifestDeltaTest, AWithdrawalKeepsTheIdentity) {
  const Manifest first = SmallManifest();
  const Manifest second = NextVersion(first, {}, {}, {{0, 0, 10}});
  EXPECT_EQ(second.Identity(), first.Identity());
  EXPECT_NE(second.Id(), first.Id());
}

TEST(ManifestDeltaTest, ExtendsByTheNamesOfDomains) {
  const Manifest parent = SmallManifest();
  Manifest fresh = parent;
  fresh.domains = {{"maths", 1}, {"prose", 1}};
  fresh.shards = {NewEntry(50, 0), parent.shards[0], NewEntry(51, 1)};
  const Manifest next = Extended(parent, fresh).value();
  EXPECT_EQ(next.domains, (std::vector<ManifestDomain>{{"code", 1}, {"prose", 2}, {"maths", 1}}));
  ASSERT_EQ(next.shards.size(), 6u);
  EXPECT_EQ(next.shards[4], NewEntry(50, 2));
  EXPECT_EQ(next.shards[5], NewEntry(51, 1));
  EXPECT_EQ(ApplyDelta(parent, MakeDelta(parent, next).value()).value(), next);
  fresh.vocab_size = 7;
  EXPECT_FALSE(Extended(parent, fresh).ok());
}

TEST(ManifestDeltaTest, RefusesOtherParentsAndLies) {
  const Manifest first = SmallManifest();
  const Manifest second = NextVersion(first, {}, {NewEntry(50, 1)}, {});
  const ManifestDelta delta = MakeDelta(first, second).value();
  EXPECT_TRUE(absl::IsFailedPrecondition(ApplyDelta(second, delta).status()));
  ManifestDelta lies = delta;
  lies.added[0].logical_id[0] ^= 1;
  EXPECT_FALSE(ApplyDelta(first, lies).ok());
  EXPECT_FALSE(MakeDelta(second, first).ok());
  Manifest dropped = second;
  dropped.shards.erase(dropped.shards.begin());
  EXPECT_FALSE(MakeDelta(first, dropped).ok());
  const std::string bytes = EncodeDelta(delta);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    EXPECT_FALSE(ParseDelta(AsBytes(damaged)).ok()) << i;
    EXPECT_FALSE(ParseDelta(AsBytes(bytes.substr(0, i))).ok()) << i;
  }
}

}  // namespace
}  // namespace longhaul
