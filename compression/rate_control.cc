#include "compression/rate_control.h"

#include <algorithm>
#include <bit>

#include "compression/bf16.h"
#include "compression/integer_log.h"
#include "compression/quantiser.h"
#include "compression/section.h"

namespace longhaul {
namespace {

constexpr uint32_t kInsideShift = 8;  // finer bins are 2^8 bit patterns wide
constexpr uint32_t kSaturationBits = std::bit_cast<uint32_t>(kSaturation);
constexpr uint32_t kMinThresholdBits = std::bit_cast<uint32_t>(kMinStep);
// No level may pass kMaxLevel, whatever the largest value: the step is above its 2^-20.
constexpr uint32_t kOctavesBelow = 19;

uint32_t MagnitudeBits(float v) { return std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask; }

uint16_t StepFor(uint32_t threshold_bits) {
  return ToBf16(std::clamp(std::bit_cast<float>(threshold_bits) * 1.5f, kMinStep, kMaxStep));
}

// The magnitudes from which values have token t or a larger one, for t = 1, 2, ...
std::vector<uint32_t> TokenEdges(uint32_t threshold_bits, uint32_t end_bits) {
  const float step = FromBf16(StepFor(threshold_bits));
  std::vector<uint32_t> edges = {threshold_bits};
  for (uint32_t t = 2; t < kTokens; ++t) {
    const float level = static_cast<float>(FirstLevelOf(t)) - 1.0f / 3;
    const auto edge = std::bit_cast<uint32_t>(level * step);
    if (edge >= std::min(end_bits, kSaturationBits)) break;
    edges.push_back(std::max(edge, threshold_bits));
  }
  return edges;
}

TokenCounts CountsAt(const Histogram& histogram, std::span<const uint32_t> edges) {
  TokenCounts counts;
  counts.from[0] = histogram.values();
  for (uint32_t t = 1; t <= edges.size(); ++t) {
    counts.from[t] = histogram.Reaching(edges[t - 1]);
    if (counts.from[t] == 0) break;
    counts.used = t;
  }
  return counts;
}

}  // namespace

RateControl::RateControl(const Layout& layout, uint32_t bits_milli)
    : layout_(layout), bits_milli_(bits_milli) {}

bool RateControl::Observe(uint64_t first, std::span<const float> chunk) {
  if (pass_ == Pass::kHistogram) return TakeHistograms(first, chunk);
  ForCoded(first, chunk, [&](uint64_t at, std::span<const float> piece) {
    pass_ == Pass::kInsideBin ? LookInside(piece) : CountTies(at, piece);
  });
  return true;
}

template <class Visit>
void RateControl::ForCoded(uint64_t first, std::span<const float> chunk, Visit visit) const {
  const auto cut = layout_.Cut(first, chunk.size());
  if (!cut) return;
  for (size_t c = 0; c < kTensorClasses; ++c) {
    const bool vectors = c == static_cast<size_t>(TensorClass::kVector);
    if (vectors && plan_.vectors != static_cast<uint8_t>(VectorMode::kCoded)) continue;
    for (const Piece& piece : (*cut)[c].pieces) {
      visit(first + piece.begin, chunk.subspan(piece.begin, piece.count));
    }
  }
}

bool RateControl::TakeHistograms(uint64_t first, std::span<const float> chunk) {
  const auto cut = layout_.Cut(first, chunk.size());
  if (!cut) return false;
  ++chunks_;
  elements_ += chunk.size();
  for (size_t c = 0; c < kTensorClasses; ++c) {
    const ChunkSection& section = (*cut)[c];
    if (section.count == 0) continue;
    SectionHistogram histogram;
    for (const Piece& piece : section.pieces) counter_.Add(chunk.subspan(piece.begin, piece.count));
    histogram.values = counter_.Take();
    if (histogram.values.end_bits() > kFloatInfinityBits) return false;
    histogram.rows = static_cast<uint32_t>(section.rows.size());
    for (const Piece& row : section.rows) {
      uint32_t most = 0;
      for (float v : chunk.subspan(row.begin, row.count)) most = std::max(most, MagnitudeBits(v));
      counter_.AddOne(most, row.count);
    }
    if (histogram.rows != 0) histogram.row_maxima = counter_.Take();
    const bool vectors = c == static_cast<size_t>(TensorClass::kVector);
    if (vectors) vector_elements_ += section.count;
    (vectors ? vectors_ : sections_).push_back(std::move(histogram));
  }
  return true;
}

void RateControl::LookInside(std::span<const float> piece) {
  const uint32_t bin = plan_.threshold_bits >> kBinShift;
  for (float v : piece) {
    const uint32_t bits = MagnitudeBits(v);
    if (bits >> kBinShift == bin) ++inside_[(bits & (kBinWidth - 1)) >> kInsideShift];
  }
}

// `wanted_` values between the thresholds get through; then it is over.
void RateControl::CountTies(uint64_t first, std::span<const float> piece) {
  for (size_t i = 0; i < piece.size() && wanted_ > 0; ++i) {
    const uint32_t bits = MagnitudeBits(piece[i]);
    if (bits < plan_.tie_threshold_bits || bits >= plan_.threshold_bits) continue;
    plan_.tie_end = std::max(plan_.tie_end, first + i + 1);
    --wanted_;
  }
}

void RateControl::EndPass() {
  switch (pass_) {
    case Pass::kHistogram:
      return Solve();
    case Pass::kInsideBin:
      return FindInside();
    case Pass::kTies:
    case Pass::kDone:
      pass_ = Pass::kDone;
  }
}

void RateControl::ChooseVectors(uint64_t budget) {
  auto mode = VectorMode::kBf16;
  if (vector_elements_ * 16 * kOneBit > budget / 8) mode = VectorMode::kInt8;
  if (vector_elements_ * 33 / 4 * kOneBit > budget / 4) mode = VectorMode::kCoded;
  plan_.vectors = static_cast<uint8_t>(mode);
  if (mode != VectorMode::kCoded) return;
  for (SectionHistogram& v : vectors_) sections_.push_back(std::move(v));
  vectors_.clear();
  vector_elements_ = 0;
}

// Of chunk heads, and of vectors that are not quantised.
uint64_t RateControl::FixedCost() const {
  const bool half = plan_.vectors == static_cast<uint8_t>(VectorMode::kBf16);
  return (chunks_ * 16 + vectors_.size() * 8 + vector_elements_ * (half ? 64 : 33) / 4) * kOneBit;
}

uint64_t RateControl::Cost(uint32_t threshold_bits) const {
  uint32_t end_bits = 0;
  for (const SectionHistogram& s : sections_) end_bits = std::max(end_bits, s.values.end_bits());
  const std::vector<uint32_t> edges = TokenEdges(threshold_bits, end_bits);
  uint64_t cost = FixedCost();
  for (const SectionHistogram& s : sections_) {
    TokenCounts counts = CountsAt(s.values, edges);
    uint64_t best = CheapestMode(counts).cost;
    if (s.rows != 0 && counts.nonzero() != 0) {
      const uint64_t left = s.row_maxima.Reaching(threshold_bits);
      counts.from[0] = std::max(left, counts.nonzero());
      best = std::min(
          best, CheapestMode(counts).cost + RowsCost(s.rows * left / s.values.values(), s.rows));
    }
    // A section ends with a whole byte.
    cost += best + kOneBit * 4;
  }
  return cost;
}

void RateControl::SetThreshold(uint32_t bits) {
  plan_.threshold_bits = plan_.tie_threshold_bits = bits;
  plan_.step = StepFor(bits);
}

void RateControl::Solve() {
  const auto budget = static_cast<uint64_t>(static_cast<unsigned __int128>(elements_) *
                                            bits_milli_ * kOneBit / 1000);
  ChooseVectors(budget);
  uint32_t high = kMinThresholdBits;
  for (const SectionHistogram& s : sections_) high = std::max(high, s.values.end_bits());
  const uint32_t largest = std::min(high, kSaturationBits);
  uint32_t low = std::max(kMinThresholdBits, largest - std::min(largest, kOctavesBelow << 23));
  if (Cost(low) <= budget) high = low;
  constexpr uint32_t kCloseEnough = 1u << 9;
  while (high - low > kCloseEnough) {
    const uint32_t middle = low + (high - low) / 2;
    (Cost(middle) > budget ? low : high) = middle;
  }
  SetThreshold(high);
  pass_ = Pass::kDone;

  // Where bins differ much from their neighbours, their values are not spread evenly.
  const uint32_t bin = high >> kBinShift;
  uint64_t here = 0, nonzero = 0, below = 0, above = 0, wanted = 0;
  for (const SectionHistogram& s : sections_) {
    here += s.values.InBin(bin);
    below += s.values.InBin(bin - 1);
    above += s.values.InBin(bin + 1);
    nonzero += s.values.Reaching(high);
    wanted += s.values.Reaching(high) - s.values.Reaching((bin + 1) << kBinShift);
  }
  if (16 * here > nonzero && here > 2 * std::min(below, above)) {
    pass_ = Pass::kInsideBin;
    inside_.assign(kBinWidth >> kInsideShift, 0);
    wanted_ = wanted;
  }
}

void RateControl::FindInside() {
  const uint32_t bin_bits = plan_.threshold_bits & ~(kBinWidth - 1);
  auto finer = static_cast<uint32_t>(inside_.size());
  uint64_t above = 0;
  while (finer > 0 && above + inside_[finer - 1] <= wanted_) above += inside_[--finer];
  wanted_ -= above;
  SetThreshold(bin_bits + (finer << kInsideShift));
  pass_ = Pass::kDone;
  if (wanted_ == 0) return;
  plan_.tie_threshold_bits = bin_bits + ((finer - 1) << kInsideShift);
  pass_ = Pass::kTies;
}

}  // namespace longhaul
