// Shards and the manifest from the coordinator, over the connection that the loop owns: requests go
// out as FetchBlob, parts come back as chunks. Nothing that comes is believed; whoever reads checks
// it (VerifiedBlobs).
//
// A worker that shares (`ask_holder`) may be sent to other workers instead. It asks those in turn,
// and the coordinator for the bytes themselves when none gives them: one that cannot be reached or
// is silent is left alone for a while, one that sends wrong bytes for good.
//
// Read is for one thread, which may wait; everything else is for any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

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

  static constexpr Duration kHolderPatience = Seconds(6);  // without a word of a holder
  static constexpr Duration kAvoid = Seconds(10);          // a holder after that
  static constexpr size_t kMaxLiars = 64;                  // then no holder is believed any more

  using Ask = std::function<void(const FetchBlob&)>;
  using AskHolder = std::function<void(const PeerView& holder, const FetchBlob&)>;
  // They hand a request to the loop; it may be lost. Without `ask_holder`: only the coordinator.
  explicit CoordinatorSource(Ask ask, AskHolder ask_holder = nullptr)
      : ask_(std::move(ask)), ask_holder_(std::move(ask_holder)) {}

  const std::string& name() const override { return name_; }
  // DeadlineExceeded when nothing came for kGiveUp, NotFound with the coordinator's words,
  // Cancelled after Close.
  absl::StatusOr<std::string> Read(const Digest& blob_id, uint64_t offset, uint64_t size) override;
  // What is read next, in this order: asked for now, so that a round trip is paid once. What was
  // announced before and is not in the list is forgotten.
  void Announce(std::span<const BlobPart> parts);
  // Whether training waits for what is read from now on.
  void SetUrgent(bool urgent);

  // The holder that gave wrong bytes is not asked any more.
  bool Disown() override;
  // Whether all of the last Read came from the coordinator, which may have sent it to nobody else.
  bool ReadSole();

  // From the coordinator (a zero key) or a holder.
  void OnChunk(const WorkerKey& from, uint64_t transfer, ByteSpan payload);
  void OnRefused(const WorkerKey& from, uint64_t transfer, const std::string& reason);
  void OnElsewhere(const BlobElsewhere& elsewhere);
  // The connection to a holder is up, or there is none.
  void OnHolder(const WorkerKey& holder, bool up);
  // Asks the coordinator again for all that has not come: after a new connection, and, `if_silent`,
  // when nothing has come for kAskAgain; then leaves holders that are silent, too.
  void AskAgain(bool if_silent);

  // For others who ask us: a part that has come and waits to be read, unverified; whether it will.
  std::optional<std::string> Peek(const BlobPart& key);
  bool Expects(const BlobPart& key);
  uint64_t holder_bytes() const { return holder_bytes_; }  // that holders sent
  void Close();

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {
    FetchBlob request;
    std::vector<PeerView> holders;  // the first is asked now; empty: the coordinator is
    Clock::time_point asked{};      // the holder
    WorkerKey from;                 // who answered
    WorkerKey asked_of() const { return holders.empty() ? WorkerKey{} : holders.front().key; }
    std::optional<std::string> answer;
    std::optional<std::string> refusal;
    bool open() const { return !answer && !refusal; }
  };
  using Parts = std::map<BlobPart, Part>;
  struct Asked {
    FetchBlob request;
    std::optional<PeerView> holder;
  };

  // The part, asked for if it was not yet, or not urgently enough. With the lock held; requests
  // are collected for after it.
  Part& Want(const BlobPart& key, bool urgent, std::vector<Asked>& requests);
  absl::StatusOr<std::string> ReadPart(const BlobPart& key);
  void Send(const std::vector<Asked>& requests);
  // These too with the lock held.
  static Asked AskedOf(const Part& part);
  bool Usable(const WorkerKey& holder) const;
  // Asks the first holder that may be asked, or the coordinator; `next`: another than now.
  void Turn(Part& part, bool next, std::vector<Asked>& requests);
  void Leave(const WorkerKey& holder, std::vector<Asked>& requests);
  Part* OpenPart(uint64_t transfer);

  const std::string name_ = "coordinator";
  const Ask ask_;
  const AskHolder ask_holder_;
  std::atomic<bool> urgent_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  Parts parts_;
  std::map<uint64_t, BlobPart> transfers_;  // of the open ones
  std::set<WorkerKey> liars_;
  std::map<WorkerKey, Clock::time_point> avoid_until_;
  std::map<WorkerKey, Clock::time_point> heard_;  // of holders
  std::map<BlobPart, WorkerKey> last_read_;       // who gave it
  std::set<BlobPart> wrong_;  // of them, from holders: the coordinator shall send these
  std::atomic<uint64_t> holder_bytes_{0};
  uint64_t last_transfer_ = 0;
  Clock::time_point last_chunk_ = Clock::now();
  bool closed_ = false;
};

}  // namespace longhaul
