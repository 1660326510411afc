// Inside of the plug-in: fills the members for groups of its table.
#pragma once

#include "compression/cuda/plugin.h"

namespace longhaul::cuda {

void AddGroups(LonghaulCudaPlugin& table);

}  // namespace longhaul::cuda
