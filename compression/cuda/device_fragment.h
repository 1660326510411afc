// One fragment of a worker on its device: θ̄, residual and θ as sent are kept there, so that a
// contribution is computed and coded without leaving it, and only coded bytes cross to the host.
// What counts is the host's θ̄ (the outer step is made there, for the same bits everywhere): it is
// written here after every outer step.
//
// Thread rule: one thread. Memory on the device: 12 bytes per value (8 without error feedback) and
// what FragmentCoder takes.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "compression/cuda/fragment_coder.h"

namespace longhaul::cuda {

template <class Engine>
class DeviceFragment {
 public:
  // `decay`: of the residual; negative: no error feedback.
  DeviceFragment(Engine& engine, typename FragmentCoder<Engine>::Options options, float decay)
      : engine_(engine),
        elements_(options.elements),
        decay_(decay),
        base_(engine, elements_),
        sent_(engine, elements_),
        residual_(engine, decay < 0 ? 0 : elements_),
        coder_(engine, std::move(options)) {}
  bool ok() const { return base_.ok() && sent_.ok() && residual_.ok() && coder_.ok(); }

  // All take values [at, at + n) of the fragment; false when they are not inside, or on an error.
  bool WriteBase(uint64_t at, const float* host, uint64_t n) {
    return Inside(at, n) && engine_.ToDevice(base_.data() + at, host, n * sizeof(float));
  }
  bool WriteResidual(uint64_t at, const float* host, uint64_t n) {
    return decay_ >= 0 && Inside(at, n) &&
           engine_.ToDevice(residual_.data() + at, host, n * sizeof(float));
  }
  bool ReadResidual(uint64_t at, float* host, uint64_t n) {
    return decay_ >= 0 && Inside(at, n) &&
           engine_.ToHost(host, residual_.data() + at, n * sizeof(float));
  }
  bool ReadSent(uint64_t at, float* host, uint64_t n) {
    return Inside(at, n) && engine_.ToHost(host, sent_.data() + at, n * sizeof(float));
  }
  // θ, from device memory, is remembered as sent.
  bool Collect(uint64_t at, const float* theta, uint64_t n) {
    return Inside(at, n) && engine_.Copy(sent_.data() + at, theta, n * sizeof(float));
  }

  // e' = decay · e + (θ̄ − θ as sent), coded.
  CoderResult Encode(CodedBytes& out) { return coder_.Encode(Delta(), out); }
  // The contribution was included: e ← e' − decode(code).
  CoderResult Included(std::span<const uint8_t> code, std::span<const uint32_t> sizes) {
    if (decay_ < 0) return CoderResult::kOk;
    return coder_.Decode(
        code, sizes,
        {.kind = Output::Kind::kResidual, .input = Delta(), .residual = residual_.data()});
  }
  // sum += weight · decode(code) on the grid of exact sums; `sum` is in device memory.
  CoderResult Accumulate(std::span<const uint8_t> code, std::span<const uint32_t> sizes,
                         uint32_t weight, uint64_t* sum) {
    return coder_.Decode(code, sizes, {.kind = Output::Kind::kSum, .sum = sum, .weight = weight});
  }

 private:
  bool Inside(uint64_t at, uint64_t n) const { return at <= elements_ && n <= elements_ - at; }
  Input Delta() const { return {sent_.data(), base_.data(), residual_.data(), decay_}; }

  Engine& engine_;
  const uint64_t elements_;
  const float decay_;
  Array<float, Engine> base_, sent_, residual_;
  FragmentCoder<Engine> coder_;
};

}  // namespace longhaul::cuda
