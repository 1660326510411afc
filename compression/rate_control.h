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

class RateControl final : public Planner {
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
  void ChooseVectors(uint64_t budget);
  uint64_t Cost(uint32_t threshold_bits) const;
  uint64_t FixedCost() const;
  void FindInside();
  void SetThreshold(uint32_t bits);

  const Layout& layout_;
  const uint32_t bits_milli_;
  Pass pass_ = Pass::kHistogram;
  CodecPlan plan_;
  MagnitudeCounter counter_;
  std::vector<SectionHistogram> sections_;  // to be quantised
  std::vector<SectionHistogram> vectors_;
  uint64_t elements_ = 0, vector_elements_ = 0, chunks_ = 0;
  // Second pass: the threshold's bin in finer bins, and how many of its values are wanted.
  std::vector<uint64_t> inside_;
  uint64_t wanted_ = 0;
};

}  // namespace longhaul
