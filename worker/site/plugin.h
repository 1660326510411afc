// Loads liblonghaul_cuda.so (compression/cuda/plugin.h): device codecs and groups of GPUs.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "compression/cuda/plugin.h"

namespace longhaul {

inline constexpr char kCudaPluginName[] = "liblonghaul_cuda.so";

// Never unloaded; call it again for the same table. `path` with a slash, or a name that is looked
// for beside the program, then where the loader looks. NotFound when there is none,
// FailedPrecondition when it is of another version or does not fit this machine's NCCL: one
// sentence each, with what to do.
absl::StatusOr<const LonghaulCudaPlugin*> LoadCudaPlugin(const std::string& path = kCudaPluginName);

}  // namespace longhaul
