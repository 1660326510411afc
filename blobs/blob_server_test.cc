#include "blobs/blob_server.h"

#include <gtest/gtest.h>

#include <future>

#include "proto/chunk.h"

namespace longhaul {
namespace {

class BlobServerTest : public ::testing::Test {
 protected:
  BlobServerTest()
      : server_({.read = [](const FetchBlob& r) -> absl::StatusOr<std::string> {
                   if (r.offset == 7) return absl::NotFoundError("no such shard");
                   return std::string(r.bytes, 'x');
                 },
                 .send_control =
                     [this](const std::string& route, const Message& message) {
                       Add(route, std::get<BlobRefused>(message).transfer, false);
                     },
                 .send_bulk =
                     [this](const std::string& route, std::vector<Frame>&& frames) {
                       const auto header = DecodeChunkHeader(frames.at(0).bytes());
                       EXPECT_TRUE(header.ok());
                       EXPECT_EQ(header->kind, ObjectKind::kBlob);
                       EXPECT_EQ(header->bytes, frames.at(1).size());
                       std::lock_guard lock(mutex_);
                       if (full_.contains(route)) return false;
                       sent_.push_back({route, header->transfer, true});
                       changed_.notify_all();
                       return true;
                     }}) {}

  struct Sent {
    std::string route;
    uint64_t transfer = 0;
    bool given = false;
    auto operator<=>(const Sent&) const = default;
  };
  void Add(const std::string& route, uint64_t transfer, bool given) {
    std::lock_guard lock(mutex_);
    sent_.push_back({route, transfer, given});
    changed_.notify_all();
  }
  std::vector<Sent> Wait(size_t n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return sent_.size() >= n; });
    return sent_;
  }
  static FetchBlob Request(uint64_t transfer, bool urgent = false, uint64_t offset = 0) {
    return {transfer, Digest{}, offset, 100, urgent};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> full_;
  std::vector<Sent> sent_;
  BlobServer server_;
};

TEST_F(BlobServerTest, GivesWhatIsThereAndRefusesTheRest) {
  server_.Serve("a", Request(1));
  server_.Serve("a", Request(2, false, 7));
  EXPECT_EQ(Wait(2), (std::vector<Sent>{{"a", 1, true}, {"a", 2, false}}));
  EXPECT_EQ(server_.sent_bytes(), 100u);
}

TEST_F(BlobServerTest, DataYieldsToTheExchangeUnlessTrainingWaits) {
  const auto begin = std::chrono::steady_clock::now();
  server_.NoteExchange();
  server_.Serve("a", Request(1));
  server_.Serve("b", Request(2, /*urgent=*/true));
  const std::vector<Sent> sent = Wait(2);
  EXPECT_EQ(sent[0].transfer, 2u);
  EXPECT_EQ(sent[1].transfer, 1u);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, BlobServer::kYield);
}

TEST_F(BlobServerTest, ARouteWithoutRoomHoldsUpNobodyElse) {
  {
    std::lock_guard lock(mutex_);
    full_.insert("a");
  }
  server_.Serve("a", Request(1));
  server_.Serve("b", Request(2));
  EXPECT_EQ(Wait(1)[0].route, "b");
  {
    std::lock_guard lock(mutex_);
    full_.clear();
  }
  server_.Room("a");
  EXPECT_EQ(Wait(2)[1], (Sent{"a", 1, true}));
}

TEST_F(BlobServerTest, TakesNoMoreThanItsLimitOfOneWorker) {
  {
    std::lock_guard lock(mutex_);
    full_.insert("a");
  }
  size_t taken = 0;
  for (uint64_t i = 1; i <= 2 * BlobServer::kMaxRequestsOfRoute; ++i)
    taken += server_.Serve("a", Request(i)) ? 1 : 0;
  EXPECT_GE(taken, BlobServer::kMaxRequestsOfRoute);
  EXPECT_LE(taken, BlobServer::kMaxRequestsOfRoute + 1);  // one may be in hand
  EXPECT_TRUE(server_.Serve("a", Request(2, true)));      // said again: it becomes urgent
}

TEST(BlobServerHoldTest, WhatIsOnItsWayIsWaitedForButNotForEver) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> events;
  bool here = false;
  const auto add = [&](const std::string& event) {
    std::lock_guard lock(mutex);
    events.push_back(event);
    changed.notify_all();
  };
  BlobServer::Options o;
  o.read = [&](const FetchBlob& r) -> absl::StatusOr<std::string> {
    std::lock_guard lock(mutex);
    if (here && r.transfer == 1) return std::string(r.bytes, 'x');
    events.push_back("not here");
    changed.notify_all();
    return absl::UnavailableError("on its way");
  };
  o.send_control = [&](const std::string&, const Message&) { add("refused"); };
  o.send_bulk = [&](const std::string&, std::vector<Frame>&&) {
    add("sent");
    return true;
  };
  o.hold = Milliseconds(300);
  BlobServer server(o);
  const auto wait = [&](const std::string& last) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !events.empty() && events.back() == last; });
  };
  server.Serve("a", {1, Digest{}, 5, 100});
  wait("not here");
  {
    std::lock_guard lock(mutex);
    here = true;
  }
  server.NoteNews();
  wait("sent");
  server.Serve("a", {2, Digest{}, 5, 100});
  wait("refused");
}

}  // namespace
}  // namespace longhaul
