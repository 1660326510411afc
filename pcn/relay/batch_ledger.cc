#include "pcn/relay/batch_ledger.h"

#include <numeric>

namespace longhaul::pcn {

const char* DiscardName(Discard reason) {
  constexpr std::array<const char*, kDiscards> kNames = {
      "expired", "gone", "stale", "not_finite", "warm_up", "overflow", "reset", "served"};
  return kNames[static_cast<size_t>(reason)];
}

bool BatchLedger::Accept(uint64_t micro_batch) {
  if (!open_.insert(micro_batch).second) return false;
  ++accepted_;
  return true;
}

bool BatchLedger::Trained(uint64_t micro_batch) {
  if (open_.erase(micro_batch) == 0) return false;
  ++trained_;
  return true;
}

bool BatchLedger::Discarded(uint64_t micro_batch, Discard reason) {
  if (open_.erase(micro_batch) == 0) return false;
  ++discarded_[static_cast<size_t>(reason)];
  return true;
}

void BatchLedger::DiscardAll(Discard reason) {
  discarded_[static_cast<size_t>(reason)] += open_.size();
  open_.clear();
}

uint64_t BatchLedger::discarded() const {
  return std::accumulate(discarded_.begin(), discarded_.end(), uint64_t{0});
}

}  // namespace longhaul::pcn
