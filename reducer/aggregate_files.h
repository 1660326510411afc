// The files that a prepared outer step leaves: the coded aggregate, which every replica applies,
// and the residual that its coding left behind, which is the reducer's only private state. Both are
// durable, or absent, as wholes; the residual names the aggregate that it belongs to.
//
//   <folder>/aggregates/<version>   frames of chunk_store.h, in order of chunk
//   <folder>/residuals/<version>    float32 values, root over their chunks, root of the aggregate
//
// Owned by one thread. Errors other than those named are the storage's.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"
#include "reducer/chunk_store.h"

namespace longhaul {

class AggregateFiles {
 public:
  // Makes the folders.
  static absl::StatusOr<AggregateFiles> Open(Storage* storage, std::string folder,
                                             const CodedShape& shape, bool with_residual);

  // Writes both files of one version, chunk after chunk, and puts them in place when they are
  // durable. An earlier pair of that version is replaced.
  class Writer {
   public:
    // `residual` is ignored when the reducer has none.
    absl::Status Append(ByteSpan payload, std::span<const float> residual);
    // All chunks are written. Returns the root of the aggregate.
    absl::StatusOr<Digest> Finish();

   private:
    friend class AggregateFiles;
    const AggregateFiles* files_ = nullptr;
    Version version_;
    std::unique_ptr<AppendFile> aggregate_;
    std::unique_ptr<AppendFile> residual_;  // null without residual
    std::vector<Digest> aggregate_digests_;
    std::vector<Digest> residual_digests_;
  };
  // The writer must not outlive this object, nor see it move.
  absl::StatusOr<Writer> Write(Version version) const;

  // NotFound: no such aggregate. DataLoss: damaged.
  absl::StatusOr<StoredChunk> ReadChunk(Version version, uint32_t chunk) const;

  // Payload bytes of every chunk. Errors as ReadChunk's.
  absl::StatusOr<std::vector<uint32_t>> ChunkBytes(Version version) const;

  // Fills `residual`. NotFound or DataLoss: absent, damaged, or of another aggregate; `residual` is
  // then untouched.
  absl::Status ReadResidual(Version version, const Digest& aggregate_root,
                            std::span<float> residual) const;

  // Removes aggregates, or residuals, of lower versions, and what was never finished.
  absl::Status DeleteAggregatesBefore(Version version) const;
  absl::Status DeleteResidualsBefore(Version version) const;

 private:
  AggregateFiles(Storage* storage, std::string folder, const CodedShape& shape, bool with_residual)
      : storage_(storage),
        folder_(std::move(folder)),
        shape_(shape),
        with_residual_(with_residual) {}
  std::string AggregateFolder() const { return folder_ + "/aggregates"; }
  std::string ResidualFolder() const { return folder_ + "/residuals"; }
  std::string AggregatePath(Version version) const;
  std::string ResidualPath(Version version) const;
  absl::Status DeleteBefore(const std::string& folder, Version version) const;
  absl::StatusOr<std::string> ReadResidualChunk(Version version, uint32_t chunk) const;
  absl::StatusOr<uint64_t> OffsetOf(Version version, uint32_t chunk) const;
  absl::Status IndexUntil(Version version, uint32_t chunk) const;

  Storage* storage_;
  std::string folder_;
  CodedShape shape_;
  bool with_residual_;
  // Where the first chunks of one aggregate begin, and the one after them.
  mutable Version index_version_;
  mutable std::vector<uint64_t> index_;
};

}  // namespace longhaul
