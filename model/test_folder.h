// Tests only: a fresh folder that disappears with its owner.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>

#include "common/check.h"
#include "common/storage.h"

namespace longhaul {

class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "longhaul-XXXXXX").string();
    LONGHAUL_CHECK(mkdtemp(pattern.data()) != nullptr, "no temporary folder");
    path_ = pattern;
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::unique_ptr<Storage> Open() const { return OpenFileStorage(path_).value(); }

 private:
  std::string path_;
};

// Plain write, no sync: for damaging files.
inline void Overwrite(Storage& storage, const std::string& path, const std::string& bytes) {
  auto file = storage.OpenAppend(path, /*truncate=*/true);
  LONGHAUL_CHECK(file.ok() && (*file)->Append(AsBytes(std::string_view(bytes))).ok(), "no write");
}

}  // namespace longhaul
