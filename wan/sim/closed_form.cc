#include "wan/sim/closed_form.h"

#include <algorithm>
#include <vector>

#include "common/rng.h"

namespace longhaul::sim {

std::array<Move, kMovesPerPosition> MovesOf(uint64_t seed, uint64_t position, FragmentId fragment,
                                            uint64_t elements) {
  std::array<Move, kMovesPerPosition> moves;
  for (int i = 0; i < kMovesPerPosition; ++i) {
    const uint64_t draw = Draw(seed, {position, fragment.value, static_cast<uint64_t>(i)});
    moves[i] = {(draw >> 1) % elements, (draw & 1) ? kMove : -kMove};
  }
  return moves;
}

namespace {

class ClosedFormTrainer : public Trainer {
 public:
  ClosedFormTrainer(uint64_t seed, std::vector<FragmentLayout> layout)
      : seed_(seed), layout_(std::move(layout)) {
    for (const FragmentLayout& fragment : layout_) {
      std::vector<uint64_t>& flat = flat_.emplace_back();
      for (const ParameterSpan& span : fragment.spans) {
        for (uint64_t i = 0; i < span.count; ++i) flat.push_back(span.offset + i);
      }
      theta_.resize(theta_.size() + fragment.elements);
    }
  }

  uint64_t parameters() const override { return theta_.size(); }
  void SetParameters(uint64_t offset, std::span<const float> values) override {
    std::copy(values.begin(), values.end(), theta_.begin() + static_cast<ptrdiff_t>(offset));
  }
  void GetParameters(uint64_t offset, std::span<float> out) const override {
    std::copy_n(theta_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
  }
  void ResetInnerState() override {}

  absl::StatusOr<StepOutput> Step(const StepInput& input) override {
    for (uint64_t position : input.positions) {
      for (uint64_t f = 0; f < flat_.size(); ++f) {
        for (const Move& m : MovesOf(seed_, position, FragmentId{f}, flat_[f].size()))
          theta_[flat_[f][m.element]] += m.change;
      }
    }
    return StepOutput{1.0, input.positions.size()};
  }
  absl::StatusOr<StepOutput> Evaluate(std::span<const float>, std::span<const uint16_t>) override {
    return StepOutput{1.0, 1};
  }
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float>, std::span<const uint16_t>,
                                               uint32_t, uint64_t) override {
    return std::vector<uint16_t>{};
  }

 private:
  const uint64_t seed_;
  const std::vector<FragmentLayout> layout_;
  std::vector<std::vector<uint64_t>> flat_;  // own numbering -> flat, by fragment
  std::vector<float> theta_;
};

}  // namespace

std::unique_ptr<Trainer> MakeClosedFormTrainer(uint64_t seed, std::vector<FragmentLayout> layout) {
  return std::make_unique<ClosedFormTrainer>(seed, std::move(layout));
}

}  // namespace longhaul::sim
