#include "data/manifest.h"

#include <sodium.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "data/merkle.h"

namespace longhaul {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr std::string_view kMagic = "LHMANIF\n";
constexpr std::string_view kDeltaMagic = "LHDELTA\n";
constexpr size_t kMaxTokenizerName = 256;
constexpr size_t kEntryBytes = 32 + 32 + 8 + 8 + 4 + 4;
constexpr size_t kWithdrawalBytes = 4 + 8 + 8;
constexpr size_t kDomainBytes = 4 + 8;  // at least
// Keeps every sum of samples and bytes far from the end of 64 bits.
constexpr uint64_t kMaxPerShard = uint64_t{1} << 40;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("manifest: " + reason);
}

std::string EncodeHead(const Manifest& m) {
  ByteWriter w;
  w.U32(kFormatVersion);
  w.U64(m.version);
  w.Write(m.parent);
  w.U32(m.format.token_bytes);
  w.U32(m.format.sample_tokens);
  w.Write(m.format.tokenizer_hash);
  w.Write(m.format.recipe_hash);
  w.U32(m.vocab_size);
  w.String(m.tokenizer);
  return w.Take();
}

void WriteDomains(ByteWriter& w, const std::vector<ManifestDomain>& domains) {
  w.U64(domains.size());
  for (const ManifestDomain& d : domains) {
    w.String(d.name);
    w.U64(d.validation_samples);
  }
}

void WriteEntry(ByteWriter& w, const ShardEntry& e) {
  w.Write(e.blob_id);
  w.Write(e.logical_id);
  w.U64(e.samples);
  w.U64(e.file_bytes);
  w.U32(e.index_bytes);
  w.U32(e.domain);
}

void WriteEntries(ByteWriter& w, const std::vector<ShardEntry>& entries) {
  w.U64(entries.size());
  for (const ShardEntry& e : entries) WriteEntry(w, e);
}

void WriteWithdrawn(ByteWriter& w, const std::vector<Withdrawal>& list) {
  w.U64(list.size());
  for (const Withdrawal& x : list) w.U32(x.shard), w.U64(x.from), w.U64(x.to);
}

void WriteSignature(ByteWriter& w, const ManifestSignature& s) {
  w.Raw(s.public_key.data(), s.public_key.size());
  w.Raw(s.bytes.data(), s.bytes.size());
}

std::vector<ManifestDomain> ReadDomains(ByteReader& r) {
  std::vector<ManifestDomain> domains(r.Count(kDomainBytes));
  for (ManifestDomain& d : domains) {
    d.name = r.String(kMaxDomainNameBytes);
    d.validation_samples = r.U64();
  }
  return domains;
}

std::vector<ShardEntry> ReadEntries(ByteReader& r) {
  std::vector<ShardEntry> entries(r.Count(kEntryBytes));
  for (ShardEntry& e : entries) {
    r.Read(e.blob_id);
    r.Read(e.logical_id);
    e.samples = r.U64();
    e.file_bytes = r.U64();
    e.index_bytes = r.U32();
    e.domain = r.U32();
  }
  return entries;
}

std::vector<Withdrawal> ReadWithdrawn(ByteReader& r) {
  std::vector<Withdrawal> list(r.Count(kWithdrawalBytes));
  for (Withdrawal& x : list) x.shard = r.U32(), x.from = r.U64(), x.to = r.U64();
  return list;
}

void ReadSignature(ByteReader& r, ManifestSignature& s) {
  r.Raw(s.public_key.data(), s.public_key.size());
  r.Raw(s.bytes.data(), s.bytes.size());
}

bool Starts(ByteReader& r, std::string_view magic) {
  std::string found(magic.size(), '\0');
  return r.Raw(found.data(), found.size()) && found == magic;
}

absl::Status CheckHead(const Manifest& m) {
  RETURN_IF_ERROR(CheckSampleFormat(m.format));
  const uint64_t most = uint64_t{1} << (8 * m.format.token_bytes);
  if (m.vocab_size == 0 || m.vocab_size > most)
    return Bad("the vocabulary does not fit its tokens");
  if (m.version == 0) return Bad("versions begin with 1");
  if ((m.version == 1) != (m.parent == Digest{})) return Bad("all but version 1 have a parent");
  if (m.tokenizer.size() > kMaxTokenizerName) return Bad("the tokenizer's name is too long");
  return absl::OkStatus();
}

absl::Status CheckDomains(const Manifest& m) {
  if (m.domains.empty() || m.domains.size() > kMaxDomains) {
    return Bad(absl::StrCat("1 to ", kMaxDomains, " domains"));
  }
  std::set<std::string> names;
  for (uint32_t i = 0; i < m.domains.size(); ++i) {
    const ManifestDomain& d = m.domains[i];
    if (d.name.empty() || d.name.size() > kMaxDomainNameBytes) return Bad("a domain's name");
    if (!names.insert(d.name).second) return Bad("domain " + d.name + " is there twice");
  }
  std::vector<uint64_t> samples(m.domains.size());
  for (const ShardEntry& e : m.shards) samples[e.domain] += e.samples;
  for (uint32_t i = 0; i < m.domains.size(); ++i) {
    if (m.domains[i].validation_samples >= samples[i]) {
      return Bad("domain " + m.domains[i].name + " has no sample to train on");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckShards(const Manifest& m) {
  std::set<Digest> blobs;
  for (uint32_t i = 0; i < m.shards.size(); ++i) {
    const ShardEntry& e = m.shards[i];
    const std::string which = absl::StrCat("shard ", i);
    if (e.domain >= m.domains.size()) return Bad(which + " is of no domain");
    if (e.samples == 0 || e.samples > kMaxPerShard)
      return Bad(which + " has no or too many samples");
    constexpr uint64_t kMaxIndex =
        kShardHeaderBytes + uint64_t{kMaxShardBlocks} * kShardTableRowBytes;
    if (e.index_bytes <= kShardHeaderBytes || e.index_bytes > kMaxIndex ||
        e.file_bytes <= e.index_bytes || e.file_bytes > kMaxPerShard) {
      return Bad(which + " has sizes out of range");
    }
    if (!blobs.insert(e.blob_id).second) return Bad(which + " is there twice");
  }
  return absl::OkStatus();
}

absl::Status CheckWithdrawn(const Manifest& m) {
  const Withdrawal* last = nullptr;
  for (const Withdrawal& x : m.withdrawn) {
    if (x.shard >= m.shards.size() || x.from >= x.to || x.to > m.shards[x.shard].samples) {
      return Bad("a withdrawal names no samples");
    }
    // Neighbours that touch would be one range.
    if (last && (x.shard < last->shard || (x.shard == last->shard && x.from <= last->to))) {
      return Bad("withdrawals are not in order");
    }
    last = &x;
  }
  return absl::OkStatus();
}

// Sorted, and merged where they touch.
std::vector<Withdrawal> Merged(std::vector<Withdrawal> list) {
  std::sort(list.begin(), list.end());
  std::vector<Withdrawal> merged;
  for (const Withdrawal& x : list) {
    if (!merged.empty() && merged.back().shard == x.shard && x.from <= merged.back().to) {
      merged.back().to = std::max(merged.back().to, x.to);
    } else {
      merged.push_back(x);
    }
  }
  return merged;
}

template <class T>
bool StartsWith(const std::vector<T>& all, const std::vector<T>& beginning) {
  return all.size() >= beginning.size() &&
         std::equal(beginning.begin(), beginning.end(), all.begin());
}

std::string SignedBytes(const Manifest& m) {
  ByteWriter w;
  w.String("LH-manifest-1");
  w.Write(m.Id());
  return w.Take();
}

}  // namespace

Digest Manifest::Id() const {
  ByteWriter head;
  const std::string encoded = EncodeHead(*this);
  head.Raw(encoded.data(), encoded.size());
  WriteDomains(head, domains);
  std::vector<Digest> leaves = {LeafDigest(AsBytes(head.str()))};
  uint64_t length = head.str().size();
  for (const ShardEntry& e : shards) {
    ByteWriter w;
    WriteEntry(w, e);
    leaves.push_back(LeafDigest(AsBytes(w.str())));
    length += w.str().size();
  }
  ByteWriter tail;
  WriteWithdrawn(tail, withdrawn);
  leaves.push_back(LeafDigest(AsBytes(tail.str())));
  return MerkleRoot(leaves, length + tail.str().size());
}

Digest Manifest::Identity() const {
  ByteWriter w;
  w.String("LH-data-set");
  w.U32(kFormatVersion);
  w.U32(format.token_bytes);
  w.U32(format.sample_tokens);
  w.Write(format.tokenizer_hash);
  w.Write(format.recipe_hash);
  w.U32(vocab_size);
  WriteDomains(w, domains);
  w.U64(shards.size());
  for (const ShardEntry& e : shards) {
    w.Write(e.logical_id);
    w.U64(e.samples);
    w.U32(e.domain);
  }
  return Blake2b(w.str());
}

uint64_t Manifest::DomainSamples(uint32_t domain) const {
  uint64_t sum = 0;
  for (const ShardEntry& e : shards) sum += e.domain == domain ? e.samples : 0;
  return sum;
}

uint64_t Manifest::Samples() const {
  uint64_t sum = 0;
  for (const ShardEntry& e : shards) sum += e.samples;
  return sum;
}

bool Manifest::Withdrawn(uint32_t shard, uint64_t sample) const {
  const Withdrawal key{shard, sample, UINT64_MAX};
  auto after = std::upper_bound(withdrawn.begin(), withdrawn.end(), key);
  if (after == withdrawn.begin()) return false;
  const Withdrawal& x = *std::prev(after);
  return x.shard == shard && sample < x.to;
}

absl::Status CheckManifest(const Manifest& manifest) {
  RETURN_IF_ERROR(CheckHead(manifest));
  RETURN_IF_ERROR(CheckShards(manifest));
  RETURN_IF_ERROR(CheckDomains(manifest));
  return CheckWithdrawn(manifest);
}

std::string EncodeManifest(const Manifest& m) {
  ByteWriter w;
  w.Raw(kMagic.data(), kMagic.size());
  const std::string head = EncodeHead(m);
  w.Raw(head.data(), head.size());
  WriteDomains(w, m.domains);
  WriteEntries(w, m.shards);
  WriteWithdrawn(w, m.withdrawn);
  WriteSignature(w, m.signature);
  const Digest checksum = Blake2b(w.str());
  w.Write(checksum);
  return w.Take();
}

absl::StatusOr<Manifest> ParseManifest(ByteSpan bytes) {
  const absl::Status damaged = absl::DataLossError("manifest: damaged, or not a manifest");
  if (bytes.size() < sizeof(Digest) || bytes.size() > kMaxManifestBytes) return damaged;
  const ByteSpan body = bytes.first(bytes.size() - sizeof(Digest));
  Manifest m;
  ByteReader r(bytes);
  if (!Starts(r, kMagic)) return damaged;
  if (const uint32_t version = r.U32(); r.ok() && version != kFormatVersion) {
    return absl::DataLossError(absl::StrCat("manifest: format version ", version,
                                            ", this program reads ", kFormatVersion));
  }
  m.version = r.U64();
  r.Read(m.parent);
  m.format.token_bytes = r.U32();
  m.format.sample_tokens = r.U32();
  r.Read(m.format.tokenizer_hash);
  r.Read(m.format.recipe_hash);
  m.vocab_size = r.U32();
  m.tokenizer = r.String(kMaxTokenizerName);
  m.domains = ReadDomains(r);
  m.shards = ReadEntries(r);
  m.withdrawn = ReadWithdrawn(r);
  ReadSignature(r, m.signature);
  Digest checksum;
  r.Read(checksum);
  if (!r.AtEnd() || checksum != Blake2b(body)) return damaged;
  if (absl::Status status = CheckManifest(m); !status.ok()) {
    return absl::DataLossError(status.message());
  }
  return m;
}

std::string EncodeDelta(const ManifestDelta& d) {
  ByteWriter w;
  w.Raw(kDeltaMagic.data(), kDeltaMagic.size());
  w.U32(kFormatVersion);
  w.Write(d.parent);
  w.Write(d.result);
  WriteDomains(w, d.new_domains);
  WriteEntries(w, d.added);
  WriteWithdrawn(w, d.withdrawn);
  WriteSignature(w, d.signature);
  const Digest checksum = Blake2b(w.str());
  w.Write(checksum);
  return w.Take();
}

absl::StatusOr<ManifestDelta> ParseDelta(ByteSpan bytes) {
  const absl::Status damaged = absl::DataLossError("manifest delta: damaged, or not a delta");
  if (bytes.size() < sizeof(Digest) || bytes.size() > kMaxManifestBytes) return damaged;
  ByteReader r(bytes);
  if (!Starts(r, kDeltaMagic) || r.U32() != kFormatVersion) return damaged;
  ManifestDelta d;
  r.Read(d.parent);
  r.Read(d.result);
  d.new_domains = ReadDomains(r);
  d.added = ReadEntries(r);
  d.withdrawn = ReadWithdrawn(r);
  ReadSignature(r, d.signature);
  Digest checksum;
  r.Read(checksum);
  if (!r.AtEnd() || checksum != Blake2b(bytes.first(bytes.size() - sizeof(Digest)))) return damaged;
  return d;
}

absl::StatusOr<ManifestDelta> MakeDelta(const Manifest& from, const Manifest& to) {
  if (to.parent != from.Id()) return Bad("it is not the next version of the other");
  if (!StartsWith(to.domains, from.domains) || !StartsWith(to.shards, from.shards)) {
    return Bad("a next version keeps all domains and shards, in order");
  }
  ManifestDelta d;
  d.parent = to.parent;
  d.result = to.Id();
  d.new_domains.assign(to.domains.begin() + static_cast<int64_t>(from.domains.size()),
                       to.domains.end());
  d.added.assign(to.shards.begin() + static_cast<int64_t>(from.shards.size()), to.shards.end());
  for (const Withdrawal& x : to.withdrawn) {
    if (!std::binary_search(from.withdrawn.begin(), from.withdrawn.end(), x)) {
      d.withdrawn.push_back(x);
    }
  }
  d.signature = to.signature;
  return d;
}

Manifest NextVersion(const Manifest& parent, const std::vector<ManifestDomain>& new_domains,
                     const std::vector<ShardEntry>& added,
                     const std::vector<Withdrawal>& withdrawn) {
  Manifest m = parent;
  m.version = parent.version + 1;
  m.parent = parent.Id();
  m.domains.insert(m.domains.end(), new_domains.begin(), new_domains.end());
  m.shards.insert(m.shards.end(), added.begin(), added.end());
  m.withdrawn.insert(m.withdrawn.end(), withdrawn.begin(), withdrawn.end());
  m.withdrawn = Merged(std::move(m.withdrawn));
  m.signature = {};
  return m;
}

absl::StatusOr<Manifest> ApplyDelta(const Manifest& parent, const ManifestDelta& delta) {
  if (delta.parent != parent.Id()) {
    return absl::FailedPreconditionError("manifest delta: it belongs to another version");
  }
  Manifest m = NextVersion(parent, delta.new_domains, delta.added, delta.withdrawn);
  RETURN_IF_ERROR(CheckManifest(m));
  if (m.Id() != delta.result) return Bad("the delta does not make what it says");
  m.signature = delta.signature;
  return m;
}

absl::StatusOr<Manifest> Extended(const Manifest& parent, const Manifest& fresh) {
  if (parent.format != fresh.format || parent.vocab_size != fresh.vocab_size) {
    return Bad("the new shards have another sample size or tokenizer");
  }
  std::vector<ManifestDomain> domains = parent.domains;
  std::vector<uint32_t> number;  // of fresh's domains
  for (const ManifestDomain& d : fresh.domains) {
    const auto same = std::find_if(domains.begin(), domains.end(),
                                   [&](const ManifestDomain& x) { return x.name == d.name; });
    number.push_back(static_cast<uint32_t>(same - domains.begin()));
    if (same == domains.end()) domains.push_back(d);
  }
  std::set<Digest> known;
  for (const ShardEntry& e : parent.shards) known.insert(e.blob_id);
  std::vector<ShardEntry> added;
  for (ShardEntry e : fresh.shards) {
    e.domain = number[e.domain];
    if (known.insert(e.blob_id).second) added.push_back(e);
  }
  domains.erase(domains.begin(), domains.begin() + static_cast<int64_t>(parent.domains.size()));
  Manifest next = NextVersion(parent, domains, added, {});
  RETURN_IF_ERROR(CheckManifest(next));
  return next;
}

std::array<uint8_t, 32> SigningPublicKey(const SigningSeed& seed) {
  std::array<uint8_t, 32> public_key;
  std::array<uint8_t, crypto_sign_SECRETKEYBYTES> secret;
  crypto_sign_seed_keypair(public_key.data(), secret.data(), seed.data());
  sodium_memzero(secret.data(), secret.size());
  return public_key;
}

void SignManifest(const SigningSeed& seed, Manifest& manifest) {
  std::array<uint8_t, crypto_sign_SECRETKEYBYTES> secret;
  crypto_sign_seed_keypair(manifest.signature.public_key.data(), secret.data(), seed.data());
  const std::string message = SignedBytes(manifest);
  crypto_sign_detached(manifest.signature.bytes.data(), nullptr,
                       reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                       secret.data());
  sodium_memzero(secret.data(), secret.size());
}

absl::Status VerifyManifest(const Manifest& manifest, const std::array<uint8_t, 32>& public_key) {
  const ManifestSignature& s = manifest.signature;
  if (!s.present()) return absl::UnauthenticatedError("manifest: it is not signed");
  if (s.public_key != public_key) {
    return absl::UnauthenticatedError("manifest: it is signed by another key");
  }
  const std::string message = SignedBytes(manifest);
  if (crypto_sign_verify_detached(s.bytes.data(),
                                  reinterpret_cast<const unsigned char*>(message.data()),
                                  message.size(), public_key.data()) != 0) {
    return absl::UnauthenticatedError("manifest: the signature is wrong");
  }
  return absl::OkStatus();
}

}  // namespace longhaul
