// The disk of the simulated coordinator: a Storage in memory that keeps apart what was written and
// what would survive a loss of power.
//
//   file contents   durable up to the last Sync; of later writes a loss of power leaves none, a
//                   torn prefix, or any of them in any order (with zeros in between)
//   names           durable when the folder was synced after the change; otherwise a loss of power
//                   leaves some prefix of the changes
//   folders         are names in their parent folder, which is synced when they are made
//
// Faults are drawn at every call: the process may stop in the middle of it, or it fails (EIO,
// ENOSPC). After a stop every call fails until the machine is started again.
//
// One thread. Handles of an earlier life stay valid and fail.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/storage.h"
#include "wan/sim/faults.h"

namespace longhaul::sim {

class SimulatedDisk : public Storage {
 public:
  explicit SimulatedDisk(Faults& faults) : faults_(faults) {}

  // Called inside the operation in which the process stops.
  void OnStop(std::function<void()> stop) { on_stop_ = std::move(stop); }
  // The process has ended: everything fails from now on.
  void Stop() { running_ = false; }
  // A new life. `power_lost`: what was not durable may be gone.
  void Start(bool power_lost);
  // Flips one bit in a random durable file whose damage must be found, never believed: not in what
  // the last sync added to the journal's newest segment, whose loss cannot be told from a crash.
  bool FlipSomewhere();

  uint64_t changes() const { return changes_; }
  uint64_t bytes() const;  // of all files

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override;
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                   uint64_t size) override;
  absl::StatusOr<uint64_t> Size(const std::string& path) override;
  bool Exists(const std::string& path) override { return nodes_.contains(path); }
  std::vector<std::string> List(const std::string& folder) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status MakeFolder(const std::string& folder) override;
  absl::Status SyncFolder(const std::string& folder) override;

 private:
  struct File {
    std::string bytes;
    size_t synced = 0;
    size_t synced_before = 0;           // at the sync before that
    std::vector<size_t> write_ends;     // of writes after the last sync
    std::optional<std::string> before;  // what was durable when it was truncated
  };
  using FilePtr = std::shared_ptr<File>;
  using Nodes = std::map<std::string, FilePtr>;  // null: a folder
  // A change of names that is not durable yet.
  struct Change {
    enum class Kind : uint8_t { kMake, kRename, kRemove } kind = Kind::kMake;
    std::string path;
    std::string to;  // kRename
    FilePtr file;    // kMake; null: a folder
  };
  class Handle;

  absl::Status Begin();  // draws the faults of one changing call
  void StopNow();
  static void Apply(Nodes& nodes, const Change& change);
  void Note(Change change);
  void LosePower(File& file);

  Faults& faults_;
  std::function<void()> on_stop_;
  bool running_ = true;
  uint64_t life_ = 0;
  uint64_t changes_ = 0;
  Nodes nodes_;
  Nodes durable_;
  std::vector<Change> pending_;
};

}  // namespace longhaul::sim
