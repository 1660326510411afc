// A manifest: the ordered list of shards that make up a data set, with one canonical encoding.
//
//   id        Merkle root over the encoded head, every entry, and the withdrawals: names this very
//             manifest. It is what the signature covers.
//   identity  hash over (format version, tokens, sample size, tokenizer and recipe, domains with
//             their validation samples, ordered logical ids): names what is trained on. Resume and
//             join compare it. Withdrawals are not in it: they take samples out without moving the
//             others, so that a run can go on after a take-down.
//
// Samples of a domain are numbered through its shards in the order of the manifest. The first
// `validation_samples` of a domain are never trained on; shards that are added later do not change
// which ones those are.
//
// A delta turns one signed version into the next: shards added at the end, samples withdrawn.
//
// Parsers read bytes of unknown origin: counts are compared with what is left before memory is
// asked for. Plain values and free functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/ids.h"
#include "data/shard.h"

namespace longhaul {

inline constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;
inline constexpr uint32_t kMaxDomains = 4096;
inline constexpr size_t kMaxDomainNameBytes = 64;

struct ManifestDomain {
  std::string name;
  uint64_t validation_samples = 0;
  auto operator<=>(const ManifestDomain&) const = default;
};

struct ShardEntry {
  Digest blob_id{};
  Digest logical_id{};
  uint64_t samples = 0;
  uint64_t file_bytes = 0;
  uint32_t index_bytes = 0;  // of the file's beginning: header and table
  uint32_t domain = 0;
  auto operator<=>(const ShardEntry&) const = default;
};

// Samples [from, to) of a shard, by their number in it.
struct Withdrawal {
  uint32_t shard = 0;
  uint64_t from = 0;
  uint64_t to = 0;
  auto operator<=>(const Withdrawal&) const = default;
};

// Ed25519 over (what it is, id). All zeros: unsigned.
struct ManifestSignature {
  std::array<uint8_t, 32> public_key{};
  std::array<uint8_t, 64> bytes{};
  bool present() const { return *this != ManifestSignature(); }
  auto operator<=>(const ManifestSignature&) const = default;
};

struct Manifest {
  uint64_t version = 1;
  Digest parent{};  // id of the version before; zeros for the first
  SampleFormat format;
  uint32_t vocab_size = 0;
  std::string tokenizer;  // for people: "bytes", a file's name
  std::vector<ManifestDomain> domains;
  std::vector<ShardEntry> shards;
  std::vector<Withdrawal> withdrawn;  // sorted, apart
  ManifestSignature signature;
  auto operator<=>(const Manifest&) const = default;

  Digest Id() const;
  Digest Identity() const;
  uint64_t DomainSamples(uint32_t domain) const;  // with validation and withdrawn ones
  uint64_t Samples() const;
  bool Withdrawn(uint32_t shard, uint64_t sample) const;
};

// InvalidArgument names the first rule that is broken: sizes in range, domain names unique, entries
// inside their domains, withdrawals sorted and inside their shards, no shard twice, validation
// smaller than its domain.
absl::Status CheckManifest(const Manifest& manifest);

// Of a valid manifest.
std::string EncodeManifest(const Manifest& manifest);
// DataLoss for anything but the encoding of a valid manifest. The signature is not verified here.
absl::StatusOr<Manifest> ParseManifest(ByteSpan bytes);

struct ManifestDelta {
  Digest parent{};  // id
  Digest result{};  // id of what it makes
  std::vector<ManifestDomain> new_domains;
  std::vector<ShardEntry> added;
  std::vector<Withdrawal> withdrawn;  // in addition; may overlap what was withdrawn before
  ManifestSignature signature;        // of the result
  auto operator<=>(const ManifestDelta&) const = default;
};

std::string EncodeDelta(const ManifestDelta& delta);
absl::StatusOr<ManifestDelta> ParseDelta(ByteSpan bytes);
// What takes `from` to `to`. InvalidArgument unless `to` keeps all of `from`, in order, and names
// it as its parent.
absl::StatusOr<ManifestDelta> MakeDelta(const Manifest& from, const Manifest& to);
// The next version, with the delta's signature. FailedPrecondition when the delta belongs to
// another parent; InvalidArgument when it does not make what it says.
absl::StatusOr<Manifest> ApplyDelta(const Manifest& parent, const ManifestDelta& delta);
// The next version of a manifest with more shards and withdrawals, unsigned.
Manifest NextVersion(const Manifest& parent, const std::vector<ManifestDomain>& new_domains,
                     const std::vector<ShardEntry>& added,
                     const std::vector<Withdrawal>& withdrawn);

// The next version of `parent` that also has the shards of `fresh`, by the names of its domains;
// shards that are there already are not added again. InvalidArgument unless both have one sample
// format and vocabulary.
absl::StatusOr<Manifest> Extended(const Manifest& parent, const Manifest& fresh);

// ---- signatures ----

using SigningSeed = std::array<uint8_t, 32>;  // secret
std::array<uint8_t, 32> SigningPublicKey(const SigningSeed& seed);
void SignManifest(const SigningSeed& seed, Manifest& manifest);
// Unauthenticated when it is unsigned, signed by another key than `public_key`, or wrongly.
absl::Status VerifyManifest(const Manifest& manifest, const std::array<uint8_t, 32>& public_key);

}  // namespace longhaul
