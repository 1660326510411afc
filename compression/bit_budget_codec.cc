#include "compression/bit_budget_codec.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "compression/bf16.h"
#include "compression/rate_control.h"
#include "compression/section.h"
#include "compression/section_format.h"

namespace longhaul {
namespace {

constexpr size_t kStepBytes = 2;

// Codes one section of a chunk.
class SectionEncoder {
 public:
  SectionEncoder(CpuLevel cpu, const CodecPlan& plan, uint64_t first, std::span<const float> chunk)
      : cpu_(cpu), plan_(plan), first_(first), chunk_(chunk), step_(FromBf16(plan.step)) {}

  // Quantised, or as bf16 should that be shorter. False when a value is not finite.
  bool Code(const ChunkSection& place, std::vector<uint8_t>& out) const {
    const size_t start = out.size();
    Section section;
    if (!Quantised(place, section)) return false;
    EncodeSection(cpu_, section, out);
    if (out.size() - start <= 1 + 2 * size_t{place.count}) return true;
    out.resize(start);
    return CodePlain(place, SectionMode::kBf16, out);
  }

  bool CodePlain(const ChunkSection& place, SectionMode mode, std::vector<uint8_t>& out) const {
    std::vector<float> values;
    for (const Piece& piece : place.pieces) {
      const std::span<const float> part = chunk_.subspan(piece.begin, piece.count);
      values.insert(values.end(), part.begin(), part.end());
    }
    const Codec& codec = *FindCodec(mode == SectionMode::kBf16 ? CodecId::kBf16 : CodecId::kInt8);
    out.push_back(HeadByte(mode, /*some_rows=*/false));
    const size_t at = out.size();
    out.resize(at + codec.EncodedBytes(values.size()));
    return codec.Encode(values, std::as_writable_bytes(std::span(out).subspan(at)));
  }

 private:
  bool Quantised(const ChunkSection& place, Section& section) const {
    section.symbols.resize(place.count);
    uint8_t* symbols = section.symbols.data();
    for (const Piece& piece : place.pieces) {
      // Ties get through before their end only.
      const uint64_t at = first_ + piece.begin;
      const auto before = static_cast<uint32_t>(
          plan_.tie_end <= at ? 0 : std::min<uint64_t>(piece.count, plan_.tie_end - at));
      const std::span<const float> values = chunk_.subspan(piece.begin, piece.count);
      const uint32_t largest =
          std::max(Quantise(cpu_, values.first(before), {plan_.tie_threshold_bits, step_}, symbols,
                            section.sums),
                   Quantise(cpu_, values.subspan(before), {plan_.threshold_bits, step_},
                            symbols + before, section.sums));
      if (largest >= kFloatInfinityBits) return false;
      if (LevelOf(std::bit_cast<float>(largest), step_) >= kDirectLevels) {
        CollectLarge(values, symbols, section.large);
      }
      symbols += piece.count;
    }
    if (!place.rows.empty()) LeaveOutRows(place, section);
    return true;
  }

  void CollectLarge(std::span<const float> values, const uint8_t* symbols,
                    std::vector<uint32_t>& levels) const {
    for (size_t i = 0; i < values.size(); ++i) {
      if (symbols[i] >= kFirstLargeSymbol) levels.push_back(LevelOf(values[i], step_));
    }
  }

  // Drops the symbols of all-zero rows if that is cheaper.
  static void LeaveOutRows(const ChunkSection& place, Section& section) {
    std::vector<uint32_t> active;
    std::vector<uint8_t> left;
    const uint8_t* symbols = section.symbols.data();
    for (size_t r = 0; r < place.rows.size(); ++r) {
      const uint8_t* end = symbols + place.rows[r].count;
      if (std::any_of(symbols, end, [](uint8_t s) { return s != 0; })) {
        active.push_back(static_cast<uint32_t>(r));
        left.insert(left.end(), symbols, end);
      }
      symbols = end;
    }
    if (active.empty() || active.size() == place.rows.size()) return;
    const TokenCounts all = CountTokens(CountSymbols(section.symbols));
    TokenCounts some = all;
    some.from[0] = left.size();
    if (CheapestMode(some).cost + RowsCost(active.size(), place.rows.size()) >=
        CheapestMode(all).cost) {
      return;
    }
    section.symbols = std::move(left);
    section.active_rows = std::move(active);
    section.rows = static_cast<uint32_t>(place.rows.size());
  }

  const CpuLevel cpu_;
  const CodecPlan& plan_;
  const uint64_t first_;
  const std::span<const float> chunk_;
  const float step_;
};

class BitBudgetCodec final : public Codec {
 public:
  BitBudgetCodec(uint32_t bits_milli, Layout layout, CpuLevel cpu)
      : bits_milli_(bits_milli), layout_(std::move(layout)), cpu_(cpu) {}

  CodecId id() const override { return CodecId::kBitBudget; }
  bool fixed_size() const override { return false; }
  // No section is longer than bf16 makes it, but for a scale that int8 needs for a single value.
  size_t EncodedBytes(size_t elements) const override {
    return kStepBytes + 2 * elements + 2 * kTensorClasses;
  }
  std::unique_ptr<Planner> NewPlanner() const override {
    return std::make_unique<RateControl>(layout_, bits_milli_);
  }

  std::optional<size_t> EncodeChunk(const CodecPlan& plan, uint64_t first,
                                    std::span<const float> in,
                                    std::span<std::byte> out) const override {
    const auto cut = layout_.Cut(first, in.size());
    if (!cut || out.size() < EncodedBytes(in.size())) return std::nullopt;
    std::vector<uint8_t> bytes(kStepBytes);
    std::memcpy(bytes.data(), &plan.step, kStepBytes);
    const SectionEncoder encoder(cpu_, plan, first, in);
    for (size_t c = 0; c < kTensorClasses; ++c) {
      const ChunkSection& place = (*cut)[c];
      if (place.count == 0) continue;
      const bool vectors = c == static_cast<size_t>(TensorClass::kVector);
      if (!(vectors ? CodeVectors(encoder, place, plan, bytes) : encoder.Code(place, bytes))) {
        return std::nullopt;
      }
    }
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return bytes.size();
  }

  bool DecodeChunk(uint64_t first, std::span<const std::byte> in,
                   std::span<float> out) const override {
    const auto cut = layout_.Cut(first, out.size());
    if (!cut || in.size() < kStepBytes) return false;
    uint16_t half;
    std::memcpy(&half, in.data(), kStepBytes);
    if (half < ToBf16(kMinStep) || half > ToBf16(kMaxStep)) return false;
    const float step = FromBf16(half);
    std::array<DecodedSection, kTensorClasses> sections;
    std::span<const uint8_t> rest(reinterpret_cast<const uint8_t*>(in.data()), in.size());
    rest = rest.subspan(kStepBytes);
    for (size_t c = 0; c < kTensorClasses; ++c) {
      if ((*cut)[c].count == 0) continue;
      const std::optional<size_t> used = DecodeSection(cpu_, rest, (*cut)[c], step, sections[c]);
      if (!used) return false;
      rest = rest.subspan(*used);
    }
    if (!rest.empty()) return false;
    for (size_t c = 0; c < kTensorClasses; ++c) {
      if ((*cut)[c].count != 0) WriteSection(cpu_, sections[c], (*cut)[c], step, out);
    }
    return true;
  }

 private:
  static bool CodeVectors(const SectionEncoder& encoder, const ChunkSection& place,
                          const CodecPlan& plan, std::vector<uint8_t>& bytes) {
    switch (static_cast<VectorMode>(plan.vectors)) {
      case VectorMode::kBf16:
        return encoder.CodePlain(place, SectionMode::kBf16, bytes);
      case VectorMode::kInt8:
        return encoder.CodePlain(place, SectionMode::kInt8, bytes);
      case VectorMode::kCoded:
        break;
    }
    return encoder.Code(place, bytes);
  }

  const uint32_t bits_milli_;
  const Layout layout_;
  const CpuLevel cpu_;
};

}  // namespace

std::unique_ptr<const Codec> MakeBitBudgetCodec(uint32_t bits_milli, Layout layout, CpuLevel cpu) {
  return std::make_unique<BitBudgetCodec>(bits_milli, std::move(layout), cpu);
}

}  // namespace longhaul
