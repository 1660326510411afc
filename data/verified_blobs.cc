#include "data/verified_blobs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {

VerifiedBlobs::VerifiedBlobs(std::vector<std::shared_ptr<BlobSource>> sources) {
  for (auto& source : sources) {
    std::string name = source->name();
    sources_.push_back({std::move(source), {.name = std::move(name)}});
  }
}

std::vector<VerifiedBlobs::Source*> VerifiedBlobs::Candidates(const Digest& blob_id) {
  std::vector<Source*> list;
  for (Source& s : sources_) {
    if (!s.report.dropped && !s.report.quarantine.contains(blob_id)) list.push_back(&s);
  }
  std::stable_sort(list.begin(), list.end(), [](const Source* a, const Source* b) {
    return a->report.failures < b->report.failures;
  });
  return list;
}

template <class Accept>
absl::Status VerifiedBlobs::ReadFrom(const Digest& blob_id, uint64_t offset, uint64_t size,
                                     Accept accept) {
  std::string reasons;
  for (Source* s : Candidates(blob_id)) {
    SourceReport& report = s->report;
    absl::StatusOr<std::string> bytes;
    absl::Status verdict;
    do {
      bytes = s->source->Read(blob_id, offset, size);
      if (!bytes.ok()) break;
      LONGHAUL_CHECK(bytes->size() == size, "a source returned another size");
      verdict = accept(*bytes);
      if (!verdict.ok()) report.wrong_bytes += size;
    } while (!verdict.ok() && s->source->Disown());
    if (!bytes.ok()) {
      ++report.failures;
      absl::StrAppend(&reasons, "\n  ", report.name, ": ", bytes.status().message());
      continue;
    }
    report.failures = 0;
    if (verdict.ok()) {
      report.good_bytes += size;
      return absl::OkStatus();
    }
    report.quarantine.insert(blob_id);
    report.dropped = report.quarantine.size() >= kMaxWrongBlobs;
    absl::StrAppend(&reasons, "\n  ", report.name, ": ", verdict.message());
  }
  return absl::UnavailableError(absl::StrCat("shard ", ToHex(blob_id).substr(0, 16), ", bytes ",
                                             offset, " to ", offset + size, ": no source has them",
                                             reasons));
}

absl::StatusOr<std::shared_ptr<const ShardIndex>> VerifiedBlobs::Index(const ShardEntry& entry) {
  if (entry.index_bytes > kMaxBlobRead) return absl::InvalidArgumentError("an index is too large");
  auto result = std::make_shared<ShardIndex>();
  RETURN_IF_ERROR(ReadFrom(entry.blob_id, 0, entry.index_bytes, [&](const std::string& bytes) {
    auto index = ParseShardIndex(AsBytes(bytes));
    if (!index.ok()) return index.status();
    if (index->blob_id != entry.blob_id) return absl::DataLossError("it is another shard");
    *result = std::move(*index);
    return absl::OkStatus();
  }));
  if (result->header.logical_id != entry.logical_id || result->header.samples != entry.samples) {
    return absl::DataLossError("the manifest says something else about this shard than its header");
  }
  return result;
}

absl::StatusOr<std::string> VerifiedBlobs::StoredBlock(const ShardIndex& index, uint32_t block) {
  LONGHAUL_CHECK(block < index.rows.size(), "no such block");
  const BlockRow& row = index.rows[block];
  std::string result;
  RETURN_IF_ERROR(ReadFrom(index.blob_id, row.offset, row.stored_bytes, [&](std::string& bytes) {
    RETURN_IF_ERROR(CheckStoredBlock(index, block, AsBytes(bytes)));
    result = std::move(bytes);
    return absl::OkStatus();
  }));
  return result;
}

std::vector<VerifiedBlobs::SourceReport> VerifiedBlobs::Report() const {
  std::vector<SourceReport> list;
  for (const Source& s : sources_) list.push_back(s.report);
  return list;
}

}  // namespace longhaul
