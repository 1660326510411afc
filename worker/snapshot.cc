#include "worker/snapshot.h"

#include <cmath>
#include <cstring>

#include "common/hash.h"
#include "common/status_macros.h"
#include "proto/messages.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x5357484C;  // "LHWS"
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;

absl::Status Damaged(const std::string& path) {
  return absl::DataLossError("the worker's snapshot " + path + " is damaged");
}

}  // namespace

absl::Status WriteWorkerSnapshot(Storage& storage, const std::string& path,
                                 const SaveSnapshot& saved,
                                 const std::vector<std::span<const float>>& residuals,
                                 const std::string& inner_state) {
  ByteWriter w;
  w.U32(kMagic);
  w.Write(saved.generation);
  w.U64(saved.included.size());
  for (const ContributionId& id : saved.included) w.Write(id);
  w.U64(residuals.size());
  for (std::span<const float> residual : residuals) {
    w.U64(residual.size());
    w.Raw(residual.data(), residual.size_bytes());
  }
  w.U64(inner_state.size());
  w.Raw(inner_state.data(), inner_state.size());
  w.Write(Blake2b(w.str()));
  return WriteAtomically(storage, path, AsBytes(w.str()));
}

absl::StatusOr<WorkerSnapshot> ReadWorkerSnapshot(Storage& storage, const std::string& path) {
  if (!storage.Exists(path)) return absl::NotFoundError("no snapshot");
  ASSIGN_OR_RETURN(std::string bytes, ReadWhole(storage, path, kMaxBytes));
  if (bytes.size() < sizeof(Digest)) return Damaged(path);
  const std::string_view body(bytes.data(), bytes.size() - sizeof(Digest));
  Digest digest;
  std::memcpy(digest.data(), bytes.data() + body.size(), sizeof digest);
  if (Blake2b(body) != digest) return Damaged(path);
  ByteReader r(body);
  WorkerSnapshot snapshot;
  if (r.U32() != kMagic) return Damaged(path);
  r.Read(snapshot.saved.generation);
  const uint64_t fragments = r.Count(16);
  if (fragments > kMaxFragmentsPerMessage) return Damaged(path);
  snapshot.saved.included.resize(fragments);
  for (ContributionId& id : snapshot.saved.included) r.Read(id);
  const uint64_t parts = r.Count(8);
  if (parts != fragments) return Damaged(path);
  for (uint64_t i = 0; i < parts; ++i) {
    std::vector<float>& residual = snapshot.residuals.emplace_back(r.Count(sizeof(float)));
    r.Raw(residual.data(), residual.size() * sizeof(float));
    for (float e : residual) {
      if (!std::isfinite(e)) return Damaged(path);
    }
  }
  snapshot.inner_state.resize(r.Count(1));
  r.Raw(snapshot.inner_state.data(), snapshot.inner_state.size());
  if (!r.AtEnd()) return Damaged(path);
  return snapshot;
}

}  // namespace longhaul
