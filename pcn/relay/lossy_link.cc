#include "pcn/relay/lossy_link.h"

namespace longhaul::pcn {

void LossyLink::Schedule(const Message& message, uint64_t now) {
  const uint64_t extra = options_.jitter > 0 ? rng_.Below(options_.jitter + 1) : 0;
  queue_.emplace(now + 1 + options_.delay + extra, message);
}

void LossyLink::Send(const Message& message, uint64_t now) {
  sent_bytes_ += EncodedBytes(message);
  if (!rng_.Chance(options_.loss_permille, 1000)) Schedule(message, now);
  if (rng_.Chance(options_.duplicate_permille, 1000)) Schedule(message, now);
}

std::vector<Message> LossyLink::Receive(uint64_t now) {
  std::vector<Message> arrived;
  while (!queue_.empty() && queue_.begin()->first <= now) {
    arrived.push_back(std::move(queue_.begin()->second));
    queue_.erase(queue_.begin());
  }
  return arrived;
}

}  // namespace longhaul::pcn
