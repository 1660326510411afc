// float32 and bfloat16, value by value, little-endian. Magnitudes above kMaxMagnitude are cut.
#pragma once

#include "compression/codec.h"

namespace longhaul {

const Codec& Float32Codec();
const Codec& Bf16Codec();

}  // namespace longhaul
