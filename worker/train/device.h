// Where tensors live. The CUDA half of LibTorch is not linked: it is loaded at run time when it is
// asked for and installed beside the CPU half.
//
// Thread rule: call before anything else uses LibTorch (it remembers its first look for a GPU).
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace longhaul {

struct Device {
  std::string name;         // "cpu" or "cuda"
  std::string description;  // for people: "CPU", "CUDA, 1 GPU", "CPU (no GPU: ...)"
};

// "cpu", "cuda" or "auto" (cuda when it works, else cpu with the reason in the description).
// InvalidArgument for another name; FailedPrecondition, with the cause and the next step, when
// "cuda" is asked for and cannot be had.
absl::StatusOr<Device> ResolveDevice(const std::string& name);

}  // namespace longhaul
