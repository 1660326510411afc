// One contribution on disk: its coded chunks in the order in which they came, and which of them are
// there. It survives restarts: what an earlier process left is checked chunk by chunk and
// continued.
//
// Owned by one thread. Errors other than those named are the storage's; the log must then not be
// used any more.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "proto/chunk.h"
#include "reducer/chunk_store.h"
#include "sync/exact_sum.h"

namespace longhaul {

class ContributionLog {
 public:
  // `folder` exists; the file in it is named after the contribution. A file of exactly this object
  // is continued after its last intact chunk; anything else under that name is replaced. The caller
  // has checked `info` against `shape`.
  static absl::StatusOr<std::unique_ptr<ContributionLog>> Open(Storage* storage,
                                                               const std::string& folder,
                                                               const ObjectInfo& info,
                                                               const CodedShape& shape);
  static std::string FileName(const ContributionId& id);

  // Appends a chunk that is not there yet; one that is there is ignored. InvalidArgument: it does
  // not fit the shape or does not decode. DataLoss: its checksum is wrong. Nothing changes then.
  absl::Status Append(const ChunkHeader& header, ByteSpan payload);

  // All chunks are there, and their root is the announced one, or not; once durable, sealed.
  bool complete() const { return have_count_ == info_.chunks; }
  bool sealed() const { return sealed_; }
  // Requires complete(). Makes the file durable. InvalidArgument: root or size are not the
  // announced ones.
  absl::Status Seal();

  // Every chunk once, decoded. Requires sealed(). DataLoss: the file is damaged; `visit` may have
  // been called for some chunks.
  using Visit = std::function<void(uint32_t chunk, std::span<const float> values)>;
  absl::Status ForEach(const Visit& visit) const;

  absl::Status Delete();

  const ObjectInfo& info() const { return info_; }
  uint32_t have_count() const { return have_count_; }
  SquaredSum squared_norm() const { return squared_norm_; }  // of the chunks that are there
  // Increasing runs, at most `max_runs`.
  std::vector<ChunkRun> Missing(size_t max_runs) const;
  size_t MemoryBytes() const;

 private:
  ContributionLog(Storage* storage, std::string folder, const ObjectInfo& info,
                  const CodedShape& shape);
  absl::Status Scan();
  absl::Status KeepPrefix(uint64_t bytes);
  absl::Status Restart();
  absl::Status Note(const ChunkHeader& header, ByteSpan payload);
  std::string path() const;

  Storage* storage_;
  std::string folder_;
  ObjectInfo info_;
  CodedShape shape_;
  std::vector<bool> have_;
  std::vector<Digest> digests_;  // emptied when sealed
  uint32_t have_count_ = 0;
  uint64_t have_bytes_ = 0;
  SquaredSum squared_norm_ = 0;
  bool sealed_ = false;
  std::unique_ptr<AppendFile> file_;  // null when sealed
};

}  // namespace longhaul
