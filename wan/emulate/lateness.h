// How late an emulator hands things over, counted as it happens. Owned by one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/time.h"

namespace longhaul::wan {

class Lateness {
 public:
  void NoteDelivery(Duration late);
  void NoteTurn(Duration took);  // of the emulator's loop: nothing is delivered meanwhile
  void Forget() { *this = Lateness(); }

  Duration worst() const { return worst_; }
  // Of the deliveries, to 20 µs; those beyond 20 ms count as 20 ms. 0 for none.
  Duration median() const;
  uint64_t deliveries() const { return deliveries_; }
  uint64_t late_1ms() const { return late_1ms_; }

 private:
  static constexpr size_t kBins = 1000;
  static constexpr Duration kBin{20'000};

  Duration worst_{0};
  uint64_t deliveries_ = 0;
  uint64_t late_1ms_ = 0;
  std::array<uint64_t, kBins + 1> bins_{};
};

}  // namespace longhaul::wan
