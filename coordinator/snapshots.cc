#include "coordinator/snapshots.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x3153484C;  // "LHS1"
constexpr size_t kCoveredHeaderBytes = 4 + 8 + 32 + 8;
constexpr size_t kHeaderBytes = kCoveredHeaderBytes + 32;
constexpr size_t kNameDigits = 20;
constexpr std::string_view kSuffix = ".snapshot";

std::string CoveredHeader(const JournalPlace& place, uint64_t size) {
  ByteWriter w;
  w.U32(kMagic), w.U64(place.sequence), w.Write(place.chain), w.U64(size);
  return w.Take();
}

std::optional<uint64_t> SequenceOf(std::string_view name) {
  if (name.size() != kNameDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  uint64_t sequence = 0;
  for (char c : name.substr(0, kNameDigits)) {
    const uint64_t digit = static_cast<uint64_t>(c - '0');
    if (c < '0' || c > '9' || sequence > (UINT64_MAX - digit) / 10) return std::nullopt;
    sequence = 10 * sequence + digit;
  }
  return sequence;
}

}  // namespace

std::string SnapshotName(uint64_t sequence) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%020llu", static_cast<unsigned long long>(sequence));
  return std::string(digits).append(kSuffix);
}

std::vector<uint64_t> ListSnapshots(Storage& storage, const std::string& folder) {
  std::vector<uint64_t> sequences;
  for (const std::string& name : storage.List(folder)) {
    if (const std::optional<uint64_t> sequence = SequenceOf(name)) sequences.push_back(*sequence);
  }
  std::ranges::sort(sequences, std::greater<>());
  return sequences;
}

absl::Status WriteSnapshot(Storage& storage, const std::string& folder, const JournalPlace& place,
                           std::string_view state) {
  if (state.size() > kMaxSnapshotBytes) {
    return absl::InvalidArgumentError("the state is too large for a snapshot");
  }
  std::string bytes;
  bytes.reserve(kHeaderBytes + state.size());
  bytes.append(CoveredHeader(place, state.size())).append(state);
  const Digest digest = Blake2b(bytes);
  bytes.insert(kCoveredHeaderBytes, reinterpret_cast<const char*>(digest.data()), digest.size());
  return WriteAtomically(storage, folder + "/" + SnapshotName(place.sequence), AsBytes(bytes));
}

absl::StatusOr<Snapshot> ReadSnapshot(Storage& storage, const std::string& folder,
                                      uint64_t sequence) {
  const std::string path = folder + "/" + SnapshotName(sequence);
  const absl::Status damaged = absl::DataLossError("snapshot " + path + " is damaged");
  ASSIGN_OR_RETURN(const uint64_t size, storage.Size(path));
  if (size < kHeaderBytes || size > kHeaderBytes + kMaxSnapshotBytes) return damaged;
  ASSIGN_OR_RETURN(std::string bytes, storage.Read(path, 0, size));
  Snapshot snapshot;
  Digest digest;
  ByteReader r(bytes);
  const uint32_t magic = r.U32();
  snapshot.place.sequence = r.U64();
  r.Read(snapshot.place.chain);
  const uint64_t state_bytes = r.U64();
  r.Read(digest);
  if (!r.ok() || magic != kMagic || snapshot.place.sequence != sequence ||
      state_bytes != bytes.size() - kHeaderBytes) {
    return damaged;
  }
  bytes.erase(kCoveredHeaderBytes, digest.size());
  if (Blake2b(bytes) != digest) return damaged;
  snapshot.state = bytes.substr(kCoveredHeaderBytes);
  return snapshot;
}

}  // namespace longhaul
