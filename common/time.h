// Integer time. A Timestamp comes from a clock that the caller owns (a monotonic clock in a shell,
// virtual time in the simulator); nothing in this header can read one.
#pragma once

#include <chrono>
#include <cstdint>

namespace longhaul {

using Duration = std::chrono::nanoseconds;

struct Timestamp {
  Duration since_epoch{0};
  auto operator<=>(const Timestamp&) const = default;
  friend Timestamp operator+(Timestamp t, Duration d) { return {t.since_epoch + d}; }
  friend Duration operator-(Timestamp a, Timestamp b) { return a.since_epoch - b.since_epoch; }
};

constexpr Duration Milliseconds(int64_t n) { return Duration(n * 1'000'000); }
constexpr Duration Seconds(int64_t n) { return Duration(n * 1'000'000'000); }

}  // namespace longhaul
