#include "reducer/contribution_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint64_t kMagic = 0x31676f6c2d48434cull;  // "LCH-log1"
constexpr uint64_t kCopyBytes = 1 << 20;

// Names the object fully: a log of another object, or another life of the run, is not continued.
std::string Preamble(const ObjectInfo& info) {
  ByteWriter w;
  w.U64(kMagic);
  w.Write(info.id.generation);
  w.Write(info.id.fragment);
  w.Write(info.id.version);
  w.Write(info.id.contribution);
  w.U32(info.chunks);
  w.U64(info.bytes);
  w.Write(info.root);
  return w.Take();
}

}  // namespace

ContributionLog::ContributionLog(Storage* storage, std::string folder, const ObjectInfo& info,
                                 const CodedShape& shape)
    : storage_(storage),
      folder_(std::move(folder)),
      info_(info),
      shape_(shape),
      have_(info.chunks, false),
      digests_(info.chunks) {}

std::string ContributionLog::FileName(const ContributionId& id) {
  return absl::StrCat(id.session.value, "-", id.sequence, ".log");
}

std::string ContributionLog::path() const {
  return folder_ + "/" + FileName(info_.id.contribution);
}

absl::StatusOr<std::unique_ptr<ContributionLog>> ContributionLog::Open(Storage* storage,
                                                                       const std::string& folder,
                                                                       const ObjectInfo& info,
                                                                       const CodedShape& shape) {
  std::unique_ptr<ContributionLog> log(new ContributionLog(storage, folder, info, shape));
  const std::string preamble = Preamble(info);
  absl::StatusOr<std::string> found = storage->Read(log->path(), 0, preamble.size());
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  if (found.ok() && *found == preamble) {
    RETURN_IF_ERROR(log->Scan());
  } else {
    RETURN_IF_ERROR(log->Restart());
  }
  return log;
}

absl::Status ContributionLog::Restart() {
  std::fill(have_.begin(), have_.end(), false);
  have_count_ = 0;
  have_bytes_ = 0;
  squared_norm_ = 0;
  ASSIGN_OR_RETURN(file_, storage_->OpenAppend(path(), /*truncate=*/true));
  return file_->Append(AsBytes(Preamble(info_)));
}

// Takes what is intact; from the first damage on, the file is cut.
absl::Status ContributionLog::Scan() {
  uint64_t offset = Preamble(info_).size();
  while (true) {
    absl::StatusOr<StoredChunk> stored =
        ReadFrame(*storage_, path(), offset, ObjectKind::kContribution, info_.id.version, shape_);
    if (absl::IsOutOfRange(stored.status())) break;
    if (absl::IsDataLoss(stored.status())) return KeepPrefix(offset);
    if (!stored.ok()) return stored.status();
    if (have_[stored->header.chunk]) return KeepPrefix(offset);
    const absl::Status noted = Note(stored->header, AsBytes(stored->payload));
    if (absl::IsInvalidArgument(noted)) return KeepPrefix(offset);
    RETURN_IF_ERROR(noted);
    offset += kFrameHeaderBytes + stored->header.bytes;
  }
  if (complete() && RootDigest(digests_) != info_.root) return Restart();
  ASSIGN_OR_RETURN(file_, storage_->OpenAppend(path(), /*truncate=*/false));
  return absl::OkStatus();
}

// Storage can only append, so the good part is copied and takes the old file's place.
absl::Status ContributionLog::KeepPrefix(uint64_t bytes) {
  const std::string copy = path() + ".tmp";
  ASSIGN_OR_RETURN(file_, storage_->OpenAppend(copy, /*truncate=*/true));
  for (uint64_t at = 0; at < bytes;) {
    ASSIGN_OR_RETURN(std::string part,
                     storage_->Read(path(), at, std::min(kCopyBytes, bytes - at)));
    if (part.empty()) return absl::DataLossError(path() + " shrank while it was read");
    RETURN_IF_ERROR(file_->Append(AsBytes(part)));
    at += part.size();
  }
  RETURN_IF_ERROR(storage_->Rename(copy, path()));
  ASSIGN_OR_RETURN(file_, storage_->OpenAppend(path(), /*truncate=*/false));
  if (complete() && RootDigest(digests_) != info_.root) return Restart();
  return absl::OkStatus();
}

absl::Status ContributionLog::Append(const ChunkHeader& header, ByteSpan payload) {
  if (header.kind != ObjectKind::kContribution || header.chunk >= info_.chunks ||
      header.codec != static_cast<uint32_t>(shape_.codec->id()) ||
      header.elements != shape_.Elements(header.chunk) ||
      !shape_.codec->MayTake(header.bytes, header.elements) || payload.size() != header.bytes) {
    return absl::InvalidArgumentError("chunk does not fit its contribution");
  }
  if (have_[header.chunk]) return absl::OkStatus();
  if (Xxh3(payload) != header.checksum) {
    return absl::DataLossError(absl::StrCat("chunk ", header.chunk, " was damaged on its way"));
  }
  RETURN_IF_ERROR(Note(header, payload));
  RETURN_IF_ERROR(file_->Append(AsBytes(EncodeFrameHeader(header, info_.id.version))));
  return file_->Append(payload);
}

absl::Status ContributionLog::Note(const ChunkHeader& header, ByteSpan payload) {
  std::vector<float> values(header.elements);
  if (!shape_.Decode(header.chunk, payload, values)) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", header.chunk, " does not decode"));
  }
  have_[header.chunk] = true;
  ++have_count_;
  have_bytes_ += payload.size();
  digests_[header.chunk] = ChunkDigest(payload);
  squared_norm_ += SquaredNorm(values);
  return absl::OkStatus();
}

absl::Status ContributionLog::Seal() {
  LONGHAUL_CHECK(complete(), "sealing a contribution with chunks missing");
  if (sealed_) return absl::OkStatus();
  if (RootDigest(digests_) != info_.root || have_bytes_ != info_.bytes) {
    return absl::InvalidArgumentError("the chunks are not those that were announced");
  }
  RETURN_IF_ERROR(file_->Sync());
  RETURN_IF_ERROR(storage_->SyncFolder(folder_));
  sealed_ = true;
  file_.reset();
  std::vector<Digest>().swap(digests_);
  return absl::OkStatus();
}

absl::Status ContributionLog::ForEach(const Visit& visit) const {
  LONGHAUL_CHECK(sealed_, "reading a contribution that is not complete");
  uint64_t offset = Preamble(info_).size();
  std::vector<bool> seen(info_.chunks, false);
  std::vector<float> values;
  for (uint32_t i = 0; i < info_.chunks; ++i) {
    ASSIGN_OR_RETURN(
        StoredChunk stored,
        ReadFrame(*storage_, path(), offset, ObjectKind::kContribution, info_.id.version, shape_));
    values.resize(stored.header.elements);
    if (seen[stored.header.chunk] ||
        !shape_.Decode(stored.header.chunk, AsBytes(stored.payload), values)) {
      return absl::DataLossError(path() + " changed after it was checked");
    }
    seen[stored.header.chunk] = true;
    visit(stored.header.chunk, values);
    offset += kFrameHeaderBytes + stored.header.bytes;
  }
  return absl::OkStatus();
}

absl::Status ContributionLog::Delete() {
  file_.reset();
  return storage_->Remove(path());
}

std::vector<ChunkRun> ContributionLog::Missing(size_t max_runs) const {
  std::vector<ChunkRun> runs;
  for (uint32_t chunk = 0; chunk < info_.chunks; ++chunk) {
    if (have_[chunk]) continue;
    if (!runs.empty() && runs.back().first + runs.back().count == chunk) {
      ++runs.back().count;
    } else if (runs.size() < max_runs) {
      runs.push_back({chunk, 1});
    } else {
      break;
    }
  }
  return runs;
}

size_t ContributionLog::MemoryBytes() const {
  return sizeof *this + have_.capacity() / 8 + digests_.capacity() * sizeof(Digest);
}

}  // namespace longhaul
