#include "wan/emulate/lateness.h"

#include <algorithm>

namespace longhaul::wan {

void Lateness::NoteDelivery(Duration late) {
  ++deliveries_;
  if (late > Milliseconds(1)) ++late_1ms_;
  worst_ = std::max(worst_, late);
  const int64_t bin = std::clamp<int64_t>(late / kBin, 0, static_cast<int64_t>(kBins));
  ++bins_[static_cast<size_t>(bin)];
}

void Lateness::NoteTurn(Duration took) { worst_ = std::max(worst_, took); }

Duration Lateness::median() const {
  uint64_t below = 0;
  for (size_t bin = 0; bin <= kBins; ++bin) {
    below += bins_[bin];
    if (2 * below > deliveries_) return static_cast<int64_t>(bin) * kBin;
  }
  return Duration(0);
}

}  // namespace longhaul::wan
