#include "sync/error_feedback.h"

#include "common/check.h"

namespace longhaul {

void WithResidual(float decay, std::span<const float> residual, std::span<const float> base,
                  std::span<const float> local, std::span<float> coded) {
  LONGHAUL_CHECK(base.size() == local.size() && base.size() == coded.size(), "sizes differ");
  for (size_t i = 0; i < coded.size(); ++i) coded[i] = base[i] - local[i];
  AddResidual(decay, residual, coded);
}

void ResidualAfter(float decay, std::span<const float> base, std::span<const float> sent,
                   std::span<const float> decoded, std::span<float> residual) {
  if (decay < 0) return;
  LONGHAUL_CHECK(
      base.size() == sent.size() && base.size() == decoded.size() && base.size() == residual.size(),
      "sizes differ");
  for (size_t i = 0; i < residual.size(); ++i) {
    residual[i] = (decay * residual[i] + (base[i] - sent[i])) - decoded[i];
  }
}

void Rebase(std::span<const float> from, std::span<const float> new_global,
            std::span<float> local) {
  LONGHAUL_CHECK(from.size() == local.size() && new_global.size() == local.size(), "sizes differ");
  for (size_t i = 0; i < local.size(); ++i) local[i] = new_global[i] + (local[i] - from[i]);
}

void AddResidual(float decay, std::span<const float> residual, std::span<float> delta) {
  if (decay < 0) return;
  LONGHAUL_CHECK(residual.size() == delta.size(), "sizes differ");
  for (size_t i = 0; i < delta.size(); ++i) delta[i] = decay * residual[i] + delta[i];
}

void ResidualOf(std::span<const float> coded, std::span<const float> decoded,
                std::span<float> residual) {
  LONGHAUL_CHECK(coded.size() == decoded.size() && coded.size() == residual.size(), "sizes differ");
  for (size_t i = 0; i < residual.size(); ++i) residual[i] = coded[i] - decoded[i];
}

}  // namespace longhaul
