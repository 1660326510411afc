#include "data/prepare_log.h"

#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr const char* kStateFile = "prepare.state";
constexpr const char* kBlocksFile = "prepare.blocks";
constexpr uint64_t kMaxStateBytes = uint64_t{1} << 30;
constexpr size_t kMaxPathBytes = 1 << 16;
constexpr size_t kMaxReasonBytes = 1 << 12;
constexpr size_t kQuarantineBytes = 4 + 8 + 8 + 4;  // at least
constexpr uint64_t kMaxRecordBytes = kMaxStoredBlockBytes + (uint64_t{64} << 20);
constexpr uint64_t kFrameBytes = 8 + 8;  // size, xxh3
constexpr size_t kEntryBytes = 88;

void Write(ByteWriter& w, const InputCursor& c) { w.U64(c.file), w.U64(c.offset), w.U64(c.tokens); }

InputCursor ReadCursor(ByteReader& r) {
  InputCursor c;
  c.file = r.U64(), c.offset = r.U64(), c.tokens = r.U64();
  return c;
}

void Write(ByteWriter& w, const std::vector<QuarantinedRecord>& list) {
  w.U64(list.size());
  for (const QuarantinedRecord& q : list) {
    w.String(q.path);
    w.U64(q.offset);
    w.U64(q.bytes);
    w.String(q.reason);
  }
}

std::vector<QuarantinedRecord> ReadQuarantine(ByteReader& r) {
  std::vector<QuarantinedRecord> list(r.Count(kQuarantineBytes));
  for (QuarantinedRecord& q : list) {
    q.path = r.String(kMaxPathBytes);
    q.offset = r.U64();
    q.bytes = r.U64();
    q.reason = r.String(kMaxReasonBytes);
  }
  return list;
}

std::string Encode(const PrepareState& state) {
  ByteWriter w;
  w.String("LH-prepare-1");
  w.Write(state.fingerprint);
  w.U64(state.shards.size());
  for (const ShardEntry& e : state.shards) {
    w.Write(e.blob_id), w.Write(e.logical_id);
    w.U64(e.samples), w.U64(e.file_bytes), w.U32(e.index_bytes), w.U32(e.domain);
  }
  Write(w, state.quarantine);
  w.U64(state.tokens_left);
  Write(w, state.cursor);
  const Digest checksum = Blake2b(w.str());
  w.Write(checksum);
  return w.Take();
}

std::string Encode(const BlockRecord& block) {
  ByteWriter w;
  Write(w, block.cursor);
  Write(w, block.quarantine);
  w.U64(block.tokens_left);
  w.U32(block.decoded_bytes);
  w.String(block.stored);
  return w.Take();
}

bool Decode(ByteSpan bytes, BlockRecord& block) {
  ByteReader r(bytes);
  block.cursor = ReadCursor(r);
  block.quarantine = ReadQuarantine(r);
  block.tokens_left = r.U64();
  block.decoded_bytes = r.U32();
  block.stored = r.String(kMaxStoredBlockBytes);
  return r.AtEnd();
}

std::string Frame(const std::string& payload) {
  ByteWriter w;
  w.U64(payload.size());
  w.U64(Xxh3(AsBytes(payload)));
  w.Raw(payload.data(), payload.size());
  return w.Take();
}

}  // namespace

absl::StatusOr<PrepareState> PrepareLog::ReadState() {
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(storage_, kStateFile, kMaxStateBytes));
  const absl::Status damaged = absl::DataLossError("prepare.state is damaged");
  if (bytes.size() < sizeof(Digest)) return damaged;
  ByteReader r(bytes);
  PrepareState state;
  if (r.String(32) != "LH-prepare-1") return damaged;
  r.Read(state.fingerprint);
  state.shards.resize(r.Count(kEntryBytes));
  for (ShardEntry& e : state.shards) {
    r.Read(e.blob_id), r.Read(e.logical_id);
    e.samples = r.U64(), e.file_bytes = r.U64(), e.index_bytes = r.U32(), e.domain = r.U32();
  }
  state.quarantine = ReadQuarantine(r);
  state.tokens_left = r.U64();
  state.cursor = ReadCursor(r);
  Digest checksum;
  r.Read(checksum);
  const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - sizeof(Digest));
  if (!r.AtEnd() || checksum != Blake2b(body)) return damaged;
  return state;
}

absl::Status PrepareLog::WriteState(const PrepareState& state) {
  return WriteAtomically(storage_, kStateFile, AsBytes(Encode(state)));
}

absl::StatusOr<std::vector<BlockRecord>> PrepareLog::ReadBlocks(const PrepareState& state) {
  std::vector<BlockRecord> blocks;
  uint64_t at = sizeof(Digest);
  const Digest name = Blake2b(Encode(state));
  auto head = storage_.Read(kBlocksFile, 0, sizeof(Digest));
  if (!head.ok()) return blocks;
  if (*head != std::string(name.begin(), name.end())) return blocks;
  while (true) {
    ASSIGN_OR_RETURN(const std::string frame, storage_.Read(kBlocksFile, at, kFrameBytes));
    if (frame.size() != kFrameBytes) return blocks;
    ByteReader r(frame);
    const uint64_t size = r.U64(), checksum = r.U64();
    if (size > kMaxRecordBytes) return blocks;
    ASSIGN_OR_RETURN(const std::string payload, storage_.Read(kBlocksFile, at + kFrameBytes, size));
    BlockRecord block;
    if (payload.size() != size || Xxh3(AsBytes(payload)) != checksum ||
        !Decode(AsBytes(payload), block)) {
      return blocks;
    }
    blocks.push_back(std::move(block));
    at += kFrameBytes + size;
  }
}

absl::Status PrepareLog::StartBlocks(const PrepareState& state) {
  ASSIGN_OR_RETURN(blocks_, storage_.OpenAppend(kBlocksFile, /*truncate=*/true));
  const Digest name = Blake2b(Encode(state));
  return blocks_->Append(std::as_bytes(std::span(name)));
}

absl::Status PrepareLog::AppendBlock(const BlockRecord& block) {
  return blocks_->Append(AsBytes(Frame(Encode(block))));
}

absl::Status PrepareLog::Remove() {
  blocks_.reset();
  RETURN_IF_ERROR(storage_.Remove(kBlocksFile));
  return storage_.Remove(kStateFile);
}

}  // namespace longhaul
