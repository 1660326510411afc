// Bits in bytes, first bit lowest. The reader never fails in the middle: past the end it reads
// zeros, and says so when asked.
//
// Plain values; one thread each.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace longhaul {

static_assert(std::endian::native == std::endian::little);

inline constexpr int kMaxBitsAtOnce = 56;

class BitWriter {
 public:
  // `bits` < 2^count, count <= kMaxBitsAtOnce.
  void Put(uint64_t bits, int count) {
    waiting_ |= bits << filled_;
    filled_ += count;
    if (bytes_.size() - at_ < 8) bytes_.resize(2 * bytes_.size() + 64);
    std::memcpy(bytes_.data() + at_, &waiting_, 8);
    const int whole = filled_ >> 3;
    at_ += static_cast<size_t>(whole);
    waiting_ >>= 8 * whole;
    filled_ &= 7;
  }
  // The last byte is filled with zeros.
  std::span<const uint8_t> Finish() {
    if (filled_ != 0) Put(0, 8 - filled_);
    return std::span(bytes_).first(at_);
  }

 private:
  std::vector<uint8_t> bytes_;
  size_t at_ = 0;
  uint64_t waiting_ = 0;
  int filled_ = 0;  // bits in waiting_, below 8 between calls
};

class BitReader {
 public:
  explicit BitReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  // The next bits, the first one lowest; at least kMaxBitsAtOnce of them are right.
  uint64_t Peek() const {
    const size_t at = at_ >> 3;
    uint64_t word = 0;
    if (at + 8 <= bytes_.size()) {
      std::memcpy(&word, bytes_.data() + at, 8);
    } else if (at < bytes_.size()) {
      std::memcpy(&word, bytes_.data() + at, bytes_.size() - at);
    }
    return word >> (at_ & 7);
  }
  void Skip(int count) { at_ += static_cast<size_t>(count); }
  uint64_t Get(int count) {
    const uint64_t bits = Peek() & ((uint64_t{1} << count) - 1);
    Skip(count);
    return bits;
  }
  bool overrun() const { return at_ > 8 * bytes_.size(); }
  // Whole bytes read so far. The rest of the last one must be zero: false if it is not, or after an
  // overrun.
  bool Finish(size_t* bytes) const {
    *bytes = (at_ + 7) >> 3;
    const int rest = static_cast<int>(8 * *bytes - at_);
    return !overrun() && (rest == 0 || (Peek() & ((uint64_t{1} << rest) - 1)) == 0);
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;  // bit
};

}  // namespace longhaul
