// Rate control of the bit-budget codec: one threshold and one step for a whole fragment, such that
// its chunks take as many bytes as the budget allows. Equal distortion weight everywhere is the
// best allocation, so one step serves all tensors; what differs between them (how many values are
// zero) is left to the entropy coder, section by section.
//
// A first pass takes a histogram per section and bisects the threshold; the cost of a section is
// computed from its histogram by the functions that the encoder chooses by. If too many values lie
// in the threshold's own bin (sign-like or constant pseudo-gradients), a second pass looks inside
// it, and a third one lets the first few of exactly equal values through: a threshold that holds
// everything back would do so for ever, because error feedback scales all values alike.
//
// Integers alone (and one product of floats for the step), so every machine finds the same plan.
// One thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compression/codec.h"
#include "compression/histogram.h"
#include "compression/layout.h"

namespace longhaul {

// Steps are bf16 numbers from this on: no product or quotient is subnormal.
inline constexpr float kMinStep = 0x1p-100f;
inline constexpr float kMaxStep = 16.0f;  // twice what a value can be

// How TensorClass::kVector travels (CodecPlan::vectors): bf16 unless that takes more than 1/8 of
// the budget, then int8 unless that takes more than 1/4, then as matrices do.
enum class VectorMode : uint8_t { kBf16 = 0, kInt8 = 1, kCoded = 2 };

// ---- the search, wherever the counts are kept ----

struct FragmentSize {
  uint64_t elements = 0, chunks = 0;
  uint64_t vector_elements = 0, vector_sections = 0;  // of TensorClass::kVector
};
uint64_t BudgetFor(uint64_t elements, uint32_t bits_milli);  // in units of 2^-16 bit
VectorMode VectorModeFor(uint64_t vector_elements, uint64_t budget);
// Of chunk heads, and of vectors that are not quantised.
uint64_t FixedCost(const FragmentSize& size, VectorMode mode);
// The magnitudes from which values have token t or a larger one, for t = 1, 2, ...
std::vector<uint32_t> TokenEdges(uint32_t threshold_bits, uint32_t end_bits);

// Magnitudes of the sections that are quantised, added up.
class MagnitudeCounts {
 public:
  virtual ~MagnitudeCounts() = default;
  virtual uint32_t end_bits() const = 0;  // above every magnitude
  virtual uint64_t Cost(uint32_t threshold_bits) const = 0;
  virtual uint64_t Reaching(uint32_t magnitude_bits) const = 0;
  virtual uint64_t InBin(uint32_t bin) const = 0;
};

struct ThresholdSearch {
  bool look_inside = false;  // too many values lie in the threshold's own bin
  uint64_t wanted = 0;       // how many of them shall get through
};
// Sets step and thresholds of `plan`.
ThresholdSearch FindThreshold(const MagnitudeCounts& counts, uint64_t budget, CodecPlan& plan);

inline constexpr int kInsideShift = 8;  // finer bins are 2^8 bit patterns wide
inline constexpr uint32_t kInsideBins = kBinWidth >> kInsideShift;
// The same with the threshold's bin counted in finer ones; how many values between the plan's two
// thresholds shall still get through, the first ones (CodecPlan::tie_end).
uint64_t FindInsideBin(std::span<const uint64_t> inside, uint64_t wanted, CodecPlan& plan);

class RateControl final : public Planner, private MagnitudeCounts {
 public:
  // `layout` outlives it.
  RateControl(const Layout& layout, uint32_t bits_milli);

  bool done() const override { return pass_ == Pass::kDone; }
  bool Observe(uint64_t first, std::span<const float> chunk) override;
  void EndPass() override;
  CodecPlan plan() const override { return plan_; }

 private:
  enum class Pass { kHistogram, kInsideBin, kTies, kDone };
  struct SectionHistogram {
    Histogram values;
    Histogram row_maxima;  // each as often as its row has values; empty without rows
    uint32_t rows = 0;
  };

  bool TakeHistograms(uint64_t first, std::span<const float> chunk);
  void LookInside(std::span<const float> piece);
  void CountTies(uint64_t first, std::span<const float> piece);
  // Calls visit(first index, piece) for the pieces that are quantised.
  template <class Visit>
  void ForCoded(uint64_t first, std::span<const float> chunk, Visit visit) const;

  void Solve();
  void FindInside();

  uint32_t end_bits() const override;
  uint64_t Cost(uint32_t threshold_bits) const override;
  uint64_t Reaching(uint32_t magnitude_bits) const override;
  uint64_t InBin(uint32_t bin) const override;

  const Layout& layout_;
  const uint32_t bits_milli_;
  Pass pass_ = Pass::kHistogram;
  CodecPlan plan_;
  MagnitudeCounter counter_;
  std::vector<SectionHistogram> sections_;  // to be quantised
  std::vector<SectionHistogram> vectors_;
  FragmentSize size_;
  uint64_t fixed_cost_ = 0;
  // Second pass: the threshold's bin in finer bins, and how many of its values are wanted.
  std::vector<uint64_t> inside_;
  uint64_t wanted_ = 0;
};

}  // namespace longhaul
