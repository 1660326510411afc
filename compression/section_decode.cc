#include <algorithm>
#include <array>

#include "compression/bf16.h"
#include "compression/codec.h"
#include "compression/golomb.h"
#include "compression/rans.h"
#include "compression/section.h"
#include "compression/section_format.h"

namespace longhaul {
namespace {

// One section being read. Every step says whether it went well.
class SectionReader {
 public:
  SectionReader(CpuLevel cpu, std::span<const uint8_t> in, const ChunkSection& place, float step,
                DecodedSection& section)
      : cpu_(cpu), in_(in), place_(place), step_(step), out_(section) {}

  bool Read() {
    if (in_.empty()) return false;
    const uint8_t head = in_[used_++];
    const bool some_rows = (head & kRowsFlag) != 0;
    out_.mode = static_cast<SectionMode>(head & kModeMask);
    if (head > (kModeMask | kRowsFlag)) return false;
    switch (out_.mode) {
      case SectionMode::kEmpty:
        return !some_rows;
      case SectionMode::kSparse:
        return step_ > 0 && ReadBits(some_rows);
      case SectionMode::kDense:
        return step_ > 0 && ReadBits(some_rows) && ReadDense();
      case SectionMode::kBf16:
        return !some_rows && ReadPlain(CodecId::kBf16);
      case SectionMode::kInt8:
        return !some_rows && ReadPlain(CodecId::kInt8);
    }
    return false;
  }
  size_t used() const { return used_; }

 private:
  std::span<const uint8_t> rest() const { return in_.subspan(used_); }

  bool ReadPlain(CodecId id) {
    const Codec& codec = *FindCodec(id);
    const size_t bytes = codec.EncodedBytes(place_.count);
    if (rest().size() < bytes) return false;
    out_.plain.resize(place_.count);
    const auto code = std::as_bytes(rest().first(bytes));
    used_ += bytes;
    return codec.Decode(code, out_.plain);
  }

  // What comes as bits: which rows, and all of a sparse body.
  bool ReadBits(bool some_rows) {
    BitReader bits(rest());
    if (!ReadRows(some_rows, bits)) return false;
    if (out_.mode == SectionMode::kSparse && !ReadSparse(bits)) return false;
    size_t bytes = 0;
    if (!bits.Finish(&bytes)) return false;
    used_ += bytes;
    return true;
  }

  bool ReadRows(bool some_rows, BitReader& bits) {
    count_ = place_.count;
    if (!some_rows) return true;
    const uint32_t active = GetNumber(bits);
    std::vector<uint32_t> rows;
    if (active == 0 || active >= place_.rows.size() ||
        !GetPositions(active, static_cast<uint32_t>(place_.rows.size()), bits, rows)) {
      return false;
    }
    count_ = 0;
    for (uint32_t row : rows) {
      out_.coded.push_back(place_.rows[row]);
      count_ += place_.rows[row].count;
    }
    return true;
  }

  bool ReadSparse(BitReader& bits) {
    const uint32_t layers = GetNumber(bits) + 1;
    if (layers > kLayers) return false;
    std::array<uint32_t, kLayers + 1> count{count_};
    for (uint32_t layer = 1; layer <= layers; ++layer) {
      count[layer] = GetNumber(bits) + 1;
      if (count[layer] > count[layer - 1]) return false;
    }
    const uint32_t centroids = std::min(layers, kCentroids);
    for (uint32_t i = 0; i < centroids; ++i) {
      SetCentroid(i, static_cast<uint8_t>(bits.Get(8)));
    }
    if (!GetPositions(count[1], count_, bits, out_.positions)) return false;
    out_.symbols.resize(count[1]);
    for (uint8_t& symbol : out_.symbols) symbol = static_cast<uint8_t>(2 - bits.Get(1));
    return ReadLayers(std::span(count).subspan(1, layers), bits);
  }

  // Raises symbols of level 1 to their levels.
  bool ReadLayers(std::span<const uint32_t> count, BitReader& bits) {
    std::vector<uint32_t> members(count[0]), positions;  // indices of the symbols in a layer
    for (uint32_t i = 0; i < count[0]; ++i) members[i] = i;
    for (size_t layer = 1; layer < count.size(); ++layer) {
      if (!GetPositions(count[layer], count[layer - 1], bits, positions)) return false;
      for (size_t i = 0; i < positions.size(); ++i) members[i] = members[positions[i]];
      members.resize(positions.size());
      for (uint32_t i : members) out_.symbols[i] = static_cast<uint8_t>(out_.symbols[i] + 2);
    }
    if (count.size() < kLayers) return true;
    for (uint32_t i : members) {
      const uint32_t more = GetNumber(bits);
      if (bits.overrun() || more > kMaxLevel - kLayers) return false;
      const uint32_t level = kLayers + more;
      out_.symbols[i] = static_cast<uint8_t>(2 * TokenOf(level) - (out_.symbols[i] & 1));
      if (level >= kDirectLevels) out_.levels.push_back(level);
    }
    return true;
  }

  bool ReadDense() {
    if (rest().empty()) return false;
    const uint32_t used = in_[used_++], centroids = std::min(used, kCentroids);
    if (used == 0 || used >= kTokens || rest().size() < centroids + used + 1) return false;
    for (uint32_t i = 0; i < centroids; ++i) SetCentroid(i, in_[used_++]);
    TokenWeights weights{};
    for (uint32_t t = 0; t <= used; ++t) {
      weights[t] = in_[used_++];
      if (weights[t] > kMostWeight) return false;
    }
    if (weights[used] == 0) return false;
    out_.symbols.resize(count_);
    size_t bytes = 0;
    if (!DecodeSymbols(cpu_, rest(), TableOf(weights), out_.symbols, &bytes)) return false;
    used_ += bytes;
    return used < kDirectLevels || ReadRaw();
  }

  bool ReadRaw() {
    BitReader bits(rest());
    for (uint8_t symbol : out_.symbols) {
      if (symbol < kFirstLargeSymbol) continue;
      const uint32_t token = TokenOfSymbol(symbol);
      out_.levels.push_back(FirstLevelOf(token) +
                            static_cast<uint32_t>(bits.Get(static_cast<int>(RawBitsOf(token)))));
    }
    size_t bytes = 0;
    if (!bits.Finish(&bytes)) return false;
    used_ += bytes;
    return true;
  }

  void SetCentroid(uint32_t i, uint8_t byte) {
    const int centroid = byte + kLeastCentroid;
    out_.last_centroid = centroid;
    for (uint32_t level = i + 1; level < kDirectLevels; ++level) {
      out_.values[2 * level] = ValueOf(level, centroid, step_);
      out_.values[2 * level - 1] = -out_.values[2 * level];
    }
  }

  const CpuLevel cpu_;
  const std::span<const uint8_t> in_;
  const ChunkSection& place_;
  const float step_;
  DecodedSection& out_;
  size_t used_ = 0;
  uint32_t count_ = 0;  // coded values
};

float LargeValue(const DecodedSection& section, uint8_t symbol, uint32_t level, float step) {
  const float value = ValueOf(level, section.last_centroid, step);
  return (symbol & 1) != 0 ? -value : value;
}

void WriteSparse(const DecodedSection& section, std::span<const Piece> coded, float step,
                 std::span<float> chunk) {
  auto run = coded.begin();
  uint32_t run_first = 0;  // position of the run's first value
  auto level = section.levels.begin();
  for (size_t i = 0; i < section.positions.size(); ++i) {
    const uint32_t position = section.positions[i];
    while (position - run_first >= run->count) run_first += (run++)->count;
    const uint8_t symbol = section.symbols[i];
    chunk[run->begin + (position - run_first)] = symbol < kFirstLargeSymbol
                                                     ? section.values[symbol]
                                                     : LargeValue(section, symbol, *level++, step);
  }
}

void WriteDense(CpuLevel cpu, const DecodedSection& section, std::span<const Piece> coded,
                float step, std::span<float> chunk) {
  const uint8_t* symbols = section.symbols.data();
  auto level = section.levels.begin();
  for (const Piece& run : coded) {
    float* out = chunk.data() + run.begin;
    LookUp(cpu, {symbols, run.count}, section.values, out);
    if (!section.levels.empty()) {
      for (uint32_t i = 0; i < run.count; ++i) {
        if (symbols[i] >= kFirstLargeSymbol)
          out[i] = LargeValue(section, symbols[i], *level++, step);
      }
    }
    symbols += run.count;
  }
}

}  // namespace

std::optional<size_t> DecodeSection(CpuLevel cpu, std::span<const uint8_t> in,
                                    const ChunkSection& place, float step,
                                    DecodedSection& section) {
  SectionReader reader(cpu, in, place, step, section);
  if (!reader.Read()) return std::nullopt;
  return reader.used();
}

void WriteSection(CpuLevel cpu, const DecodedSection& section, const ChunkSection& place,
                  float step, std::span<float> chunk) {
  const bool some_rows = !section.coded.empty();
  const std::span<const Piece> coded = some_rows ? section.coded : place.pieces;
  if (some_rows || section.mode == SectionMode::kEmpty || section.mode == SectionMode::kSparse) {
    for (const Piece& piece : place.pieces) std::fill_n(&chunk[piece.begin], piece.count, 0.0f);
  }
  if (section.mode == SectionMode::kSparse) WriteSparse(section, coded, step, chunk);
  if (section.mode == SectionMode::kDense) WriteDense(cpu, section, coded, step, chunk);
  const float* plain = section.plain.data();
  for (const Piece& piece : place.pieces) {
    if (section.plain.empty()) break;
    std::copy_n(plain, piece.count, &chunk[piece.begin]);
    plain += piece.count;
  }
}

}  // namespace longhaul
