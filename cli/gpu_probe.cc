#include "cli/gpu_probe.h"

#include <dlfcn.h>

namespace longhaul {
namespace {

// Of cuda.h, which is not needed to build: results are 0 when all is well.
constexpr int kComputeMajor = 75, kComputeMinor = 76;  // CUdevice_attribute
using Init = int (*)(unsigned);
using DriverVersion = int (*)(int*);
using DeviceCount = int (*)(int*);
using DeviceGet = int (*)(int*, int);
using DeviceName = int (*)(char*, int, int);
using DeviceAttribute = int (*)(int*, int, int);
using DeviceMemory = int (*)(size_t*, int);
using ErrorString = int (*)(int, const char**);
using NcclVersion = int (*)(int*);

template <class Function>
Function Find(void* library, const char* name) {
  return reinterpret_cast<Function>(::dlsym(library, name));
}

std::string NcclOf(const std::string& path) {
  void* library = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  const auto version = library ? Find<NcclVersion>(library, "ncclGetVersion") : nullptr;
  int number = 0;
  if (version == nullptr || version(&number) != 0) return "";
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
         std::to_string(number % 100);
}

GpuFacts::Gpu AskDevice(void* library, int index) {
  GpuFacts::Gpu gpu;
  int device = 0;
  char name[256] = "";
  size_t bytes = 0;
  const auto get = Find<DeviceGet>(library, "cuDeviceGet");
  const auto name_of = Find<DeviceName>(library, "cuDeviceGetName");
  const auto attribute = Find<DeviceAttribute>(library, "cuDeviceGetAttribute");
  const auto memory = Find<DeviceMemory>(library, "cuDeviceTotalMem_v2");
  if (get == nullptr || get(&device, index) != 0) return gpu;
  if (name_of != nullptr) name_of(name, sizeof name - 1, device);
  if (attribute != nullptr) {
    attribute(&gpu.major, kComputeMajor, device);
    attribute(&gpu.minor, kComputeMinor, device);
  }
  if (memory != nullptr) memory(&bytes, device);
  gpu.name = name;
  gpu.memory_bytes = bytes;
  return gpu;
}

}  // namespace

GpuFacts ProbeGpu(const std::string& driver, const std::string& nccl) {
  GpuFacts facts;
  void* library = ::dlopen(driver.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return facts;
  facts.driver = true;
  facts.nccl = NcclOf(nccl);
  const auto init = Find<Init>(library, "cuInit");
  const auto version = Find<DriverVersion>(library, "cuDriverGetVersion");
  const auto count = Find<DeviceCount>(library, "cuDeviceGetCount");
  if (init == nullptr || version == nullptr || count == nullptr) {
    facts.problem = driver + " is no CUDA driver";
    return facts;
  }
  version(&facts.cuda_version);
  const int result = init(0);
  if (result != 0) {
    const char* text = nullptr;
    const auto error = Find<ErrorString>(library, "cuGetErrorString");
    if (error != nullptr) error(result, &text);
    facts.problem = text != nullptr ? text : "error " + std::to_string(result);
    return facts;
  }
  int devices = 0;
  count(&devices);
  for (int i = 0; i < devices; ++i) facts.gpus.push_back(AskDevice(library, i));
  return facts;
}

}  // namespace longhaul
