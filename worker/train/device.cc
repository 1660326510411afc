#include "worker/train/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <filesystem>

#include "absl/strings/str_cat.h"

namespace longhaul {
namespace {

// RTLD_GLOBAL, because the library registers its kernels with the CPU half by its constructors and
// other plug-ins link against it. Found by the program's rpath to torch/lib. Never unloaded.
absl::StatusOr<Device> LoadCuda() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("the CUDA half of LibTorch cannot be loaded: ", dlerror(),
                     " (./setup.sh --gpu installs it; or use device = \"cpu\")"));
  }
  int devices = 0;
  try {
    devices = at::detail::getCUDAHooks().deviceCount();
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(absl::StrCat("CUDA does not start: ", e.what()));
  }
  if (devices <= 0) {
    return absl::FailedPreconditionError(
        "CUDA is installed but sees no GPU (does nvidia-smi show one? or use device = \"cpu\")");
  }
  return Device{"cuda", absl::StrCat("CUDA, ", devices, devices == 1 ? " GPU" : " GPUs")};
}

}  // namespace

absl::StatusOr<Device> ResolveDevice(const std::string& name) {
  if (name == "cpu") return Device{"cpu", "CPU"};
  if (name != "cuda" && name != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", name, "\" is unknown; there are cpu, cuda and auto"));
  }
  // Without a driver there is nothing to load, and nothing to complain about.
  if (name == "auto" && !std::filesystem::exists("/proc/driver/nvidia/version")) {
    return Device{"cpu", "CPU"};
  }
  absl::StatusOr<Device> cuda = LoadCuda();
  if (cuda.ok() || name == "cuda") return cuda;
  return Device{"cpu", absl::StrCat("CPU (no GPU: ", std::string(cuda.status().message()), ")")};
}

}  // namespace longhaul
