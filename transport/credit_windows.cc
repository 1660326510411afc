#include "transport/credit_windows.h"

#include <algorithm>
#include <chrono>

#include "transport/transfer.h"

namespace longhaul {

namespace {

// The estimate may double credit before it knows whether that brings more. Here it costs memory, so
// this many products of rate and round trip are the end: enough for growth, and for the tripled
// credit of a path that loses.
constexpr double kMostProducts = 4;
constexpr Duration kDecodeTime = Milliseconds(2);

}  // namespace

CreditWindows::Sender& CreditWindows::Of(const WorkerKey& key, Timestamp now) {
  auto it = senders_.find(key);
  if (it == senders_.end()) {
    if (senders_.size() >= kMaxSenders) {
      senders_.erase(std::min_element(
          senders_.begin(), senders_.end(),
          [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
    }
    const LinkEstimateOptions options{.least_window_bytes = least_bytes_,
                                      .decode_time = kDecodeTime};
    it = senders_.emplace(key, Sender{LinkEstimate(options), now}).first;
  }
  it->second.last_use = now;
  return it->second;
}

void CreditWindows::OnConsumed(const WorkerKey& sender, Timestamp now, uint64_t bytes) {
  Of(sender, now).estimate.OnConsumed(now.since_epoch, bytes);
}

void CreditWindows::OnLink(const WorkerKey& sender, Timestamp now, const LinkRow& link) {
  if (link.rtt_us == 0) return;
  LinkEstimate& estimate = Of(sender, now).estimate;
  estimate.OnRoundTrip(now.since_epoch, std::chrono::microseconds(link.rtt_us),
                       std::chrono::microseconds(link.min_rtt_us));
  estimate.OnLoss(link.loss());
}

uint64_t CreditWindows::Window(const WorkerKey& sender, size_t transfers, uint64_t taken_bytes,
                               uint64_t shared_bytes) const {
  const auto it = senders_.find(sender);
  if (it == senders_.end()) return least_bytes_;
  const LinkEstimate& estimate = it->second.estimate;
  if (estimate.round_trip() == Duration(0)) return least_bytes_;
  const double seconds = std::chrono::duration<double>(estimate.round_trip() + kDecodeTime).count();
  const double product = static_cast<double>(estimate.rate_bytes_per_s()) * seconds;
  // A grant is said again when one of kGrantsPerWindow parts is used up: the rest has to last.
  constexpr double kRepeat = 1.0 * kGrantsPerWindow / (kGrantsPerWindow - 1);
  const double all =
      std::min(kRepeat * static_cast<double>(estimate.WindowBytes()), kMostProducts * product);
  const auto wanted =
      static_cast<uint64_t>(all / static_cast<double>(std::max<size_t>(1, transfers)));
  if (wanted <= least_bytes_) return least_bytes_;
  const uint64_t left = shared_bytes - std::min(shared_bytes, taken_bytes);
  return least_bytes_ + std::min(wanted - least_bytes_, left);
}

}  // namespace longhaul
