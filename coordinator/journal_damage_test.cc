// Damage of every kind to journal and snapshots: the history comes back from what is good, or is
// refused. Never anything that was not written, never less than what the rest proves.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <vector>

#include "coordinator/journal_history.h"
#include "coordinator/snapshots.h"

namespace longhaul {
namespace {

using Image = FaultStorage::Image;

// A disk after several processes, with two snapshots and segments around them, as it was at several
// times.
struct Past {
  Payloads history;
  std::vector<Image> images;  // oldest first; the last one is now
  explicit Past(uint64_t seed) {
    FaultStorage disk;
    HistoryWriter writer(disk, seed);
    for (int steps : {9, 14, 20, 3, 31, 10}) {
      EXPECT_TRUE(writer.Live(steps).ok());
      images.push_back(disk.Contents());
    }
    history = writer.written();
  }
  const Image& now() const { return images.back(); }
};

struct Outcome {
  absl::StatusOr<Journal::Opened> opened;
  Payloads history;
};

Outcome Open(const Image& image) {
  FaultStorage disk;
  disk.Load(image);
  Outcome outcome{Journal::Open(disk, SmallJournal()), {}};
  if (!outcome.opened.ok()) return outcome;
  outcome.history = Rebuilt(*outcome.opened);
  // It goes on from there, and a further start finds the same.
  EXPECT_TRUE(outcome.opened->journal->Append("more").ok());
  EXPECT_TRUE(outcome.opened->journal->Sync().ok());
  Payloads more = outcome.history;
  more.push_back("more");
  auto again = Journal::Open(disk, SmallJournal());
  EXPECT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again.ok() ? Rebuilt(*again) : Payloads(), more);
  return outcome;
}

std::vector<std::string> PathsOf(const Image& image, const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& [path, bytes] : image) {
    if (path.starts_with(folder + "/") && path != "j/mark") paths.push_back(path);
  }
  return paths;
}

class JournalDamageTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Open(past_.now()).history, past_.history);
    ASSERT_EQ(snapshots_.size(), 2u);
    ASSERT_GE(segments_.size(), 4u);
  }
  void ExpectWhole(const Image& image, size_t set_aside = 0) {
    const Outcome outcome = Open(image);
    ASSERT_TRUE(outcome.opened.ok()) << outcome.opened.status();
    EXPECT_EQ(outcome.history, past_.history);
    EXPECT_EQ(outcome.opened->set_aside.size(), set_aside);
  }
  void ExpectRefused(const Image& image) {
    EXPECT_TRUE(absl::IsDataLoss(Open(image).opened.status()));
  }

  const Past past_{3};
  const Past other_{4};  // another run's
  const std::vector<std::string> segments_ = PathsOf(past_.now(), "j");
  const std::vector<std::string> snapshots_ = PathsOf(past_.now(), "s");
};

TEST_F(JournalDamageTest, OneDamagedSnapshotCostsNothing) {
  for (const std::string& path : snapshots_) {
    Image image = past_.now();
    image[path].back() ^= 1;
    ExpectWhole(image, path == snapshots_[1] ? 1 : 0);  // the older one is not even looked at
    image.erase(path);
    ExpectWhole(image);
  }
}

TEST_F(JournalDamageTest, TwoDamagedSnapshotsAreRefused) {
  Image image = past_.now();
  for (const std::string& path : snapshots_) image[path].front() ^= 1;
  ExpectRefused(image);
  for (const std::string& path : snapshots_) image.erase(path);
  ExpectRefused(image);
}

// The same sequence as ours, and another history.
std::string StrangeSnapshot(Payloads history, uint64_t sequence) {
  history[0] = "strange";
  history.resize(sequence);
  JournalPlace place;
  for (const std::string& payload : history) place = place.After(payload);
  FaultStorage disk;
  EXPECT_TRUE(WriteSnapshot(disk, "s", place, StateOf(history)).ok());
  return *disk.Bytes("s/" + SnapshotName(sequence));
}

TEST_F(JournalDamageTest, ASnapshotOfAnotherRunIsSetAside) {
  Image image = past_.now();
  image[snapshots_[1]] = StrangeSnapshot(past_.history, std::stoull(snapshots_[1].substr(2)));
  ExpectWhole(image, 1);
  // And when it stands for the end of the journal, where no later record tells.
  FaultStorage disk;
  disk.Load(past_.now());
  ASSERT_TRUE(
      Journal::Open(disk, SmallJournal())->journal->StoreSnapshot(StateOf(past_.history)).ok());
  image = disk.Contents();
  ExpectWhole(image);
  const uint64_t end = past_.history.size();
  image["s/" + SnapshotName(end)] = StrangeSnapshot(past_.history, end);
  ExpectWhole(image, 1);
}

TEST_F(JournalDamageTest, WhatTheNewestSnapshotCoversIsNotNeeded) {
  Image image = past_.now();
  image[segments_[0]][100] ^= 1;
  ExpectWhole(image);
  image.erase(segments_[0]);
  ExpectWhole(image);
  // Until the snapshot is damaged too.
  image[snapshots_[1]].back() ^= 1;
  ExpectRefused(image);
}

TEST_F(JournalDamageTest, AMissingSegmentIsRefused) {
  for (size_t i = 1; i < segments_.size(); ++i) {
    Image image = past_.now();
    image.erase(segments_[i]);
    image.erase(snapshots_[1]);
    ExpectRefused(image);  // the last one too: the mark tells
  }
}

// Else what the real last segment holds could be passed over.
TEST(JournalDuplicateTest, ADuplicatedSegmentIsRefused) {
  for (int steps = 1; steps < 80; ++steps) {
    FaultStorage disk;
    ASSERT_TRUE(HistoryWriter(disk, 3).Live(steps).ok());
    for (const std::string& path : PathsOf(disk.Contents(), "j")) {
      Image image = disk.Contents();
      if (image[path].empty()) continue;
      image["j/" + SegmentName(99)] = image[path];
      EXPECT_TRUE(absl::IsDataLoss(Open(image).opened.status())) << path << " of " << steps;
    }
  }
}

TEST_F(JournalDamageTest, AnEmptySegmentProvesTheOneBefore) {
  Image image = past_.now();
  image.erase("j/mark");
  image["j/" + SegmentName(99)] = "";
  ExpectWhole(image);
  image[segments_.back()].back() ^= 1;
  ExpectRefused(image);
}

TEST_F(JournalDamageTest, AnEmptyJournalBesideSnapshotsIsRefused) {
  Image image;
  for (const std::string& path : snapshots_) image[path] = past_.now().at(path);
  ExpectRefused(image);
  for (const std::string& path : snapshots_) image[path].back() ^= 1;
  ExpectRefused(image);
}

TEST_F(JournalDamageTest, ADamagedMarkOnlyProvesNothing) {
  Image image = past_.now();
  image["j/mark"].back() ^= 1;
  ExpectWhole(image);
  image.erase("j/mark");
  ExpectWhole(image);
}

// ---- generated ----

class Damage {
 public:
  Damage(Rng& rng, const Past& past, const Past& other)
      : rng_(rng), past_(past), other_(other), image_(past.now()) {}

  // Returns what was done.
  std::string Do() {
    struct Kind {
      const char* name;
      void (Damage::*apply)();
    };
    static constexpr Kind kKinds[] = {
        {"truncate", &Damage::Truncate},      {"flip", &Damage::Flip},
        {"overwrite", &Damage::Overwrite},    {"swap files", &Damage::SwapFiles},
        {"swap blocks", &Damage::SwapBlocks}, {"stale file", &Damage::Stale},
        {"remove", &Damage::Remove},          {"duplicate", &Damage::Duplicate},
        {"rename", &Damage::Rename},          {"stale folder", &Damage::StaleFolder},
        {"append", &Damage::Append},          {"foreign", &Damage::Foreign},
    };
    const Kind& kind = kKinds[rng_.Below(std::size(kKinds))];
    (this->*kind.apply)();
    return kind.name;
  }
  const Image& image() const { return image_; }

 private:
  std::string Path() {
    auto it = image_.begin();
    std::advance(it, rng_.Below(image_.size()));
    return it->first;
  }
  std::string& File() { return image_[Path()]; }
  void Truncate() {
    std::string& bytes = File();
    bytes.resize(rng_.Below(bytes.size() + 1));
  }
  void Flip() {
    std::string& bytes = File();
    if (!bytes.empty()) bytes[rng_.Below(bytes.size())] ^= static_cast<char>(1 << rng_.Below(8));
  }
  void Overwrite() {
    std::string& bytes = File();
    const size_t from = rng_.Below(bytes.size() + 1);
    const bool zero = rng_.Chance(1, 2);
    for (size_t i = from; i < bytes.size() && rng_.Chance(40, 41); ++i)
      bytes[i] = zero ? 0 : static_cast<char>(rng_.Below(256));
  }
  void SwapFiles() { std::swap(File(), File()); }
  void SwapBlocks() {
    std::string& bytes = File();
    const size_t size = rng_.Below(bytes.size() / 2 + 1);
    const size_t a = rng_.Below(bytes.size() / 2 - size + 1);
    const size_t b = bytes.size() / 2 + rng_.Below(bytes.size() / 2 - size + 1);
    std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>(a),
                     bytes.begin() + static_cast<ptrdiff_t>(a + size),
                     bytes.begin() + static_cast<ptrdiff_t>(b));
  }
  const Image& Earlier() { return past_.images[rng_.Below(past_.images.size() - 1)]; }
  void Stale() {
    const Image& earlier = Earlier();
    const std::string path = Path();
    if (earlier.contains(path)) image_[path] = earlier.at(path);
  }
  void Remove() { image_.erase(Path()); }
  std::string OtherName(const std::string& path) {
    if (path.starts_with("s/")) return "s/" + SnapshotName(1 + rng_.Below(200));
    return "j/" + SegmentName(1 + rng_.Below(30));
  }
  void Duplicate() {
    const std::string path = Path();
    image_[OtherName(path)] = image_[path];
  }
  void Rename() {
    const std::string path = Path();
    const std::string to = OtherName(path);
    std::string bytes = image_[path];
    image_.erase(path);
    image_[to] = std::move(bytes);
  }
  // A folder that was never synced since then, with files that were.
  void StaleFolder() {
    const std::string folder = rng_.Chance(1, 2) ? "j/" : "s/";
    const Image& earlier = Earlier();
    std::erase_if(image_, [&](const auto& entry) {
      return entry.first.starts_with(folder) && !earlier.contains(entry.first);
    });
    for (const auto& [path, bytes] : earlier) {
      if (path.starts_with(folder)) image_.try_emplace(path, bytes);
    }
  }
  void Append() {
    std::string& bytes = File();
    bytes += rng_.Chance(1, 2) ? bytes : std::string(1 + rng_.Below(100), '\0');
  }
  void Foreign() {
    const std::string path = Path();
    if (other_.now().contains(path)) image_[path] = other_.now().at(path);
  }

  Rng& rng_;
  const Past& past_;
  const Past& other_;
  Image image_;
};

// The longest history that the newest intact snapshot of ours proves.
size_t ProvenBySnapshots(const Image& image, const Image& now) {
  size_t proven = 0;
  for (const std::string& path : PathsOf(image, "s")) {
    if (now.contains(path) && now.at(path) == image.at(path))
      proven = std::max<size_t>(proven, std::stoull(path.substr(2)));
  }
  return proven;
}

TEST_F(JournalDamageTest, InTenThousandVariantsNothingWrongIsEverRead) {
  Rng rng(8);
  std::map<std::string, int> whole, shorter, refused;
  for (int variant = 0; variant < 12'000; ++variant) {
    Damage damage(rng, past_, other_);
    std::string what = damage.Do();
    if (rng.Chance(1, 5)) what += ", " + damage.Do();
    const Outcome outcome = Open(damage.image());
    if (!outcome.opened.ok()) {
      ASSERT_TRUE(absl::IsDataLoss(outcome.opened.status())) << what << outcome.opened.status();
      ++refused[what];
      continue;
    }
    ASSERT_TRUE(IsPrefix(outcome.history, past_.history)) << variant << " " << what;
    ASSERT_GE(outcome.history.size(), ProvenBySnapshots(damage.image(), past_.now())) << what;
    ++(outcome.history.size() == past_.history.size() ? whole : shorter)[what];
  }
  for (const char* kind : {"truncate", "flip", "overwrite", "swap blocks", "remove", "append"}) {
    EXPECT_GT(whole[kind], 100) << kind;
    EXPECT_GT(refused[kind], 20) << kind;
  }
}

// A flip can cost no more than the last group of records, whose durability nothing else states.
TEST_F(JournalDamageTest, EveryFlipOfTheLastSegment) {
  const std::string& path = segments_.back();
  const size_t last = past_.history.size() - 4;
  for (size_t bit = 0; bit < 8 * past_.now().at(path).size(); bit += 3) {
    Image image = past_.now();
    image[path][bit / 8] = static_cast<char>(image[path][bit / 8] ^ (1 << (bit % 8)));
    const Outcome outcome = Open(image);
    if (!outcome.opened.ok()) continue;
    EXPECT_TRUE(IsPrefix(outcome.history, past_.history));
    EXPECT_GE(outcome.history.size(), last);
  }
}

}  // namespace
}  // namespace longhaul
