// Sections become bytes (compression/section.h), a warp for each. Golomb's code is written by one
// thread, because every code moves the next; a fragment has thousands of sections, so that does not
// hold the device up. The entropy coder's lanes go side by side.
#pragma once

#include <array>
#include <cstdint>

#include "compression/cuda/block.h"
#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/cuda/quantise.h"
#include "compression/golomb_code.h"
#include "compression/rans_tables.h"
#include "compression/section_cost.h"
#include "compression/section_format.h"

namespace longhaul::cuda {

// Bits into bounded memory, first bit lowest (compression/bit_stream.h); beyond the end it only
// counts.
class BitSink {
 public:
  LONGHAUL_SHARED BitSink(uint8_t* out, uint32_t at, uint32_t limit)
      : out_(out), at_(at), limit_(limit) {}
  LONGHAUL_SHARED void Put(uint64_t bits, int count) {
    waiting_ |= bits << filled_;
    filled_ += count;
    for (; filled_ >= 8; filled_ -= 8) {
      Byte(static_cast<uint8_t>(waiting_));
      waiting_ >>= 8;
    }
  }
  // Fills the last byte with zeros; bytes so far.
  LONGHAUL_SHARED uint32_t Finish() {
    if (filled_ != 0) Put(0, 8 - filled_);
    return at_;
  }

 private:
  LONGHAUL_SHARED void Byte(uint8_t byte) {
    if (at_ < limit_) out_[at_] = byte;
    ++at_;
  }
  uint8_t* const out_;
  uint32_t at_;
  const uint32_t limit_;
  uint64_t waiting_ = 0;
  int filled_ = 0;
};

// Where a section's bytes go, in its batch: room for bf16, which is the most, and a bit more.
inline constexpr uint32_t kSlotExtra = 32;
LONGHAUL_SHARED inline uint64_t SlotOf(const SectionPlace& place, uint32_t index) {
  return 2 * place.symbols + uint64_t{kSlotExtra} * index;
}

struct WriteSectionKernel {
  static constexpr uint32_t kThreads = 32;
  struct Shared {
    uint32_t lanes[kWideLanes];
    rans::EncoderTable table;
    uint32_t bytes;
  };
  Input input;
  DevicePlan plan;
  const SectionPlace* places;
  const Piece* pieces;
  const Row* rows;
  const uint8_t* symbols;
  const uint8_t* compact;
  const uint32_t* row_to;
  uint16_t* positions;  // picked ones; overwritten
  uint16_t* words;      // working space as long as `positions`
  const SectionState* states;
  uint8_t* slots;   // SlotOf
  uint32_t* bytes;  // of each section

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared& shared, uint32_t index) const {
    const SectionPlace place = places[index];
    const SectionState& state = states[index];
    uint8_t* out = slots + SlotOf(place, index);
    const uint32_t plain_bytes = 1 + 2 * place.count;
    SectionMode mode = state.mode;
    block.Each([&](uint32_t t) {
      if (t == 0) shared.bytes = 0;
    });
    if (mode == SectionMode::kEmpty || mode == SectionMode::kSparse) {
      block.Each([&](uint32_t t) {
        if (t == 0) shared.bytes = WriteSparse(place, state, out, plain_bytes);
      });
    } else if (mode == SectionMode::kDense) {
      WriteDense(block, shared, place, state, out, plain_bytes);
    }
    if (shared.bytes > plain_bytes) mode = SectionMode::kBf16;
    if (mode == SectionMode::kBf16) WriteBf16(block, shared, place, out);
    if (mode == SectionMode::kInt8) WriteInt8(block, shared, place, out);
    block.Each([&](uint32_t t) {
      if (t == 0) bytes[index] = shared.bytes;
    });
  }

 private:
  LONGHAUL_SHARED const uint8_t* Coded(const SectionPlace& place, const SectionState& state) const {
    return (state.active_rows != 0 ? compact : symbols) + place.symbols;
  }

  // The fragment's index of coded symbol `at`. `row` is a place to go on from; starts at 0.
  LONGHAUL_SHARED uint64_t SourceOf(const SectionPlace& place, const SectionState& state,
                                    uint32_t at, uint32_t& row) const {
    if (state.active_rows == 0) return IndexOf(place, pieces, at);
    for (;; ++row) {
      const uint32_t to = row_to[place.row + row];
      if (to == QuantiseKernel::kLeftOut) continue;
      const Row& r = rows[place.row + row];
      if (at < to + r.count) return place.first + r.begin + (at - to);
    }
  }

  LONGHAUL_SHARED void PutRows(const SectionPlace& place, const SectionState& state,
                               BitSink& bits) const {
    if (state.active_rows == 0) return;
    PutNumber(state.active_rows, bits);
    const GapCode code = GapCodeFor(state.active_rows, place.rows);
    uint32_t next = 0;
    for (uint32_t r = 0; r < place.rows; ++r) {
      if (row_to[place.row + r] == QuantiseKernel::kLeftOut) continue;
      PutGap(r - next, code, bits);
      next = r + 1;
    }
  }

  LONGHAUL_SHARED static void PutCentroids(const SectionState& state, const TokenCounts& counts,
                                           uint32_t how_many, BitSink& bits) {
    for (uint32_t i = 0; i < how_many; ++i) bits.Put(CentroidByte(state.sums[i], counts, i), 8);
  }

  // Head and body; how many bytes, perhaps more than `limit`.
  LONGHAUL_SHARED uint32_t WriteSparse(const SectionPlace& place, const SectionState& state,
                                       uint8_t* out, uint32_t limit) const {
    const bool empty = state.mode == SectionMode::kEmpty;
    const bool some_rows = state.active_rows != 0 && !empty;
    BitSink bits(out, 0, limit);
    bits.Put(HeadByte(state.mode, some_rows), 8);
    if (empty) return bits.Finish();
    if (some_rows) PutRows(place, state, bits);
    const TokenCounts counts = CountTokens(state.counts);
    uint32_t layers = 1;
    while (layers < kLayers && counts.from[layers + 1] > 0) ++layers;
    PutNumber(layers - 1, bits);
    for (uint32_t layer = 1; layer <= layers; ++layer) {
      PutNumber(static_cast<uint32_t>(counts.from[layer]) - 1, bits);
    }
    PutCentroids(state, counts, Least(layers, kCentroids), bits);
    PutLayers(place, state, layers, bits);
    return bits.Finish();
  }

  // Positions of level >= 1 among all, signs, positions of level >= 2 among those, ...
  LONGHAUL_SHARED void PutLayers(const SectionPlace& place, const SectionState& state,
                                 uint32_t layers, BitSink& bits) const {
    const uint8_t* coded = Coded(place, state);
    uint16_t* members = positions + place.symbols;
    uint32_t count = state.picked;
    if (count != state.symbols) {
      const GapCode code = GapCodeFor(count, state.symbols);
      uint32_t next = 0;
      for (uint32_t j = 0; j < count; ++j) {
        PutGap(members[j] - next, code, bits);
        next = members[j] + 1u;
      }
    }
    for (uint32_t j = 0; j < count; ++j) bits.Put(coded[members[j]] & 1, 1);
    for (uint32_t layer = 2; layer <= layers; ++layer) {
      count = PutLayer(coded, layer, members, count, bits);
    }
    if (layers < kLayers) return;
    uint32_t row = 0;
    for (uint32_t j = 0; j < count; ++j) {
      uint32_t level = TokenOfSymbol(coded[members[j]]);
      if (level >= kDirectLevels) {
        level = plan.LevelOf(input.At(SourceOf(place, state, members[j], row)));
      }
      PutNumber(level - kLayers, bits);
    }
  }

  // Writes which of the members have this token or a larger one, and keeps those; how many.
  LONGHAUL_SHARED static uint32_t PutLayer(const uint8_t* coded, uint32_t layer, uint16_t* members,
                                           uint32_t count, BitSink& bits) {
    uint32_t kept = 0;
    for (uint32_t j = 0; j < count; ++j) kept += TokenOfSymbol(coded[members[j]]) >= layer;
    if (kept == 0 || kept == count) return kept;
    const GapCode code = GapCodeFor(kept, count);
    uint32_t next = 0, to = 0;
    for (uint32_t j = 0; j < count; ++j) {
      if (TokenOfSymbol(coded[members[j]]) < layer) continue;
      PutGap(j - next, code, bits);
      next = j + 1;
      members[to++] = members[j];
    }
    return kept;
  }

  template <class Block>
  LONGHAUL_SHARED void WriteDense(Block& block, Shared& shared, const SectionPlace& place,
                                  const SectionState& state, uint8_t* out, uint32_t limit) const {
    block.Each([&](uint32_t t) {
      shared.lanes[t] = rans::kLowest;
      if (t == 0) shared.bytes = WriteDenseHead(shared, place, state, out, limit);
    });
    const uint32_t lanes = static_cast<uint32_t>(LanesFor(state.symbols));
    uint16_t* own_words = words + place.symbols;
    const uint32_t first =
        PushAll(block, shared, Coded(place, state), state.symbols, lanes, own_words);
    const uint32_t head = shared.bytes;
    const uint32_t word_bytes = 2 * (state.symbols - first);
    const uint32_t used = head + 4 * lanes + word_bytes;
    block.Each([&](uint32_t t) {
      if (used > limit) return;
      for (uint32_t b = t; b < 4 * lanes; b += kThreads) {
        out[head + b] = static_cast<uint8_t>(shared.lanes[b / 4] >> (8 * (b % 4)));
      }
      for (uint32_t w = t; w < word_bytes / 2; w += kThreads) {
        const uint16_t word = own_words[first + w];
        out[head + 4 * lanes + 2 * w] = static_cast<uint8_t>(word);
        out[head + 4 * lanes + 2 * w + 1] = static_cast<uint8_t>(word >> 8);
      }
    });
    block.Each([&](uint32_t t) {
      if (t == 0) shared.bytes = used > limit ? used : WriteRaw(place, state, out, used, limit);
    });
  }

  // All before the entropy coded symbols; sets up the coder's table.
  LONGHAUL_SHARED uint32_t WriteDenseHead(Shared& shared, const SectionPlace& place,
                                          const SectionState& state, uint8_t* out,
                                          uint32_t limit) const {
    BitSink bits(out, 0, limit);
    bits.Put(HeadByte(SectionMode::kDense, state.active_rows != 0), 8);
    PutRows(place, state, bits);
    const TokenCounts counts = CountTokens(state.counts);
    BitSink head(out, bits.Finish(), limit);
    head.Put(counts.used, 8);
    PutCentroids(state, counts, Least(counts.used, kCentroids), head);
    const TokenWeights weights = WeightsOf(state.counts);
    for (uint32_t t = 0; t <= counts.used; ++t) head.Put(weights[t], 8);
    shared.table = rans::MakeEncoderTable(TableOf(weights));
    return head.Finish();
  }

  // Pushes the symbols, the last one first; words go downwards from the end of `out`, which has a
  // word for each symbol. The first word.
  template <class Block>
  LONGHAUL_SHARED static uint32_t PushAll(Block& block, Shared& shared, const uint8_t* coded,
                                          uint32_t n, uint32_t lanes, uint16_t* out) {
    uint32_t first = n;
    for (uint32_t group = (n + lanes - 1) / lanes; group-- > 0;) {
      const uint32_t at = group * lanes, size = Least(lanes, n - at);
      const uint32_t leaving = block.Vote([&](uint32_t l) {
        return l < size && rans::LeavesWord(shared.lanes[l], shared.table.packed[coded[at + l]]);
      });
      block.Each([&](uint32_t l) {
        if (l >= size) return;
        uint32_t state = shared.lanes[l];
        if ((leaving >> l & 1) != 0) {
          // The lanes above have written theirs before.
          out[first - 1 - BitsSet(leaving & ~((2u << l) - 1))] = static_cast<uint16_t>(state);
          state >>= 16;
        }
        shared.lanes[l] = rans::Pushed(state, shared.table.packed[coded[at + l]],
                                       shared.table.reciprocal[coded[at + l]]);
      });
      first -= BitsSet(leaving);
    }
    return first;
  }

  LONGHAUL_SHARED static uint32_t BitsSet(uint32_t mask) {
#ifdef __CUDA_ARCH__
    return static_cast<uint32_t>(__popc(mask));
#else
    return static_cast<uint32_t>(std::popcount(mask));
#endif
  }

  // The raw bits of large levels.
  LONGHAUL_SHARED uint32_t WriteRaw(const SectionPlace& place, const SectionState& state,
                                    uint8_t* out, uint32_t at, uint32_t limit) const {
    BitSink raw(out, at, limit);
    const uint16_t* picked = positions + place.symbols;
    uint32_t row = 0;
    for (uint32_t j = 0; j < state.picked; ++j) {
      const uint32_t level = plan.LevelOf(input.At(SourceOf(place, state, picked[j], row)));
      const uint32_t token = TokenOf(level);
      raw.Put(level - FirstLevelOf(token), static_cast<int>(RawBitsOf(token)));
    }
    return raw.Finish();
  }

  template <class Block>
  LONGHAUL_SHARED void WriteBf16(Block& block, Shared& shared, const SectionPlace& place,
                                 uint8_t* out) const {
    block.Each([&](uint32_t t) {
      ForValues(place, pieces, t, kThreads, [&](uint32_t at, uint64_t i) {
        const auto bits = std::bit_cast<uint32_t>(input.At(i));
        constexpr uint32_t kMostBits = std::bit_cast<uint32_t>(kMaxMagnitude);
        const uint16_t half = Bf16FromFloatBits((bits & ~kFloatMagnitudeMask) |
                                                Least(bits & kFloatMagnitudeMask, kMostBits));
        out[1 + 2 * at] = static_cast<uint8_t>(half);
        out[2 + 2 * at] = static_cast<uint8_t>(half >> 8);
      });
      if (t != 0) return;
      out[0] = HeadByte(SectionMode::kBf16, false);
      shared.bytes = 1 + 2 * place.count;
    });
  }

  template <class Block>
  LONGHAUL_SHARED void WriteInt8(Block& block, Shared& shared, const SectionPlace& place,
                                 uint8_t* out) const {
    using Format = BlockFormat<8>;
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b * kBlockValues < place.count; b += kThreads) {
        const auto first = static_cast<uint32_t>(b * kBlockValues);
        const uint32_t n = Least(static_cast<uint32_t>(kBlockValues), place.count - first);
        uint32_t most = 0;
        for (uint32_t i = 0; i < n; ++i) {
          most = Most(most, MagnitudeBits(input.At(IndexOf(place, pieces, first + i))));
        }
        const uint16_t scale = Format::Scale(most);
        uint8_t* to = out + 1 + b * Format::kFullBytes;
        to[0] = static_cast<uint8_t>(scale);
        to[1] = static_cast<uint8_t>(scale >> 8);
        for (uint32_t i = 0; i < n; ++i) {
          to[2 + i] = static_cast<uint8_t>(
              Format::Code(input.At(IndexOf(place, pieces, first + i)), scale));
        }
      }
      if (t != 0) return;
      out[0] = HeadByte(SectionMode::kInt8, false);
      shared.bytes = 1 + static_cast<uint32_t>(Format::Bytes(place.count));
    });
  }
};

// Puts the chunks of a batch together: step, then sections.
struct PackKernel {
  static constexpr uint32_t kThreads = 256;
  struct Shared {};
  const SectionPlace* places;
  const uint8_t* slots;
  const uint32_t* bytes;    // of each section
  const uint64_t* offsets;  // of each section in `out`
  uint16_t step;            // before the first section of a chunk
  uint8_t* out;

  template <class Block>
  LONGHAUL_SHARED void operator()(Block& block, Shared&, uint32_t index) const {
    const SectionPlace& place = places[index];
    const uint8_t* from = slots + SlotOf(place, index);
    uint8_t* to = out + offsets[index];
    const bool first = index == 0 || places[index - 1].chunk != place.chunk;
    block.Each([&](uint32_t t) {
      for (uint32_t b = t; b < bytes[index]; b += kThreads) to[b] = from[b];
      if (t != 0 || !first) return;
      to[-2] = static_cast<uint8_t>(step);
      to[-1] = static_cast<uint8_t>(step >> 8);
    });
  }
};

}  // namespace longhaul::cuda
