// Inside of the plug-in: fills the members for fragments and devices of its table.
#pragma once

#include "compression/cuda/plugin.h"

namespace longhaul::cuda {

void AddFragments(LonghaulCudaPlugin& table);
// Copies a sentence into a caller's `error`.
void CopyText(const char* text, char* out, uint64_t size);

}  // namespace longhaul::cuda
