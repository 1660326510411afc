#include "reducer/aggregate_files.h"

#include <charconv>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr char kUnfinished[] = ".tmp";

// The version that a file is named after; nothing for other names.
std::optional<uint64_t> VersionOf(const std::string& name) {
  uint64_t version = 0;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data(), end, version);
  if (error != std::errc() || at != end) return std::nullopt;
  return version;
}

}  // namespace

absl::StatusOr<AggregateFiles> AggregateFiles::Open(Storage* storage, std::string folder,
                                                    const CodedShape& shape, bool with_residual) {
  AggregateFiles files(storage, std::move(folder), shape, with_residual);
  RETURN_IF_ERROR(storage->MakeFolder(files.AggregateFolder()));
  RETURN_IF_ERROR(storage->MakeFolder(files.ResidualFolder()));
  RETURN_IF_ERROR(storage->SyncFolder(files.folder_));
  return files;
}

std::string AggregateFiles::AggregatePath(Version version) const {
  return absl::StrCat(AggregateFolder(), "/", version.value);
}
std::string AggregateFiles::ResidualPath(Version version) const {
  return absl::StrCat(ResidualFolder(), "/", version.value);
}

absl::StatusOr<AggregateFiles::Writer> AggregateFiles::Write(Version version) const {
  Writer writer;
  if (index_version_ == version) index_.clear();
  writer.files_ = this;
  writer.version_ = version;
  ASSIGN_OR_RETURN(writer.aggregate_,
                   storage_->OpenAppend(AggregatePath(version) + kUnfinished, /*truncate=*/true));
  if (with_residual_) {
    ASSIGN_OR_RETURN(writer.residual_,
                     storage_->OpenAppend(ResidualPath(version) + kUnfinished, /*truncate=*/true));
  }
  return writer;
}

absl::Status AggregateFiles::Writer::Append(ByteSpan payload, std::span<const float> residual) {
  const CodedShape& shape = files_->shape_;
  ChunkHeader header;
  header.kind = ObjectKind::kAggregate;
  header.chunk = static_cast<uint32_t>(aggregate_digests_.size());
  LONGHAUL_CHECK(header.chunk < shape.chunks() &&
                     shape.codec->MayTake(payload.size(), shape.Elements(header.chunk)),
                 "chunk does not fit the aggregate");
  header.codec = static_cast<uint32_t>(shape.codec->id());
  header.elements = shape.Elements(header.chunk);
  header.bytes = payload.size();
  header.checksum = Xxh3(payload);
  aggregate_digests_.push_back(ChunkDigest(payload));
  RETURN_IF_ERROR(aggregate_->Append(AsBytes(EncodeFrameHeader(header, version_))));
  RETURN_IF_ERROR(aggregate_->Append(payload));
  if (residual_ == nullptr) return absl::OkStatus();
  LONGHAUL_CHECK(residual.size() == header.elements, "residual does not fit the chunk");
  residual_digests_.push_back(ChunkDigest(AsBytes(residual)));
  return residual_->Append(AsBytes(residual));
}

absl::StatusOr<Digest> AggregateFiles::Writer::Finish() {
  LONGHAUL_CHECK(aggregate_digests_.size() == files_->shape_.chunks(), "chunks are missing");
  const Digest root = RootDigest(aggregate_digests_);
  Storage& storage = *files_->storage_;
  const std::string aggregate = files_->AggregatePath(version_);
  RETURN_IF_ERROR(aggregate_->Sync());
  if (residual_ != nullptr) {
    ByteWriter trailer;
    trailer.Write(RootDigest(residual_digests_));
    trailer.Write(root);
    RETURN_IF_ERROR(residual_->Append(AsBytes(trailer.str())));
    RETURN_IF_ERROR(residual_->Sync());
    const std::string residual = files_->ResidualPath(version_);
    RETURN_IF_ERROR(storage.Rename(residual + kUnfinished, residual));
    RETURN_IF_ERROR(storage.SyncFolder(files_->ResidualFolder()));
  }
  RETURN_IF_ERROR(storage.Rename(aggregate + kUnfinished, aggregate));
  RETURN_IF_ERROR(storage.SyncFolder(files_->AggregateFolder()));
  return root;
}

// Reads headers until it is known where `chunk` begins; all chunks: where the last one ends.
absl::Status AggregateFiles::IndexUntil(Version version, uint32_t chunk) const {
  if (index_version_ != version) index_.clear();
  index_version_ = version;
  if (index_.empty()) index_.push_back(0);
  while (index_.size() <= chunk) {
    const absl::StatusOr<ChunkHeader> header = ReadFrameHeader(
        *storage_, AggregatePath(version), index_.back(), ObjectKind::kAggregate, version, shape_);
    if (absl::IsOutOfRange(header.status())) {
      return absl::DataLossError(absl::StrCat(AggregatePath(version), " ends too early"));
    }
    RETURN_IF_ERROR(header.status());
    index_.push_back(index_.back() + kFrameHeaderBytes + header->bytes);
  }
  return absl::OkStatus();
}

// By arithmetic with a codec of fixed size, from the headers before it otherwise.
absl::StatusOr<uint64_t> AggregateFiles::OffsetOf(Version version, uint32_t chunk) const {
  if (shape_.codec->fixed_size()) return chunk * (kFrameHeaderBytes + shape_.Bytes(0));
  RETURN_IF_ERROR(IndexUntil(version, chunk));
  return index_[chunk];
}

absl::StatusOr<std::vector<uint32_t>> AggregateFiles::ChunkBytes(Version version) const {
  RETURN_IF_ERROR(IndexUntil(version, shape_.chunks()));
  std::vector<uint32_t> sizes(shape_.chunks());
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = static_cast<uint32_t>(index_[i + 1] - index_[i] - kFrameHeaderBytes);
  }
  return sizes;
}

absl::StatusOr<StoredChunk> AggregateFiles::ReadChunk(Version version, uint32_t chunk) const {
  if (chunk >= shape_.chunks()) return absl::InvalidArgumentError("no such chunk");
  const std::string path = AggregatePath(version);
  ASSIGN_OR_RETURN(uint64_t offset, OffsetOf(version, chunk));
  absl::StatusOr<StoredChunk> stored =
      ReadFrame(*storage_, path, offset, ObjectKind::kAggregate, version, shape_);
  if (absl::IsOutOfRange(stored.status()) || (stored.ok() && stored->header.chunk != chunk)) {
    return absl::DataLossError(absl::StrCat(path, ": chunk ", chunk, " is not there"));
  }
  return stored;
}

absl::StatusOr<std::string> AggregateFiles::ReadResidualChunk(Version version,
                                                              uint32_t chunk) const {
  const uint64_t bytes = shape_.Elements(chunk) * sizeof(float);
  ASSIGN_OR_RETURN(std::string part, storage_->Read(ResidualPath(version),
                                                    shape_.First(chunk) * sizeof(float), bytes));
  if (part.size() != bytes) return absl::DataLossError(ResidualPath(version) + " is torn");
  return part;
}

absl::Status AggregateFiles::ReadResidual(Version version, const Digest& aggregate_root,
                                          std::span<float> residual) const {
  LONGHAUL_CHECK(residual.size() == shape_.elements, "sizes differ");
  std::vector<Digest> digests;
  for (uint32_t chunk = 0; chunk < shape_.chunks(); ++chunk) {
    ASSIGN_OR_RETURN(std::string part, ReadResidualChunk(version, chunk));
    digests.push_back(ChunkDigest(AsBytes(part)));
  }
  ASSIGN_OR_RETURN(std::string trailer, storage_->Read(ResidualPath(version), residual.size_bytes(),
                                                       2 * sizeof(Digest) + 1));
  ByteWriter wanted;
  wanted.Write(RootDigest(digests));
  wanted.Write(aggregate_root);
  if (trailer != wanted.str()) {
    return absl::DataLossError(ResidualPath(version) + " is damaged or of another aggregate");
  }
  for (uint32_t chunk = 0; chunk < shape_.chunks(); ++chunk) {
    ASSIGN_OR_RETURN(std::string part, ReadResidualChunk(version, chunk));
    std::memcpy(residual.data() + shape_.First(chunk), part.data(), part.size());
  }
  return absl::OkStatus();
}

absl::Status AggregateFiles::DeleteBefore(const std::string& folder, Version version) const {
  for (const std::string& name : storage_->List(folder)) {
    const std::optional<uint64_t> found = VersionOf(name);
    if (found && *found >= version.value) continue;
    RETURN_IF_ERROR(storage_->Remove(folder + "/" + name));
  }
  return absl::OkStatus();
}

absl::Status AggregateFiles::DeleteAggregatesBefore(Version version) const {
  return DeleteBefore(AggregateFolder(), version);
}
absl::Status AggregateFiles::DeleteResidualsBefore(Version version) const {
  return DeleteBefore(ResidualFolder(), version);
}

}  // namespace longhaul
