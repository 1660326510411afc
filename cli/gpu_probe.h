// What this machine's NVIDIA driver says about its GPUs. The driver's library is loaded for the
// question; nothing links it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longhaul {

struct GpuFacts {
  struct Gpu {
    std::string name;
    int major = 0, minor = 0;  // compute capability
    uint64_t memory_bytes = 0;
  };
  bool driver = false;   // its library could be loaded
  std::string problem;   // why the driver does not start; "" when it does
  int cuda_version = 0;  // the newest that the driver can run: 13000 is 13.0
  std::vector<Gpu> gpus;
  std::string nccl;  // "2.28.9"; "" when no NCCL is found
};

// `driver` and `nccl`: libraries, by name or path.
GpuFacts ProbeGpu(const std::string& driver = "libcuda.so.1",
                  const std::string& nccl = "libnccl.so.2");

}  // namespace longhaul
