#include "sharding/order/window_order.h"

#include <algorithm>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {
constexpr uint64_t kUse = 0x77696e646f77;  // "window": no other use of the seed draws these
}  // namespace

WindowOrder::WindowOrder(uint64_t seed, uint64_t domain, const WindowSizes& sizes)
    : key_(Draw(seed, {kUse, domain})),
      samples_(sizes.samples),
      piece_samples_(sizes.piece_samples),
      full_pieces_(samples_ / piece_samples_),
      window_samples_(sizes.window_pieces * piece_samples_),
      pieces_(std::max<uint64_t>(1, full_pieces_), 0),
      window_(window_samples_, 0) {
  LONGHAUL_CHECK(samples_ > 0 && samples_ < uint64_t{1} << 48, "a domain's size");
}

uint64_t WindowOrder::EpochKey(uint64_t epoch) const { return Mix(key_ + epoch * kGoldenGamma); }

Permutation WindowOrder::Shuffle(uint64_t epoch_key, uint64_t window) const {
  const uint64_t key = epoch_key + (window + 1) * kGoldenGamma;
  const uint64_t rest = samples_ - window * window_samples_;
  return rest < window_samples_ ? Permutation(rest, key) : window_.WithKey(key);
}

uint64_t WindowOrder::Sample(uint64_t epoch, uint64_t place) const {
  LONGHAUL_CHECK(place < samples_, "no such place");
  const uint64_t key = EpochKey(epoch);
  const uint64_t window = place / window_samples_, begin = window * window_samples_;
  const uint64_t shuffled = begin + Shuffle(key, window)(place - begin);
  const uint64_t slot = shuffled / piece_samples_, in_piece = shuffled % piece_samples_;
  const uint64_t piece = slot < full_pieces_ ? pieces_.WithKey(key)(slot) : slot;
  return piece * piece_samples_ + in_piece;
}

uint64_t WindowOrder::Place(uint64_t epoch, uint64_t sample) const {
  LONGHAUL_CHECK(sample < samples_, "no such sample");
  const uint64_t key = EpochKey(epoch);
  const uint64_t piece = sample / piece_samples_, in_piece = sample % piece_samples_;
  const uint64_t slot = piece < full_pieces_ ? pieces_.WithKey(key).Inverse(piece) : piece;
  const uint64_t shuffled = slot * piece_samples_ + in_piece;
  const uint64_t window = shuffled / window_samples_, begin = window * window_samples_;
  return begin + Shuffle(key, window).Inverse(shuffled - begin);
}

}  // namespace longhaul
