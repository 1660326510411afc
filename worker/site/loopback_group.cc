#include "worker/site/loopback_group.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"

namespace longhaul {
namespace {

constexpr size_t kEpochBytes = 4;
constexpr size_t kMostFloats = size_t{1} << 24;  // of a frame

// A frame is the epoch (one more with every Shrink) and floats; without floats it says that the
// epoch's sums have failed.
class LoopbackGroup final : public DeviceGroup {
 public:
  LoopbackGroup(std::unique_ptr<SiteLink> link, Duration deadline)
      : link_(std::move(link)), deadline_(deadline), size_(link_->size()) {
    thread_ = std::thread([this] { Run(); });
  }
  ~LoopbackGroup() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    link_->Interrupt();
    changed_.notify_all();
    thread_.join();
  }

  uint32_t rank() const override { return link_->rank(); }
  uint32_t size() const override { return size_; }

  void StartSum(std::span<float> values) override {
    std::lock_guard lock(mutex_);
    for (; values.size() > kMostFloats; values = values.subspan(kMostFloats)) {
      queue_.push_back(values.first(kMostFloats));
    }
    queue_.push_back(values);
    changed_.notify_all();
  }

  absl::Status Wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty(); });
    return status_;
  }

  absl::Status Shrink(std::span<const uint32_t> living) override {
    std::lock_guard lock(mutex_);
    for (uint32_t peer : link_->peers()) {
      if (std::find(living.begin(), living.end(), peer) == living.end()) link_->Drop(peer);
    }
    const auto peers = static_cast<uint32_t>(link_->peers().size());
    const bool whole = rank() == 0 ? peers + 1 == living.size() : peers == 1;
    if (!whole) return absl::UnavailableError("a rank that should be alive has no connection");
    size_ = static_cast<uint32_t>(living.size());
    status_ = absl::OkStatus();
    ++epoch_;
    return absl::OkStatus();
  }

  void Abort() override { link_->Interrupt(); }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      const std::span<float> values = queue_.front();
      absl::Status status = status_;
      if (status.ok()) {
        lock.unlock();
        status = rank() == 0 ? SumAll(values) : SumAtRoot(values);
        lock.lock();
      }
      status_ = status;
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  absl::Status SumAtRoot(std::span<float> values) {
    absl::Status sent = link_->Send(0, Frame(values), deadline_);
    if (!sent.ok()) return sent;
    return Take(
        0, 2 * deadline_, [&](size_t i, float v) { values[i] = v; }, values.size());
  }

  absl::Status SumAll(std::span<float> values) {
    absl::Status status;
    const std::vector<uint32_t> peers = link_->peers();
    for (uint32_t peer : peers) {
      status.Update(Take(
          peer, deadline_, [&](size_t i, float v) { values[i] += v; }, values.size()));
    }
    if (peers.size() + 1 != size_) status.Update(absl::UnavailableError("a rank is gone"));
    const std::string answer = Frame(status.ok() ? values : std::span<float>());
    for (uint32_t peer : link_->peers()) status.Update(link_->Send(peer, answer, deadline_));
    return status;
  }

  // Receives the next frame of this epoch.
  template <class Use>
  absl::Status Take(uint32_t peer, Duration timeout, Use&& use, size_t count) {
    for (;;) {
      absl::StatusOr<std::string> frame = link_->Receive(peer, timeout);
      if (!frame.ok()) return frame.status();
      if (frame->size() < kEpochBytes) return Nonsense(peer);
      uint32_t epoch = 0;
      std::memcpy(&epoch, frame->data(), kEpochBytes);
      if (epoch < epoch_) continue;  // sent before a rank was lost
      const size_t floats = (frame->size() - kEpochBytes) / sizeof(float);
      if (floats == 0 && count != 0) {
        return absl::UnavailableError("another rank of the site was lost");
      }
      if (epoch != epoch_ || frame->size() != kEpochBytes + count * sizeof(float)) {
        return Nonsense(peer);
      }
      for (size_t i = 0; i < count; ++i) {
        float v;
        std::memcpy(&v, frame->data() + kEpochBytes + i * sizeof(float), sizeof v);
        use(i, v);
      }
      return absl::OkStatus();
    }
  }

  std::string Frame(std::span<const float> values) const {
    std::string frame(kEpochBytes + values.size() * sizeof(float), '\0');
    std::memcpy(frame.data(), &epoch_, kEpochBytes);
    if (!values.empty())
      std::memcpy(frame.data() + kEpochBytes, values.data(), values.size_bytes());
    return frame;
  }

  absl::Status Nonsense(uint32_t peer) {
    link_->Drop(peer);
    return absl::UnavailableError(absl::StrCat("rank ", peer, " sums something else"));
  }

  const std::unique_ptr<SiteLink> link_;
  const Duration deadline_;
  uint32_t size_;
  uint32_t epoch_ = 0;  // changed by Shrink, while no sum is under way

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::span<float>> queue_;  // of a step's buckets, in parts of kMostFloats
  absl::Status status_;                 // of this epoch
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<DeviceGroup> MakeLoopbackGroup(std::unique_ptr<SiteLink> link, Duration deadline) {
  return std::make_unique<LoopbackGroup>(std::move(link), deadline);
}

}  // namespace longhaul
