// Tests only: a disk in memory that can lose power. After `PowerOffAfter(n)` the n-th changing call
// and everything later fails; `Restart` then keeps what was durable, of unsynced bytes a random
// part, and of unsynced names none.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "common/storage.h"

namespace longhaul {

class TestStorage : public Storage {
 public:
  void PowerOffAfter(uint64_t changes) { power_ = changes; }
  uint64_t changes() const { return changes_; }
  void Restart(uint64_t seed) {
    Rng rng(seed);
    power_ = UINT64_MAX;
    live_ = durable_;
    for (auto& [path, file] : live_) {
      file->bytes.resize(file->synced + rng.Below(file->bytes.size() - file->synced + 1));
      if (file->bytes.size() > file->synced && rng.Chance(1, 2)) file->bytes.back() ^= 1;
      file->synced = file->bytes.size();
    }
  }
  // For tests that damage files.
  std::string* Bytes(const std::string& path) {
    const auto it = live_.find(path);
    return it == live_.end() ? nullptr : &it->second->bytes;
  }

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override {
    if (!Change()) return Off();
    std::shared_ptr<File>& file = live_[path];
    if (file == nullptr) file = std::make_shared<File>();
    if (truncate) file->bytes.clear(), file->synced = 0;
    return std::unique_ptr<AppendFile>(std::make_unique<Handle>(this, file));
  }
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                   uint64_t size) override {
    if (power_ == 0) return Off();
    const std::string* bytes = Bytes(path);
    if (bytes == nullptr) return absl::NotFoundError(path);
    return offset >= bytes->size() ? std::string() : bytes->substr(offset, size);
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    const std::string* bytes = Bytes(path);
    if (bytes == nullptr) return absl::NotFoundError(path);
    return bytes->size();
  }
  bool Exists(const std::string& path) override { return live_.contains(path); }
  std::vector<std::string> List(const std::string& folder) override {
    std::vector<std::string> names;
    for (const auto& [path, file] : live_) {
      if (FolderOf(path) == folder) names.push_back(path.substr(folder.size() + 1));
    }
    return names;
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (!Change()) return Off();
    live_[to] = std::exchange(live_[from], nullptr);
    live_.erase(from);
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    if (!Change()) return Off();
    live_.erase(path);
    return absl::OkStatus();
  }
  absl::Status MakeFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncFolder(const std::string& folder) override {
    if (!Change()) return Off();
    std::erase_if(durable_, [&](const auto& entry) { return FolderOf(entry.first) == folder; });
    for (const auto& [path, file] : live_) {
      if (FolderOf(path) == folder) durable_[path] = file;
    }
    return absl::OkStatus();
  }

 private:
  struct File {
    std::string bytes;
    size_t synced = 0;
  };
  class Handle : public AppendFile {
   public:
    Handle(TestStorage* disk, std::shared_ptr<File> file) : disk_(disk), file_(std::move(file)) {}
    absl::Status Append(ByteSpan bytes) override {
      // A write that is cut by the loss of power may leave a part.
      const bool on = disk_->Change();
      const size_t n = on ? bytes.size() : bytes.size() / 2;
      file_->bytes.append(reinterpret_cast<const char*>(bytes.data()), n);
      return on ? absl::OkStatus() : Off();
    }
    absl::Status Sync() override {
      if (!disk_->Change()) return Off();
      file_->synced = file_->bytes.size();
      return absl::OkStatus();
    }

   private:
    TestStorage* disk_;
    std::shared_ptr<File> file_;
  };

  static absl::Status Off() { return absl::UnavailableError("power is off"); }
  static std::string FolderOf(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  bool Change() {
    ++changes_;
    if (power_ == 0) return false;
    return --power_ > 0;
  }

  uint64_t power_ = UINT64_MAX;
  uint64_t changes_ = 0;
  std::map<std::string, std::shared_ptr<File>> live_;
  std::map<std::string, std::shared_ptr<File>> durable_;
};

}  // namespace longhaul
