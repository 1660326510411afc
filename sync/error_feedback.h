// Error feedback and rebasing: what coding dropped goes out with the next contribution (Seide et
// al. 2014; Karimireddy et al. 2019), and local progress survives an outer step.
//
// `decay` is beta; a negative one means no error feedback: the residual is then never read nor
// written, and its span may be empty. Pure functions in float32; otherwise spans of one call have
// the same size. They may be called piecewise.
//
// A worker, for one fragment:
//   send          WithResidual(decay, e, base, sent = local, coded); encode coded
//   included      ResidualAfter(decay, base, sent, decoded, e); Rebase(sent, new global, local)
//   not included  Rebase(base, new global, local); e stays as it was
// A reducer: AddResidual(decay, e, mean); encode and decode it; ResidualOf(mean, decoded, e).
#pragma once

#include <span>

namespace longhaul {

// coded = decay * residual + (base - local): the pseudo-gradient with what is still owed.
void WithResidual(float decay, std::span<const float> residual, std::span<const float> base,
                  std::span<const float> local, std::span<float> coded);

// residual <- (decay * residual + (base - sent)) - decoded, where `decoded` is what every receiver
// makes of the coded bytes.
void ResidualAfter(float decay, std::span<const float> base, std::span<const float> sent,
                   std::span<const float> decoded, std::span<float> residual);

// local <- new_global + (local - from): `from` is what was sent when it was included, else the old
// global parameters.
void Rebase(std::span<const float> from, std::span<const float> new_global, std::span<float> local);

// delta <- decay * residual + delta.
void AddResidual(float decay, std::span<const float> residual, std::span<float> delta);

// residual <- coded - decoded.
void ResidualOf(std::span<const float> coded, std::span<const float> decoded,
                std::span<float> residual);

}  // namespace longhaul
