#include "wan/sim/disk.h"

#include <algorithm>
#include <utility>

namespace longhaul::sim {
namespace {

absl::Status Off() { return absl::UnavailableError("the process has ended"); }

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

bool Below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
         path[folder.size()] == '/';
}

// `path` itself or something below it, moved from `from` to `to`.
std::string Moved(const std::string& path, const std::string& from, const std::string& to) {
  return path == from || Below(path, from) ? to + path.substr(from.size()) : path;
}

}  // namespace

class SimulatedDisk::Handle : public AppendFile {
 public:
  Handle(SimulatedDisk* disk, FilePtr file)
      : disk_(disk), life_(disk->life_), file_(std::move(file)) {}

  absl::Status Append(ByteSpan bytes) override {
    if (life_ != disk_->life_ || !disk_->running_) return Off();
    const absl::Status begun = disk_->Begin();
    // A write that fails may have left a part.
    const size_t n = begun.ok() ? bytes.size() : bytes.size() / 2;
    file_->bytes.append(reinterpret_cast<const char*>(bytes.data()), n);
    file_->write_ends.push_back(file_->bytes.size());
    return begun;
  }

  absl::Status Sync() override {
    if (life_ != disk_->life_ || !disk_->running_) return Off();
    if (absl::Status begun = disk_->Begin(); !begun.ok()) return begun;
    file_->synced_before = std::exchange(file_->synced, file_->bytes.size());
    file_->write_ends.clear();
    file_->before.reset();
    return absl::OkStatus();
  }

 private:
  SimulatedDisk* disk_;
  uint64_t life_;
  FilePtr file_;
};

void SimulatedDisk::StopNow() {
  running_ = false;
  if (on_stop_) on_stop_();
}

absl::Status SimulatedDisk::Begin() {
  if (!running_) return Off();
  ++changes_;
  if (faults_.Happens(FaultKind::kStopAtDisk)) {
    StopNow();
    return Off();
  }
  if (faults_.Happens(FaultKind::kDiskError)) return absl::UnavailableError("input/output error");
  if (faults_.Happens(FaultKind::kDiskFull))
    return absl::ResourceExhaustedError("no space left on device");
  return absl::OkStatus();
}

void SimulatedDisk::Start(bool power_lost) {
  ++life_;
  running_ = true;
  if (!power_lost) return;
  const uint64_t survive = faults_.Below(FaultKind::kPowerLoss, pending_.size() + 1);
  for (uint64_t i = 0; i < survive; ++i) Apply(durable_, pending_[i]);
  pending_.clear();
  for (auto it = durable_.begin(); it != durable_.end();) {
    const std::string parent = FolderOf(it->first);
    const bool orphan = !parent.empty() && !durable_.contains(parent);
    it = orphan ? durable_.erase(it) : std::next(it);  // parents come first in a map by path
  }
  for (auto& [path, file] : durable_) {
    if (file) LosePower(*file);
  }
  nodes_ = durable_;
}

void SimulatedDisk::LosePower(File& file) {
  auto draw = [this](uint64_t n) { return faults_.Below(FaultKind::kPowerLoss, n); };
  if (file.before && draw(2) == 0) {
    file.bytes = *file.before;
    file.synced = file.bytes.size();
  }
  const size_t tail = file.bytes.size() - file.synced;
  const uint64_t how = tail == 0 ? 0 : draw(4);
  if (how == 0) {
    file.bytes.resize(file.synced);
  } else if (how == 1) {
    file.bytes.resize(file.synced + draw(tail + 1));
  } else if (how == 2) {
    file.bytes[file.synced + draw(tail)] ^= static_cast<char>(1 << draw(8));
  } else {
    size_t kept = file.synced, from = file.synced;
    for (size_t end : file.write_ends) {
      if (draw(2) == 0) {
        kept = end;
      } else {
        std::fill(file.bytes.begin() + static_cast<ptrdiff_t>(from),
                  file.bytes.begin() + static_cast<ptrdiff_t>(end), '\0');
      }
      from = end;
    }
    file.bytes.resize(kept);
  }
  file.synced = file.bytes.size();
  file.write_ends.clear();
  file.before.reset();
}

bool SimulatedDisk::FlipSomewhere() {
  std::string newest_segment;
  for (const auto& [path, file] : nodes_) {
    if (Below(path, "journal") && path.ends_with(".log")) newest_segment = path;
  }
  std::vector<std::pair<File*, size_t>> files;  // and how much of it may be damaged
  for (const auto& [path, file] : nodes_) {
    if (!file || file->synced != file->bytes.size()) continue;
    const size_t most = path == newest_segment ? file->synced_before : file->synced;
    if (most > 0) files.emplace_back(file.get(), most);
  }
  if (files.empty()) return false;
  // Often the journal: everything hangs on it.
  auto chosen = files[faults_.Below(FaultKind::kBitFlip, files.size())];
  const auto newest = nodes_.find(newest_segment);
  if (newest != nodes_.end() && newest->second->synced_before > 0 &&
      faults_.Below(FaultKind::kBitFlip, 3) == 0) {
    chosen = {newest->second.get(), newest->second->synced_before};
  }
  chosen.first->bytes[faults_.Below(FaultKind::kBitFlip, chosen.second)] ^=
      static_cast<char>(1 << faults_.Below(FaultKind::kBitFlip, 8));
  return true;
}

uint64_t SimulatedDisk::bytes() const {
  uint64_t total = 0;
  for (const auto& [path, file] : nodes_) total += file ? file->bytes.size() : 0;
  return total;
}

void SimulatedDisk::Apply(Nodes& nodes, const Change& change) {
  if (change.kind == Change::Kind::kMake) {
    nodes[change.path] = change.file;
    return;
  }
  Nodes moved;
  for (auto it = nodes.lower_bound(change.path);
       it != nodes.end() && (it->first == change.path || it->first > change.path);) {
    if (it->first != change.path && !Below(it->first, change.path)) {
      if (it->first.compare(0, change.path.size(), change.path) != 0) break;
      ++it;  // a longer name in the same folder
      continue;
    }
    if (change.kind == Change::Kind::kRename)
      moved[Moved(it->first, change.path, change.to)] = it->second;
    it = nodes.erase(it);
  }
  for (auto& [path, file] : moved) nodes[path] = file;
}

void SimulatedDisk::Note(Change change) {
  Apply(nodes_, change);
  if (change.kind == Change::Kind::kRename) {
    // What was not durable inside a folder moves with it.
    for (Change& p : pending_) {
      if (Below(p.path, change.path)) p.path = Moved(p.path, change.path, change.to);
      if (Below(p.to, change.path)) p.to = Moved(p.to, change.path, change.to);
    }
  }
  pending_.push_back(std::move(change));
}

absl::StatusOr<std::unique_ptr<AppendFile>> SimulatedDisk::OpenAppend(const std::string& path,
                                                                      bool truncate) {
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  const std::string folder = FolderOf(path);
  if (!folder.empty() && !nodes_.contains(folder)) return absl::NotFoundError(folder);
  auto it = nodes_.find(path);
  if (it == nodes_.end()) {
    Note({Change::Kind::kMake, path, "", std::make_shared<File>()});
    it = nodes_.find(path);
  } else if (truncate) {
    File& file = *it->second;
    if (!file.before) file.before = file.bytes.substr(0, file.synced);
    file.bytes.clear();
    file.synced = file.synced_before = 0;
    file.write_ends.clear();
  }
  return std::unique_ptr<AppendFile>(std::make_unique<Handle>(this, it->second));
}

absl::StatusOr<std::string> SimulatedDisk::Read(const std::string& path, uint64_t offset,
                                                uint64_t size) {
  if (!running_) return Off();
  const auto it = nodes_.find(path);
  if (it == nodes_.end() || !it->second) return absl::NotFoundError(path);
  const std::string& bytes = it->second->bytes;
  return offset >= bytes.size() ? std::string() : bytes.substr(offset, size);
}

absl::StatusOr<uint64_t> SimulatedDisk::Size(const std::string& path) {
  if (!running_) return Off();
  const auto it = nodes_.find(path);
  if (it == nodes_.end() || !it->second) return absl::NotFoundError(path);
  return it->second->bytes.size();
}

std::vector<std::string> SimulatedDisk::List(const std::string& folder) {
  std::vector<std::string> names;
  if (!running_) return names;
  const std::string prefix = folder.empty() ? "" : folder + "/";
  for (auto it = nodes_.lower_bound(prefix);
       it != nodes_.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
    const std::string name = it->first.substr(prefix.size());
    if (!name.empty() && name.find('/') == std::string::npos) names.push_back(name);
  }
  return names;
}

absl::Status SimulatedDisk::Rename(const std::string& from, const std::string& to) {
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  const auto it = nodes_.find(from);
  if (it == nodes_.end()) return absl::NotFoundError(from);
  const std::vector<std::string> inside = List(to);
  if (!inside.empty()) return absl::UnavailableError(to + ": directory not empty");
  Note({Change::Kind::kRename, from, to, nullptr});
  return absl::OkStatus();
}

absl::Status SimulatedDisk::Remove(const std::string& path) {
  if (!running_) return Off();
  if (!nodes_.contains(path)) return absl::OkStatus();
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  Note({Change::Kind::kRemove, path, "", nullptr});
  return absl::OkStatus();
}

absl::Status SimulatedDisk::MakeFolder(const std::string& folder) {
  if (!running_) return Off();
  for (size_t at = 0; at != std::string::npos;) {
    at = folder.find('/', at + 1);
    const std::string part = folder.substr(0, at);
    if (nodes_.contains(part)) continue;
    if (absl::Status begun = Begin(); !begun.ok()) return begun;
    Note({Change::Kind::kMake, part, "", nullptr});
    if (absl::Status synced = SyncFolder(FolderOf(part)); !synced.ok()) return synced;
  }
  return absl::OkStatus();
}

absl::Status SimulatedDisk::SyncFolder(const std::string& folder) {
  if (absl::Status begun = Begin(); !begun.ok()) return begun;
  std::erase_if(pending_, [&](const Change& change) {
    const bool here = FolderOf(change.path) == folder ||
                      (change.kind == Change::Kind::kRename && FolderOf(change.to) == folder);
    if (here) Apply(durable_, change);
    return here;
  });
  return absl::OkStatus();
}

}  // namespace longhaul::sim
