// The one seam between our code and a disk. Production binds FileStorage; the simulator binds a
// disk that can lose unsynced writes, tear them and fail. Paths are relative to the storage's root,
// '/'-separated.
//
// Durability: bytes written are durable only after Sync of that file, and a file's name only after
// SyncFolder of its folder. A new folder is durable at once. After a failed Sync the caller must stop using the file (DESIGN: a
// failed fsync ends the process).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace longhaul {

// An open file that only grows. Owned by one thread.
class AppendFile {
 public:
  virtual ~AppendFile() = default;
  virtual absl::Status Append(ByteSpan bytes) = 0;
  virtual absl::Status Sync() = 0;
};

// Thread rule: calls on different paths may come from different threads.
class Storage {
 public:
  virtual ~Storage() = default;

  // Creates the file, or opens it for appending when `truncate` is false and it exists.
  virtual absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                                 bool truncate) = 0;
  // At most `size` bytes from `offset`; fewer at the end of the file. NotFound when there is no
  // such file.
  virtual absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                           uint64_t size) = 0;
  virtual absl::StatusOr<uint64_t> Size(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  // Names (not paths) in a folder, sorted. Empty when the folder does not exist.
  virtual std::vector<std::string> List(const std::string& folder) = 0;
  // Replaces `to`, file or empty folder, atomically.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // A file, or a folder with all it holds. Not an error when absent.
  virtual absl::Status Remove(const std::string& path) = 0;
  // With parents; their names are durable when this returns.
  virtual absl::Status MakeFolder(const std::string& folder) = 0;
  virtual absl::Status SyncFolder(const std::string& folder) = 0;
};

// Files below `root`, which is created when it does not exist.
absl::StatusOr<std::unique_ptr<Storage>> OpenFileStorage(const std::string& root);

// The whole file; refuses files larger than max_bytes.
absl::StatusOr<std::string> ReadWhole(Storage& storage, const std::string& path,
                                      uint64_t max_bytes);
// Writes path + ".tmp", syncs it, renames it to `path`, syncs the folder: after a crash the old or
// the new file is there.
absl::Status WriteAtomically(Storage& storage, const std::string& path, ByteSpan bytes);

}  // namespace longhaul
