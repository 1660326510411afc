#include "sync/outer_step.h"

#include "common/check.h"

namespace longhaul {
namespace {

struct Stepped {
  float parameter;
  float b;
};

inline Stepped StepOne(float delta, float lr, float momentum, float parameter, float b) {
  const float new_b = momentum * b + delta;
  return {parameter - lr * (delta + momentum * new_b), new_b};
}

}  // namespace

void NesterovStep(std::span<const float> delta, float lr, float momentum,
                  std::span<float> parameters, std::span<float> b) {
  LONGHAUL_CHECK(delta.size() == parameters.size() && delta.size() == b.size(), "sizes differ");
  for (size_t i = 0; i < delta.size(); ++i) {
    const Stepped next = StepOne(delta[i], lr, momentum, parameters[i], b[i]);
    parameters[i] = next.parameter;
    b[i] = next.b;
  }
}

void NesterovStepTo(std::span<const float> delta, float lr, float momentum,
                    std::span<const float> parameters, std::span<const float> b,
                    std::span<float> new_parameters, std::span<float> new_b) {
  LONGHAUL_CHECK(delta.size() == parameters.size() && delta.size() == b.size() &&
                     delta.size() == new_parameters.size() && delta.size() == new_b.size(),
                 "sizes differ");
  for (size_t i = 0; i < delta.size(); ++i) {
    const Stepped next = StepOne(delta[i], lr, momentum, parameters[i], b[i]);
    new_parameters[i] = next.parameter;
    new_b[i] = next.b;
  }
}

}  // namespace longhaul
