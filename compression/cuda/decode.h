// Chunks of the bit-budget codec are read on the device, a warp for each, with every check of
// compression/section_decode.cc.
#pragma once

#include <array>
#include <cstdint>

#include "compression/cuda/block.h"
#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/cuda/output.h"
#include "compression/cuda/quantise.h"
#include "compression/cuda/write_section.h"
#include "compression/golomb_code.h"
#include "compression/rans_tables.h"
#include "compression/rate_control.h"

namespace longhaul::cuda {

// As BitReader (compression/bit_stream.h), a byte at a time.
class BitSource {
 public:
  LONGHAUL_SHARED BitSource(const uint8_t* bytes, uint64_t size) : bytes_(bytes), size_(size) {}
  LONGHAUL_SHARED uint64_t Peek() const {
    uint64_t word = 0;
    const uint64_t first = at_ >> 3;
    for (uint32_t b = 0; b < 8 && first + b < size_; ++b) {
      word |= uint64_t{bytes_[first + b]} << (8 * b);
    }
    return word >> (at_ & 7);
  }
  LONGHAUL_SHARED void Skip(int count) { at_ += static_cast<uint64_t>(count); }
  LONGHAUL_SHARED uint64_t Get(int count) {
    const uint64_t bits = Peek() & ((uint64_t{1} << count) - 1);
    Skip(count);
    return bits;
  }
  LONGHAUL_SHARED bool overrun() const { return at_ > 8 * size_; }
  // Whole bytes read; false when bits are missing, or the rest of the last byte is not zero.
  LONGHAUL_SHARED bool Finish(uint32_t* bytes) const {
    *bytes = static_cast<uint32_t>((at_ + 7) >> 3);
    const int rest = static_cast<int>(8 * uint64_t{*bytes} - at_);
    return !overrun() && (rest == 0 || (Peek() & ((uint64_t{1} << rest) - 1)) == 0);
  }

 private:
  const uint8_t* const bytes_;
  const uint64_t size_;
  uint64_t at_ = 0;
};

// Reads `count` positions below `n` (GetPositions in compression/golomb.h) and calls use(i,
// position). False when there are not as many.
template <class Use>
LONGHAUL_SHARED bool ReadPositions(uint32_t count, uint32_t n, BitSource& in, Use&& use) {
  if (count > n) return false;
  if (count == 0) return true;
  const bool all = count == n;
  const GapCode code = all ? GapCode{} : GapCodeFor(count, n);
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t limit = n - next - (count - i);
    const uint32_t gap = all ? 0 : GetGap(code, limit, in);
    if (gap > limit) return false;
    use(i, next + gap);
    next += gap + 1;
  }
  return all || !in.overrun();
}

struct DecodeChunkKernel {
  static constexpr uint32_t kThreads = 32;
  struct Shared {
    uint32_t lanes[kWideLanes];
    uint32_t slots[kProbabilityTotal];  // as rans::DecoderTable
    FrequencyTable table;
    int centroids[kCentroids];
    uint32_t centroid_count;
    SectionMode mode;
    bool some_rows, good, raw;
    uint32_t coded;  // values whose symbols are coded
    uint32_t used;   // bytes of the chunk that have been read
  };
  const uint8_t* code;
  const uint64_t* offsets;         // of each chunk, and one past the last
  const uint32_t* first_sections;  // the same
  const SectionPlace* places;
  const Piece* pieces;
  const Row* rows;
  uint32_t* row_to;
  uint8_t* symbols;
  uint16_t* members;
  uint32_t* levels;  // of large symbols
  bool put;          // else only look
  Output output;
  uint32_t* damaged;  // becomes 1

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const uint8_t* in = code + offsets[index];
    const auto size = static_cast<uint32_t>(offsets[index + 1] - offsets[index]);
    const auto half = static_cast<uint16_t>(size < 2 ? 0 : in[0] | in[1] << 8);
    const float step = FromBf16(half);
    block.Each([&](uint32_t t) {
      if (t != 0) return;
      shared.used = 2;
      shared.good = half >= ToBf16(kMinStep) && half <= ToBf16(kMaxStep);
    });
    for (uint32_t s = first_sections[index]; s < first_sections[index + 1] && shared.good; ++s) {
      const SectionPlace place = places[s];
      Read(block, shared, place, in, size);
      if (shared.good && put) Write(block, shared, place, in, step);
      // Plain values are put from the code itself, so their bytes are passed only now.
      block.Each([&](uint32_t t) {
        if (t == 0) shared.used += PlainBytes(shared.mode, place.count);
      });
    }
    block.Each([&](uint32_t t) {
      if (t == 0 && (!shared.good || shared.used != size)) AtomicMax(damaged, 1);
    });
  }

 private:
  LONGHAUL_SHARED static uint32_t PlainBytes(SectionMode mode, uint32_t count) {
    if (mode == SectionMode::kBf16) return 2 * count;
    return mode == SectionMode::kInt8 ? static_cast<uint32_t>(BlockFormat<8>::Bytes(count)) : 0;
  }

  template <class Block>
  LONGHAUL_SHARED void Read(Block& block, Shared& shared, const SectionPlace& place,
                            const uint8_t* in, uint32_t size) const {
    block.Each([&](uint32_t t) {
      for (uint32_t i = t; i < place.count; i += kThreads) symbols[place.symbols + i] = 0;
    });
    block.Each([&](uint32_t t) {
      if (t == 0) shared.good = ReadHead(shared, place, in, size);
    });
    if (!shared.good || shared.mode != SectionMode::kDense) return;
    ReadSymbols(block, shared, place, in, size);
    block.Each([&](uint32_t t) {
      if (t == 0 && shared.good && shared.raw) shared.good = ReadRaw(shared, place, in, size);
    });
  }

  // All that one thread reads: everything but entropy coded symbols.
  LONGHAUL_SHARED bool ReadHead(Shared& shared, const SectionPlace& place, const uint8_t* in,
                                uint32_t size) const {
    if (shared.used >= size) return false;
    const uint8_t head = in[shared.used++];
    if (head > (kModeMask | kRowsFlag)) return false;
    shared.mode = static_cast<SectionMode>(head & kModeMask);
    shared.some_rows = (head & kRowsFlag) != 0;
    shared.coded = place.count;
    switch (shared.mode) {
      case SectionMode::kEmpty:
        return !shared.some_rows;
      case SectionMode::kSparse:
      case SectionMode::kDense:
        return ReadBits(shared, place, in, size) &&
               (shared.mode == SectionMode::kSparse || ReadTable(shared, in, size));
      case SectionMode::kBf16:
      case SectionMode::kInt8:
        return !shared.some_rows && CheckPlain(shared, place, in + shared.used, size);
    }
    return false;
  }

  LONGHAUL_SHARED bool CheckPlain(const Shared& shared, const SectionPlace& place,
                                  const uint8_t* in, uint32_t size) const {
    if (size - shared.used < PlainBytes(shared.mode, place.count)) return false;
    if (shared.mode == SectionMode::kBf16) {
      for (uint32_t i = 0; i < place.count; ++i) {
        if ((Half(in, i) & 0x7fffu) > std::bit_cast<uint32_t>(kMaxMagnitude) >> 16) return false;
      }
      return true;
    }
    for (uint32_t i = 0; i < place.count; i += kBlockValues) {
      const uint32_t n = Least(static_cast<uint32_t>(kBlockValues), place.count - i);
      if (!BlockFormat<8>::Valid(in + i / kBlockValues * BlockFormat<8>::kFullBytes, n)) {
        return false;
      }
    }
    return true;
  }

  LONGHAUL_SHARED bool ReadBits(Shared& shared, const SectionPlace& place, const uint8_t* in,
                                uint32_t size) const {
    BitSource bits(in + shared.used, size - shared.used);
    if (shared.some_rows && !ReadRows(shared, place, bits)) return false;
    if (shared.mode == SectionMode::kSparse && !ReadSparse(shared, place, bits)) return false;
    uint32_t bytes = 0;
    if (!bits.Finish(&bytes)) return false;
    shared.used += bytes;
    return true;
  }

  LONGHAUL_SHARED bool ReadRows(Shared& shared, const SectionPlace& place, BitSource& bits) const {
    const uint32_t active = GetNumber(bits);
    if (active == 0 || active >= place.rows) return false;
    for (uint32_t r = 0; r < place.rows; ++r) row_to[place.row + r] = QuantiseKernel::kLeftOut;
    uint32_t coded = 0;
    const bool read = ReadPositions(active, place.rows, bits, [&](uint32_t, uint32_t r) {
      row_to[place.row + r] = coded;
      coded += rows[place.row + r].count;
    });
    shared.coded = coded;
    return read;
  }

  LONGHAUL_SHARED bool ReadSparse(Shared& shared, const SectionPlace& place,
                                  BitSource& bits) const {
    const uint32_t layers = GetNumber(bits) + 1;
    if (layers > kLayers) return false;
    uint32_t count[kLayers + 1] = {shared.coded};
    for (uint32_t layer = 1; layer <= layers; ++layer) {
      count[layer] = GetNumber(bits) + 1;
      if (count[layer] > count[layer - 1]) return false;
    }
    shared.centroid_count = Least(layers, kCentroids);
    for (uint32_t i = 0; i < shared.centroid_count; ++i) {
      shared.centroids[i] = static_cast<int>(bits.Get(8)) + kLeastCentroid;
    }
    uint16_t* own = members + place.symbols;
    uint8_t* symbol = symbols + place.symbols;
    if (!ReadPositions(count[1], shared.coded, bits,
                       [&](uint32_t i, uint32_t at) { own[i] = static_cast<uint16_t>(at); })) {
      return false;
    }
    for (uint32_t i = 0; i < count[1]; ++i) symbol[own[i]] = static_cast<uint8_t>(2 - bits.Get(1));
    for (uint32_t layer = 2; layer <= layers; ++layer) {
      if (!ReadPositions(count[layer], count[layer - 1], bits, [&](uint32_t i, uint32_t at) {
            own[i] = own[at];
            symbol[own[i]] = static_cast<uint8_t>(symbol[own[i]] + 2);
          })) {
        return false;
      }
    }
    return layers < kLayers || ReadLarge(place, count[kLayers], bits);
  }

  LONGHAUL_SHARED bool ReadLarge(const SectionPlace& place, uint32_t count, BitSource& bits) const {
    for (uint32_t i = 0; i < count; ++i) {
      const uint64_t at = place.symbols + members[place.symbols + i];
      const uint32_t more = GetNumber(bits);
      if (bits.overrun() || more > kMaxLevel - kLayers) return false;
      const uint32_t level = kLayers + more;
      symbols[at] = static_cast<uint8_t>(2 * TokenOf(level) - (symbols[at] & 1));
      levels[at] = level;
    }
    return true;
  }

  // What precedes entropy coded symbols.
  LONGHAUL_SHARED bool ReadTable(Shared& shared, const uint8_t* in, uint32_t size) const {
    if (shared.used >= size) return false;
    const uint32_t used = in[shared.used++];
    const uint32_t centroids = Least(used, kCentroids);
    if (used == 0 || used >= kTokens || size - shared.used < centroids + used + 1) return false;
    shared.centroid_count = centroids;
    for (uint32_t i = 0; i < centroids; ++i) {
      shared.centroids[i] = in[shared.used++] + kLeastCentroid;
    }
    TokenWeights weights{};
    for (uint32_t t = 0; t <= used; ++t) {
      weights[t] = in[shared.used++];
      if (weights[t] > kMostWeight) return false;
    }
    if (weights[used] == 0) return false;
    shared.table = TableOf(weights);
    shared.raw = used >= kDirectLevels;
    return size - shared.used >= 4 * LanesFor(shared.coded);
  }

  template <class Block>
  LONGHAUL_SHARED void ReadSymbols(Block& block, Shared& shared, const SectionPlace& place,
                                   const uint8_t* in, uint32_t size) const {
    const uint32_t n = shared.coded, lanes = static_cast<uint32_t>(LanesFor(n));
    const uint8_t* states = in + shared.used;
    const uint8_t* words = states + 4 * lanes;
    const uint32_t most_words = (size - shared.used - 4 * lanes) / 2;
    block.Each([&](uint32_t t) {
      for (uint32_t s = t; s < kSymbols; s += kThreads) {
        const uint32_t f = shared.table.frequency[s];
        for (uint32_t i = 0; i < f; ++i) {
          shared.slots[shared.table.start[s] + i] = s | (f - 1) << 8 | i << 20;
        }
      }
      uint32_t state = 0;
      for (uint32_t b = 0; b < 4 && t < lanes; ++b) state |= uint32_t{states[4 * t + b]} << (8 * b);
      shared.lanes[t] = state;
    });
    bool good = block.Vote([&](uint32_t t) {
      return t < lanes && (shared.lanes[t] < rans::kLowest || shared.lanes[t] >> 31 != 0);
    }) == 0;
    uint32_t next = 0;
    for (uint32_t at = 0; at < n && good; at += lanes) {
      const uint32_t in_group = Least(lanes, n - at);
      block.Each([&](uint32_t t) {
        if (t < in_group) symbols[place.symbols + at + t] = Pop(shared, t);
      });
      const uint32_t needing =
          block.Vote([&](uint32_t t) { return t < in_group && shared.lanes[t] < rans::kLowest; });
      good = next + Count(needing) <= most_words;
      block.Each([&](uint32_t t) {
        if (!good || (needing >> t & 1) == 0) return;
        const uint32_t word = next + Count(needing & ((1u << t) - 1));
        shared.lanes[t] = shared.lanes[t] << 16 | Half(words, word);
      });
      next += Count(needing);
    }
    good = good && block.Vote([&](uint32_t t) {
      return t < lanes && shared.lanes[t] != rans::kLowest;
    }) == 0;
    block.Each([&](uint32_t t) {
      if (t != 0) return;
      shared.good = good;
      shared.used += 4 * lanes + 2 * next;
    });
  }

  LONGHAUL_SHARED static uint8_t Pop(Shared& shared, uint32_t lane) {
    const uint32_t state = shared.lanes[lane];
    const uint32_t slot = shared.slots[state & (kProbabilityTotal - 1)];
    shared.lanes[lane] = (((slot >> 8) & 0xfff) + 1) * (state >> kProbabilityBits) + (slot >> 20);
    return static_cast<uint8_t>(slot);
  }

  LONGHAUL_SHARED static uint32_t Count(uint32_t mask) {
#ifdef __CUDA_ARCH__
    return static_cast<uint32_t>(__popc(mask));
#else
    return static_cast<uint32_t>(std::popcount(mask));
#endif
  }
  LONGHAUL_SHARED static uint16_t Half(const uint8_t* in, uint32_t i) {
    return static_cast<uint16_t>(in[2 * i] | in[2 * i + 1] << 8);
  }

  LONGHAUL_SHARED bool ReadRaw(Shared& shared, const SectionPlace& place, const uint8_t* in,
                               uint32_t size) const {
    BitSource bits(in + shared.used, size - shared.used);
    for (uint32_t i = 0; i < shared.coded; ++i) {
      const uint8_t symbol = symbols[place.symbols + i];
      if (symbol < kFirstLargeSymbol) continue;
      const uint32_t token = TokenOfSymbol(symbol);
      levels[place.symbols + i] =
          FirstLevelOf(token) + static_cast<uint32_t>(bits.Get(static_cast<int>(RawBitsOf(token))));
    }
    uint32_t bytes = 0;
    if (!bits.Finish(&bytes)) return false;
    shared.used += bytes;
    return true;
  }

  // Puts all values of a section.
  template <class Block>
  LONGHAUL_SHARED void Write(Block& block, Shared& shared, const SectionPlace& place,
                             const uint8_t* in, float step) const {
    const uint8_t* plain = in + shared.used;
    block.Each([&](uint32_t t) {
      if (shared.some_rows) {
        for (uint32_t r = 0; r < place.rows; ++r) {
          const Row row = rows[place.row + r];
          const uint32_t to = row_to[place.row + r];
          for (uint32_t i = t; i < row.count; i += kThreads) {
            output.Put(place.first + row.begin + i, to == QuantiseKernel::kLeftOut
                                                        ? 0.0f
                                                        : ValueAt(shared, place, to + i, step));
          }
        }
        return;
      }
      ForValues(place, pieces, t, kThreads, [&](uint32_t at, uint64_t i) {
        output.Put(i, shared.mode == SectionMode::kBf16   ? FromBf16(Half(plain, at))
                      : shared.mode == SectionMode::kInt8 ? Int8ValueAt(plain, at)
                                                          : ValueAt(shared, place, at, step));
      });
    });
  }

  LONGHAUL_SHARED float ValueAt(const Shared& shared, const SectionPlace& place, uint32_t at,
                                float step) const {
    const uint8_t symbol = symbols[place.symbols + at];
    if (symbol == 0) return 0;
    const uint32_t level =
        symbol < kFirstLargeSymbol ? TokenOfSymbol(symbol) : levels[place.symbols + at];
    const int centroid = shared.centroids[Least(level, shared.centroid_count) - 1];
    const float value = ValueOf(level, centroid, step);
    return (symbol & 1) != 0 ? -value : value;
  }

  LONGHAUL_SHARED static float Int8ValueAt(const uint8_t* plain, uint32_t at) {
    using Format = BlockFormat<8>;
    const uint8_t* block = plain + at / kBlockValues * Format::kFullBytes;
    return static_cast<float>(Format::Signed(block[Format::kScaleBytes + at % kBlockValues], 0)) *
           FromBf16(Format::ScaleOf(block));
  }
};

}  // namespace longhaul::cuda
