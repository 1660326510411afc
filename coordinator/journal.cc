#include "coordinator/journal.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "common/bytes.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x314A484C;  // "LHJ1"
constexpr size_t kHeaderBytes = 4 + 4 + 8 + 8 + 32 + 8;
constexpr uint64_t kMaxSegmentBytes = 4ull * 1024 * 1024 * 1024;

struct RecordHeader {
  uint32_t length = 0;
  uint64_t sequence = 0;
  uint64_t durable = 0;
  Digest chain{};
};

std::string EncodeHeader(const RecordHeader& h) {
  ByteWriter w;
  w.U32(kMagic), w.U32(h.length), w.U64(h.sequence), w.U64(h.durable), w.Write(h.chain);
  return w.Take();
}

Digest NextChain(const Digest& chain, std::string_view payload) {
  ByteWriter w;
  w.Write(chain);
  w.Raw(payload.data(), payload.size());
  return Blake2b(w.str());
}

// The intact record at the start of `bytes`, if there is one.
std::optional<RecordHeader> ParseRecord(std::string_view bytes) {
  ByteReader r(bytes);
  if (r.U32() != kMagic) return std::nullopt;
  RecordHeader h;
  h.length = r.U32(), h.sequence = r.U64(), h.durable = r.U64();
  r.Read(h.chain);
  const uint64_t checksum = r.U64();
  if (!r.ok() || h.length > kMaxRecordBytes || bytes.size() - kHeaderBytes < h.length)
    return std::nullopt;
  std::string covered(bytes.substr(0, kHeaderBytes - 8));
  covered.append(bytes.substr(kHeaderBytes, h.length));
  if (Xxh3(AsBytes(covered)) != checksum) return std::nullopt;
  return h;
}

// The highest `durable` that any intact record in `bytes` states.
uint64_t DurableStatedIn(std::string_view bytes) {
  uint64_t durable = 0;
  const char first = static_cast<char>(kMagic & 0xff);
  for (size_t at = bytes.find(first); at != std::string_view::npos;
       at = bytes.find(first, at + 1)) {
    if (auto h = ParseRecord(bytes.substr(at))) durable = std::max(durable, h->durable);
  }
  return durable;
}

std::string SegmentName(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%06llu.log", static_cast<unsigned long long>(number));
  return name;
}

bool IsSegment(const std::string& name) {
  return name.size() == 10 && name.substr(6) == ".log" &&
         std::all_of(name.begin(), name.begin() + 6, [](char c) { return c >= '0' && c <= '9'; });
}

absl::Status SyncSegment(Storage& storage, const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> file, storage.OpenAppend(path, /*truncate=*/false));
  return file->Sync();
}

absl::Status Damaged(const std::string& path, uint64_t sequence, const std::string& what) {
  return absl::DataLossError(
      "journal " + path + ": record " + std::to_string(sequence) + " " + what +
      " although it was durable. Restore the file, or start a new generation from a checkpoint: "
      "longhaul coordinator run.toml --set run.output_dir=NEW --resume CHECKPOINT");
}

// Reads segment after segment.
class Replay {
 public:
  // False when the segment ends in damage; `good_bytes()` then tells where.
  absl::StatusOr<bool> Read(const std::string& path, std::string_view bytes) {
    good_bytes_ = 0;
    while (good_bytes_ < bytes.size()) {
      std::string_view rest = bytes.substr(good_bytes_);
      std::optional<RecordHeader> h = ParseRecord(rest);
      std::string_view payload = h ? rest.substr(kHeaderBytes, h->length) : std::string_view();
      if (!h) return false;
      if (h->sequence != sequence_ + 1 || NextChain(chain_, payload) != h->chain) {
        return Damaged(path, sequence_ + 1, "is missing or out of order");
      }
      chain_ = h->chain;
      sequence_ = h->sequence;
      payloads_.emplace_back(payload);
      good_bytes_ += kHeaderBytes + h->length;
    }
    return true;
  }

  uint64_t good_bytes() const { return good_bytes_; }
  uint64_t sequence() const { return sequence_; }
  const Digest& chain() const { return chain_; }
  std::vector<std::string> TakePayloads() { return std::move(payloads_); }

 private:
  uint64_t good_bytes_ = 0;
  uint64_t sequence_ = 0;
  Digest chain_{};
  std::vector<std::string> payloads_;
};

}  // namespace

absl::StatusOr<Journal::Opened> Journal::Open(Storage& storage, const std::string& folder) {
  RETURN_IF_ERROR(storage.MakeFolder(folder));
  std::vector<std::string> segments;
  for (const std::string& name : storage.List(folder)) {
    if (IsSegment(name)) segments.push_back(name);
  }
  Opened opened;
  Replay replay;
  uint64_t number = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const std::string path = folder + "/" + segments[i];
    ASSIGN_OR_RETURN(std::string bytes, ReadWhole(storage, path, kMaxSegmentBytes));
    ASSIGN_OR_RETURN(bool intact, replay.Read(path, bytes));
    number = std::stoull(segments[i].substr(0, 6));
    if (intact) {
      // The process before may have been killed before it synced; what follows from these records
      // must not become durable before them.
      if (i + 1 == segments.size()) RETURN_IF_ERROR(SyncSegment(storage, path));
      continue;
    }
    std::string_view damaged = std::string_view(bytes).substr(replay.good_bytes());
    if (i + 1 < segments.size() || DurableStatedIn(damaged) > replay.sequence()) {
      return Damaged(path, replay.sequence() + 1, "is damaged");
    }
    opened.cut_bytes = damaged.size();
    RETURN_IF_ERROR(WriteAtomically(
        storage, path, AsBytes(std::string_view(bytes).substr(0, replay.good_bytes()))));
  }
  opened.journal.reset(new Journal(storage, folder));
  opened.journal->sequence_ = opened.journal->durable_ = replay.sequence();
  opened.journal->chain_ = replay.chain();
  opened.payloads = replay.TakePayloads();
  RETURN_IF_ERROR(opened.journal->StartSegment(number + 1));
  return opened;
}

absl::Status Journal::StartSegment(uint64_t number) {
  ASSIGN_OR_RETURN(file_,
                   storage_.OpenAppend(folder_ + "/" + SegmentName(number), /*truncate=*/true));
  return storage_.SyncFolder(folder_);
}

absl::Status Journal::Append(std::string_view payload) {
  if (payload.size() > kMaxRecordBytes)
    return absl::InvalidArgumentError("a journal record is too long");
  chain_ = NextChain(chain_, payload);
  std::string bytes =
      EncodeHeader({static_cast<uint32_t>(payload.size()), ++sequence_, durable_, chain_});
  const uint64_t checksum = Xxh3(AsBytes(bytes + std::string(payload)));
  ByteWriter w;
  w.U64(checksum);
  bytes += w.str();
  bytes += payload;
  return file_->Append(AsBytes(bytes));
}

absl::Status Journal::Sync() {
  RETURN_IF_ERROR(file_->Sync());
  durable_ = sequence_;
  return absl::OkStatus();
}

}  // namespace longhaul
