#include "cli/small_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace longhaul {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return absl::NotFoundError("cannot open " + path + ": " + std::strerror(errno));
  std::string text(max_bytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get())) {
    return absl::NotFoundError("cannot read " + path + ": " + std::strerror(errno));
  }
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(path + " is larger than " + std::to_string(max_bytes) +
                                      " bytes: not a file of this kind");
  }
  return text;
}

}  // namespace longhaul
