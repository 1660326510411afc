// Tests only: a plug-in of another version, or (FAKE_ABI is ours) one beside an NCCL that is too
// old.
#include <cstring>

#include "compression/cuda/plugin.h"

extern "C" __attribute__((visibility("default"))) const LonghaulCudaPlugin* longhaul_cuda_plugin() {
  static const LonghaulCudaPlugin table = [] {
    LonghaulCudaPlugin t{};
    t.abi = FAKE_ABI;
    t.size = sizeof t;
    t.describe = [](char*, uint64_t, char* error, uint64_t size) -> int {
      std::strncpy(error, "NCCL 2.1.0 was loaded, but this plug-in needs a newer one", size - 1);
      return LONGHAUL_CUDA_DEVICE;
    };
    return t;
  }();
  return &table;
}
