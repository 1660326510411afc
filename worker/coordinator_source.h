// Shards and the manifest from the coordinator, over the connection that the loop owns: requests go
// out as FetchBlob, parts come back as chunks. Nothing that comes is believed; whoever reads checks
// it (VerifiedBlobs).
//
// Read is for one thread, which may wait; everything else is for any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "common/time.h"
#include "data/blob_source.h"
#include "proto/messages.h"

namespace longhaul {

// Bytes of a blob that will be read.
struct BlobPart {
  Digest blob_id{};
  uint64_t offset = 0;
  uint64_t bytes = 0;
  auto operator<=>(const BlobPart&) const = default;
};

class CoordinatorSource : public BlobSource {
 public:
  // Parts that are asked for ahead, and answers that wait to be read.
  static constexpr size_t kMaxParts = 64;
  static constexpr Duration kAskAgain = Seconds(10);  // without any chunk
  static constexpr Duration kGiveUp = Seconds(60);    // the same, for Read

  // `ask` hands a request to the loop; it may be lost.
  explicit CoordinatorSource(std::function<void(const FetchBlob&)> ask) : ask_(std::move(ask)) {}

  const std::string& name() const override { return name_; }
  // DeadlineExceeded when nothing came for kGiveUp, NotFound with the coordinator's words,
  // Cancelled after Close.
  absl::StatusOr<std::string> Read(const Digest& blob_id, uint64_t offset, uint64_t size) override;
  // What is read next, in this order: asked for now, so that a round trip is paid once. What was
  // announced before and is not in the list is forgotten.
  void Announce(std::span<const BlobPart> parts);
  // Whether training waits for what is read from now on.
  void SetUrgent(bool urgent);

  void OnChunk(uint64_t transfer, ByteSpan payload);
  void OnRefused(uint64_t transfer, const std::string& reason);
  // Asks again for all that has not come: after a new connection, and, `if_silent`, when nothing
  // has come for kAskAgain.
  void AskAgain(bool if_silent);
  void Close();

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {
    FetchBlob request;
    std::optional<std::string> answer;
    std::optional<std::string> refusal;
    bool open() const { return !answer && !refusal; }
  };
  using Parts = std::map<BlobPart, Part>;

  // The part, asked for if it was not yet, or not urgently enough. With the lock held; requests
  // are collected for after it.
  Part& Want(const BlobPart& key, bool urgent, std::vector<FetchBlob>& requests);
  absl::StatusOr<std::string> ReadPart(const BlobPart& key);
  void Send(const std::vector<FetchBlob>& requests);

  const std::string name_ = "coordinator";
  const std::function<void(const FetchBlob&)> ask_;
  std::atomic<bool> urgent_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  Parts parts_;
  std::map<uint64_t, BlobPart> transfers_;  // of the open ones
  uint64_t last_transfer_ = 0;
  Clock::time_point last_chunk_ = Clock::now();
  bool closed_ = false;
};

}  // namespace longhaul
