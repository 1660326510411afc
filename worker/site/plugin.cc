#include "worker/site/plugin.h"

#include <dlfcn.h>

#include <filesystem>

#include "absl/strings/str_cat.h"

namespace longhaul {
namespace {

std::string Locate(const std::string& path) {
  if (path.find('/') != std::string::npos) return path;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = program.parent_path() / path;
  return std::filesystem::exists(beside, error) ? beside.string() : path;
}

}  // namespace

absl::StatusOr<const LonghaulCudaPlugin*> LoadCudaPlugin(const std::string& path) {
  void* library = ::dlopen(Locate(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = ::dlerror();
    return absl::NotFoundError(
        absl::StrCat("the CUDA plug-in cannot be loaded (", reason != nullptr ? reason : path,
                     "): build it with cmake --preset cuda, or go on without "
                     "it: codecs then run on the processor"));
  }
  using Table = const LonghaulCudaPlugin* (*)();
  const auto table = reinterpret_cast<Table>(::dlsym(library, LONGHAUL_CUDA_SYMBOL));
  const LonghaulCudaPlugin* plugin = table != nullptr ? table() : nullptr;
  if (plugin == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not Longhaul's CUDA plug-in; remove it, or build it again"));
  }
  if (plugin->abi != LONGHAUL_CUDA_ABI || plugin->size != sizeof(LonghaulCudaPlugin)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is of another version of Longhaul (interface ", plugin->abi, ", this program has ",
        LONGHAUL_CUDA_ABI, "); build both together with cmake --preset cuda"));
  }
  char text[256] = "", error[512] = "";
  if (plugin->describe(text, sizeof text, error, sizeof error) != LONGHAUL_CUDA_OK) {
    return absl::FailedPreconditionError(absl::StrCat("the CUDA plug-in cannot be used: ", error));
  }
  return plugin;
}

}  // namespace longhaul
