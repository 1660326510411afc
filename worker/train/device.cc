#include "worker/train/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace longhaul {
namespace {

// RTLD_GLOBAL, because the library registers its kernels with the CPU half by its constructors and
// other plug-ins link against it. Found by the program's rpath to torch/lib. Never unloaded.
absl::StatusOr<Device> LoadCuda(int index) {
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
  if (index >= devices) {
    return absl::FailedPreconditionError(
        absl::StrCat("GPU ", index, " is wanted, and there are ", devices,
                     " (several ranks on one machine need a GPU each)"));
  }
  return Device{absl::StrCat("cuda:", index),
                absl::StrCat("CUDA, ", devices, devices == 1 ? " GPU" : " GPUs"), index};
}

// N of "cuda:N", 0 for "cuda"; -1 for another name.
int IndexOf(const std::string& name) {
  if (name == "cuda") return 0;
  int index = 0;
  if (!name.starts_with("cuda:") || !absl::SimpleAtoi(name.substr(5), &index)) return -1;
  return index;
}

constexpr double kReserve = 0.05;  // of what is free: CUDA's own, and what fragmentation costs

}  // namespace

absl::StatusOr<Device> ResolveDevice(const std::string& name) {
  if (name == "cpu") return Device{"cpu", "CPU"};
  const int index = name == "auto" ? 0 : IndexOf(name);
  if (index < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", name, "\" is unknown; there are cpu, cuda, cuda:N and auto"));
  }
  // Without a driver there is nothing to load, and nothing to complain about.
  if (name == "auto" && !std::filesystem::exists("/proc/driver/nvidia/version")) {
    return Device{"cpu", "CPU"};
  }
  absl::StatusOr<Device> cuda = LoadCuda(index);
  if (cuda.ok() || name != "auto") return cuda;
  return Device{"cpu", absl::StrCat("CPU (no GPU: ", std::string(cuda.status().message()), ")")};
}

absl::Status JudgeDeviceMemory(uint64_t free_bytes, uint64_t needed_bytes) {
  const auto usable = static_cast<uint64_t>(static_cast<double>(free_bytes) * (1 - kReserve));
  if (needed_bytes <= usable) return absl::OkStatus();
  auto gb = [](uint64_t bytes) {
    return absl::StrFormat("%.1f GB", static_cast<double>(bytes) / 1e9);
  };
  return absl::ResourceExhaustedError(absl::StrCat(
      "training needs about ", gb(needed_bytes), " of GPU memory, and ", gb(usable),
      " can be had: a smaller per_device_train_batch_size or sequence_length needs less"));
}

absl::Status CheckDeviceMemory(const Device& device, uint64_t needed_bytes) {
  // The runtime came with LibTorch's CUDA half; its functions return 0 when all is well.
  using SetDevice = int (*)(int);
  using MemGetInfo = int (*)(size_t*, size_t*);
  const auto set = reinterpret_cast<SetDevice>(dlsym(RTLD_DEFAULT, "cudaSetDevice"));
  const auto get = reinterpret_cast<MemGetInfo>(dlsym(RTLD_DEFAULT, "cudaMemGetInfo"));
  size_t free_bytes = 0, total_bytes = 0;
  if (set == nullptr || get == nullptr || set(device.index) != 0 ||
      get(&free_bytes, &total_bytes) != 0) {
    return absl::OkStatus();
  }
  return JudgeDeviceMemory(free_bytes, needed_bytes);
}

}  // namespace longhaul
