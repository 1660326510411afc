// Tests and benchmarks: a Storage in memory that can run full. Nothing is lost by not syncing;
// tests tear files themselves.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/storage.h"

namespace longhaul {

class MemoryStorage : public Storage {
 public:
  std::map<std::string, std::string> files;
  uint64_t free_bytes = UINT64_MAX;  // of appends to come
  std::mutex mutex;                  // over both

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override {
    std::lock_guard lock(mutex);
    std::string& file = files[path];
    if (truncate) file.clear();
    return std::make_unique<File>(*this, path);
  }
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                   uint64_t size) override {
    std::lock_guard lock(mutex);
    const auto it = files.find(path);
    if (it == files.end()) return absl::NotFoundError(path);
    return offset >= it->second.size() ? std::string() : it->second.substr(offset, size);
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    std::lock_guard lock(mutex);
    const auto it = files.find(path);
    if (it == files.end()) return absl::NotFoundError(path);
    return it->second.size();
  }
  bool Exists(const std::string& path) override {
    std::lock_guard lock(mutex);
    return files.contains(path);
  }
  std::vector<std::string> List(const std::string& folder) override {
    std::lock_guard lock(mutex);
    const std::string prefix = folder.empty() ? "" : folder + "/";
    std::vector<std::string> names;
    for (const auto& [path, bytes] : files) {
      if (!path.starts_with(prefix)) continue;
      const std::string name =
          path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size());
      if (names.empty() || names.back() != name) names.push_back(name);
    }
    return names;
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    std::lock_guard lock(mutex);
    auto node = files.extract(from);
    if (node.empty()) return absl::NotFoundError(from);
    files[to] = std::move(node.mapped());
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    std::lock_guard lock(mutex);
    std::erase_if(files, [&](const auto& file) {
      return file.first == path || file.first.starts_with(path + "/");
    });
    return absl::OkStatus();
  }
  absl::Status MakeFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncFolder(const std::string&) override { return absl::OkStatus(); }

 private:
  class File : public AppendFile {
   public:
    File(MemoryStorage& storage, std::string path) : storage_(storage), path_(std::move(path)) {}
    // What fits is written, as a disk does.
    absl::Status Append(ByteSpan bytes) override {
      std::lock_guard lock(storage_.mutex);
      const size_t size = std::min<uint64_t>(bytes.size(), storage_.free_bytes);
      storage_.files[path_].append(reinterpret_cast<const char*>(bytes.data()), size);
      storage_.free_bytes -= size;
      return size == bytes.size() ? absl::OkStatus() : absl::ResourceExhaustedError("disk full");
    }
    absl::Status Sync() override { return absl::OkStatus(); }

   private:
    MemoryStorage& storage_;
    const std::string path_;
  };
};

}  // namespace longhaul
