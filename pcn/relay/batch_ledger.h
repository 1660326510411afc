// What became of every micro-batch in one block: each that was taken ends once, as trained or as
// discarded for a reason. A micro-batch that trained upper blocks only is discarded for the others.
//
// Thread rule: one thread per object. Memory: one entry per open micro-batch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>

namespace longhaul::pcn {

enum class Discard {
  kExpired,    // no credit or label, and no answer
  kGone,       // the stage above gave it up
  kStale,      // the credit came too late to be believed
  kNotFinite,  // a state, credit or gradient was not finite
  kWarmUp,     // the block's holder is new
  kOverflow,   // there was no room for its state
  kReset,      // the block's holder lost it
  kServed,     // the run that averages the block is over: its credit was passed on, no more
};
inline constexpr size_t kDiscards = 8;
const char* DiscardName(Discard reason);

class BatchLedger {
 public:
  // Each returns false, and books nothing, when the micro-batch is not in the state it asks for.
  bool Accept(uint64_t micro_batch);  // not open
  bool Trained(uint64_t micro_batch);
  bool Discarded(uint64_t micro_batch, Discard reason);
  void DiscardAll(Discard reason);

  bool IsOpen(uint64_t micro_batch) const { return open_.count(micro_batch) > 0; }
  size_t open() const { return open_.size(); }
  // The oldest that is open, or `none`.
  uint64_t FirstOpen(uint64_t none) const { return open_.empty() ? none : *open_.begin(); }
  uint64_t accepted() const { return accepted_; }
  uint64_t trained() const { return trained_; }
  uint64_t discarded(Discard reason) const { return discarded_[static_cast<size_t>(reason)]; }
  uint64_t discarded() const;
  // accepted == trained + discarded + open
  bool Balances() const { return accepted_ == trained_ + discarded() + open_.size(); }

 private:
  std::set<uint64_t> open_;
  uint64_t accepted_ = 0, trained_ = 0;
  std::array<uint64_t, kDiscards> discarded_ = {};
};

}  // namespace longhaul::pcn
