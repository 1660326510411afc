#include "compression/rate_control.h"

#include <algorithm>
#include <bit>

#include "compression/bf16.h"
#include "compression/integer_log.h"
#include "compression/quantiser.h"
#include "compression/section_cost.h"

namespace longhaul {
namespace {

constexpr uint32_t kSaturationBits = std::bit_cast<uint32_t>(kSaturation);
constexpr uint32_t kMinThresholdBits = std::bit_cast<uint32_t>(kMinStep);
// No level may pass kMaxLevel, whatever the largest value: the step is above its 2^-20.
constexpr uint32_t kOctavesBelow = 19;

uint32_t MagnitudeBits(float v) { return std::bit_cast<uint32_t>(v) & kFloatMagnitudeMask; }

uint16_t StepFor(uint32_t threshold_bits) {
  return ToBf16(std::clamp(std::bit_cast<float>(threshold_bits) * 1.5f, kMinStep, kMaxStep));
}

void SetThreshold(uint32_t bits, CodecPlan& plan) {
  plan.threshold_bits = plan.tie_threshold_bits = bits;
  plan.step = StepFor(bits);
}

}  // namespace

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

uint64_t BudgetFor(uint64_t elements, uint32_t bits_milli) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(elements) * bits_milli * kOneBit /
                               1000);
}

VectorMode VectorModeFor(uint64_t vector_elements, uint64_t budget) {
  if (vector_elements * 16 * kOneBit <= budget / 8) return VectorMode::kBf16;
  if (vector_elements * 33 / 4 * kOneBit <= budget / 4) return VectorMode::kInt8;
  return VectorMode::kCoded;
}

uint64_t FixedCost(const FragmentSize& size, VectorMode mode) {
  if (mode == VectorMode::kCoded) return size.chunks * 16 * kOneBit;
  const uint64_t quarters = mode == VectorMode::kBf16 ? 64 : 33;
  return (size.chunks * 16 + size.vector_sections * 8 + size.vector_elements * quarters / 4) *
         kOneBit;
}

ThresholdSearch FindThreshold(const MagnitudeCounts& counts, uint64_t budget, CodecPlan& plan) {
  uint32_t high = std::max(kMinThresholdBits, counts.end_bits());
  const uint32_t largest = std::min(high, kSaturationBits);
  uint32_t low = std::max(kMinThresholdBits, largest - std::min(largest, kOctavesBelow << 23));
  if (counts.Cost(low) <= budget) high = low;
  constexpr uint32_t kCloseEnough = 1u << 9;
  while (high - low > kCloseEnough) {
    const uint32_t middle = low + (high - low) / 2;
    (counts.Cost(middle) > budget ? low : high) = middle;
  }
  SetThreshold(high, plan);
  // Where bins differ much from their neighbours, their values are not spread evenly.
  const uint32_t bin = high >> kBinShift;
  const uint64_t here = counts.InBin(bin), nonzero = counts.Reaching(high);
  ThresholdSearch search;
  search.look_inside =
      16 * here > nonzero && here > 2 * std::min(counts.InBin(bin - 1), counts.InBin(bin + 1));
  if (search.look_inside) search.wanted = nonzero - counts.Reaching((bin + 1) << kBinShift);
  return search;
}

uint64_t FindInsideBin(std::span<const uint64_t> inside, uint64_t wanted, CodecPlan& plan) {
  const uint32_t bin_bits = plan.threshold_bits & ~(kBinWidth - 1);
  auto finer = static_cast<uint32_t>(inside.size());
  uint64_t above = 0;
  while (finer > 0 && above + inside[finer - 1] <= wanted) above += inside[--finer];
  wanted -= above;
  SetThreshold(bin_bits + (finer << kInsideShift), plan);
  if (wanted != 0) plan.tie_threshold_bits = bin_bits + ((finer - 1) << kInsideShift);
  return wanted;
}

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
  ++size_.chunks;
  size_.elements += chunk.size();
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
    if (vectors) {
      size_.vector_elements += section.count;
      ++size_.vector_sections;
    }
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

void RateControl::Solve() {
  const uint64_t budget = BudgetFor(size_.elements, bits_milli_);
  const VectorMode mode = VectorModeFor(size_.vector_elements, budget);
  plan_.vectors = static_cast<uint8_t>(mode);
  if (mode == VectorMode::kCoded) {
    for (SectionHistogram& v : vectors_) sections_.push_back(std::move(v));
    vectors_.clear();
  }
  fixed_cost_ = FixedCost(size_, mode);
  const ThresholdSearch search = FindThreshold(*this, budget, plan_);
  pass_ = Pass::kDone;
  if (!search.look_inside) return;
  pass_ = Pass::kInsideBin;
  inside_.assign(kInsideBins, 0);
  wanted_ = search.wanted;
}

uint32_t RateControl::end_bits() const {
  uint32_t end = 0;
  for (const SectionHistogram& s : sections_) end = std::max(end, s.values.end_bits());
  return end;
}

uint64_t RateControl::Cost(uint32_t threshold_bits) const {
  const std::vector<uint32_t> edges = TokenEdges(threshold_bits, end_bits());
  uint64_t cost = fixed_cost_;
  for (const SectionHistogram& s : sections_) {
    cost += SectionCostAt(s.values, s.row_maxima, s.rows, threshold_bits, edges.data(),
                          static_cast<uint32_t>(edges.size()));
  }
  return cost;
}

uint64_t RateControl::Reaching(uint32_t magnitude_bits) const {
  uint64_t sum = 0;
  for (const SectionHistogram& s : sections_) sum += s.values.Reaching(magnitude_bits);
  return sum;
}

uint64_t RateControl::InBin(uint32_t bin) const {
  uint64_t sum = 0;
  for (const SectionHistogram& s : sections_) sum += s.values.InBin(bin);
  return sum;
}

void RateControl::FindInside() {
  wanted_ = FindInsideBin(inside_, wanted_, plan_);
  pass_ = wanted_ == 0 ? Pass::kDone : Pass::kTies;
}

}  // namespace longhaul
