// Where tensors live. The CUDA half of LibTorch is not linked: it is loaded at run time when it is
// asked for and installed beside the CPU half.
//
// Thread rule: call before anything else uses LibTorch (it remembers its first look for a GPU).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace longhaul {

struct Device {
  std::string name;         // "cpu", or "cuda:0" and so on
  std::string description;  // for people: "CPU", "CUDA, 1 GPU", "CPU (no GPU: ...)"
  int index = 0;            // of the GPU
};

// "cpu", "cuda" (the first GPU), "cuda:N" or "auto" (cuda when it works, else cpu with the reason
// in the description). InvalidArgument for another name; FailedPrecondition, with the cause and the
// next step, when "cuda" is asked for and cannot be had.
absl::StatusOr<Device> ResolveDevice(const std::string& name);

// ResourceExhausted, with both numbers and what helps, when the device has less than `needed_bytes`
// free; Ok when nobody can tell.
absl::Status CheckDeviceMemory(const Device& device, uint64_t needed_bytes);
// The same judgement of given numbers.
absl::Status JudgeDeviceMemory(uint64_t free_bytes, uint64_t needed_bytes);

}  // namespace longhaul
