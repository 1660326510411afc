// For tests and simulation: a disk in memory that can lose power and fail. Deterministic: what a
// loss of power leaves follows from the seed given to `Restart`.
//
// After a loss of power: of a file's unsynced bytes a random part is left, sometimes with a wrong
// byte or a hole; a truncation that was not synced may be undone; each name that was created,
// replaced or removed in a folder that was not synced since is as before or as after, name by name.
// Folders themselves always exist.
//
// Thread rule: one thread. Handles must not outlive the disk.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "common/storage.h"

namespace longhaul {

class FaultStorage : public Storage {
 public:
  using Image = std::map<std::string, std::string>;  // path -> contents

  // The n-th changing call from now on (from 1) and everything later fails, until `Restart`. A
  // write that is cut leaves half.
  void PowerOffAfter(uint64_t changes) { power_ = changes; }
  // The n-th changing call from now on fails once, with half a write at most; the disk goes on.
  void FailOnce(uint64_t change, absl::Status error) { fail_at_ = change, error_ = error; }
  uint64_t changes() const { return changes_; }
  void Restart(uint64_t seed) {
    Rng rng(seed);
    power_ = UINT64_MAX;
    fail_at_ = 0;
    for (const auto& [path, file] : Names(live_, durable_)) {
      if (rng.Chance(1, 2)) continue;
      const auto after = live_.find(path);
      if (after == live_.end()) {
        durable_.erase(path);
      } else {
        durable_[path] = after->second;
      }
    }
    live_ = durable_;
    for (auto& [path, file] : live_) LosePower(*file, rng);
  }

  // All that there is; `Load` makes it durable.
  Image Contents() const {
    Image image;
    for (const auto& [path, file] : live_) image[path] = file->bytes;
    return image;
  }
  void Load(const Image& image) {
    live_.clear();
    for (const auto& [path, bytes] : image)
      live_[path] = std::make_shared<File>(File{bytes, bytes.size()});
    durable_ = live_;
  }
  // For tests that damage one file; nothing when there is no such file.
  std::string* Bytes(const std::string& path) {
    const auto it = live_.find(path);
    return it == live_.end() ? nullptr : &it->second->bytes;
  }

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override {
    if (absl::Status on = Change(); !on.ok()) return on;
    std::shared_ptr<File>& file = live_[path];
    if (file == nullptr) file = std::make_shared<File>();
    if (truncate) {
      if (file->synced > 0) file->before_truncation = file->bytes.substr(0, file->synced);
      file->bytes.clear(), file->synced = 0;
    }
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
    if (absl::Status on = Change(); !on.ok()) return on;
    const auto it = live_.find(from);
    if (it == live_.end()) return absl::NotFoundError(from);
    live_[to] = it->second;
    live_.erase(it);
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    if (absl::Status on = Change(); !on.ok()) return on;
    live_.erase(path);
    return absl::OkStatus();
  }
  absl::Status MakeFolder(const std::string&) override { return absl::OkStatus(); }
  absl::Status SyncFolder(const std::string& folder) override {
    if (absl::Status on = Change(); !on.ok()) return on;
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
    std::optional<std::string> before_truncation;  // durable, until the truncated file is synced
  };
  using Folder = std::map<std::string, std::shared_ptr<File>>;  // by path

  class Handle : public AppendFile {
   public:
    Handle(FaultStorage* disk, std::shared_ptr<File> file) : disk_(disk), file_(std::move(file)) {}
    absl::Status Append(ByteSpan bytes) override {
      const absl::Status on = disk_->Change();
      const size_t n = on.ok() ? bytes.size() : bytes.size() / 2;
      file_->bytes.append(reinterpret_cast<const char*>(bytes.data()), n);
      return on;
    }
    absl::Status Sync() override {
      if (absl::Status on = disk_->Change(); !on.ok()) return on;
      file_->synced = file_->bytes.size();
      file_->before_truncation.reset();
      return absl::OkStatus();
    }

   private:
    FaultStorage* disk_;
    std::shared_ptr<File> file_;
  };

  // The names whose entries differ.
  static Folder Names(const Folder& a, const Folder& b) {
    Folder differ;
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      for (const auto& [path, file] : *one) {
        const auto it = other->find(path);
        if (it == other->end() || it->second != file) differ[path] = file;
      }
    }
    return differ;
  }
  static void LosePower(File& file, Rng& rng) {
    const std::optional<std::string> before = std::exchange(file.before_truncation, std::nullopt);
    const size_t synced = std::exchange(file.synced, 0);
    if (before && rng.Chance(1, 2)) {
      file.bytes = *before;
    } else if (const size_t unsynced = file.bytes.size() - synced; unsynced > 0) {
      const size_t hole = rng.Below(unsynced), size = 1 + rng.Below(unsynced - hole);
      if (rng.Chance(1, 3)) file.bytes.replace(synced + hole, size, size, '\0');
      file.bytes.resize(synced + rng.Below(unsynced + 1));
      if (file.bytes.size() > synced && rng.Chance(1, 3)) file.bytes.back() ^= 1;
    }
    file.synced = file.bytes.size();
  }
  static absl::Status Off() { return absl::UnavailableError("power is off"); }
  static std::string FolderOf(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  absl::Status Change() {
    ++changes_;
    if (power_ == 0 || --power_ == 0) return Off();
    if (fail_at_ > 0 && --fail_at_ == 0) return error_;
    return absl::OkStatus();
  }

  uint64_t power_ = UINT64_MAX;
  uint64_t fail_at_ = 0;  // 0: no failure is planned
  absl::Status error_;
  uint64_t changes_ = 0;
  Folder live_;
  Folder durable_;
};

}  // namespace longhaul
