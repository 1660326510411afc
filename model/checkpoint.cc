#include "model/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/hash.h"
#include "common/status_macros.h"
#include "model/parameter_table.h"
#include "model/safetensors.h"
#include "model/strict_json.h"

namespace longhaul {
namespace {

constexpr char kConfig[] = "config.json";
constexpr char kModel[] = "model.safetensors";
constexpr char kMomentum[] = "trainer/momentum.bin";
constexpr char kResidual[] = "trainer/residual.bin";
constexpr char kLedger[] = "trainer/ledger.bin";
constexpr char kState[] = "trainer/state.json";
constexpr std::array kDigested = {kConfig, kModel, kMomentum, kResidual, kLedger};

constexpr char kRoundPrefix[] = "round-";
constexpr char kTemporaryPrefix[] = ".writing-";
constexpr char kRemovedPrefix[] = ".removed-";

using DigestByFile = std::map<std::string, Digest>;

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string Join(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : absl::StrCat(folder, "/", name);
}

// Digest of a file that comes in pieces of any size.
class FileDigest {
 public:
  void Add(ByteSpan bytes) {
    while (!bytes.empty()) {
      const size_t n = std::min<size_t>(bytes.size(), kDigestChunkBytes - pending_.size());
      if (pending_.empty() && n == kDigestChunkBytes) {
        chunks_.push_back(ChunkDigest(bytes.first(n)));
      } else {
        pending_.append(reinterpret_cast<const char*>(bytes.data()), n);
        if (pending_.size() == kDigestChunkBytes) Flush();
      }
      bytes = bytes.subspan(n);
    }
  }
  Digest Finish() {
    if (!pending_.empty()) Flush();
    return RootDigest(chunks_);
  }

 private:
  void Flush() {
    chunks_.push_back(ChunkDigest(AsBytes(std::string_view(pending_))));
    pending_.clear();
  }
  std::string pending_;
  std::vector<Digest> chunks_;
};

// ---- state.json ----

nlohmann::ordered_json StateJson(const CheckpointState& state, const DigestByFile& digests) {
  nlohmann::ordered_json json;
  json["format"] = kCheckpointFormat;
  json["run"] = state.run;
  json["generation"] = {{"counter", state.generation.counter}, {"random", state.generation.random}};
  json["round"] = state.round;
  json["fragments"] = nlohmann::ordered_json::array();
  for (const CheckpointFragment& f : state.fragments) {
    json["fragments"].push_back(
        {{"version", f.version.value}, {"state_hash", ToHex(f.state_hash)}});
  }
  json["data_identity"] = ToHex(state.data_identity);
  json["seed"] = state.seed;
  for (const auto& [file, digest] : digests) json["digests"][file] = ToHex(digest);
  return json;
}

// The file's bytes: one spelling per content, with the digest of all that precedes it at the end.
std::string RenderState(const CheckpointState& state, const DigestByFile& digests) {
  nlohmann::ordered_json json = StateJson(state, digests);
  json["digest"] = ToHex(Blake2b(std::string_view(json.dump())));
  return json.dump(2) + "\n";
}

absl::StatusOr<Digest> JsonDigest(const nlohmann::json& object, const char* key) {
  ASSIGN_OR_RETURN(std::string hex, JsonString(object, key));
  Digest digest;
  if (!FromHex(hex, digest)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" is not a digest"));
  }
  return digest;
}

absl::StatusOr<std::vector<CheckpointFragment>> ParseFragments(const nlohmann::json& json) {
  auto it = json.find("fragments");
  if (it == json.end() || !it->is_array() || it->size() > kMaxCheckpointFragments) {
    return absl::InvalidArgumentError("\"fragments\" is not a list of fragments");
  }
  std::vector<CheckpointFragment> fragments;
  for (const nlohmann::json& entry : *it) {
    if (!entry.is_object()) return absl::InvalidArgumentError("a fragment is not an object");
    CheckpointFragment f;
    ASSIGN_OR_RETURN(f.version.value, JsonUnsigned(entry, "version", UINT64_MAX));
    ASSIGN_OR_RETURN(f.state_hash, JsonDigest(entry, "state_hash"));
    fragments.push_back(f);
  }
  return fragments;
}

absl::Status ParseState(const std::string& text, CheckpointState& state, DigestByFile& digests) {
  ASSIGN_OR_RETURN(nlohmann::json json, ParseStrictJson(text, kState));
  ASSIGN_OR_RETURN(uint64_t format, JsonUnsigned(json, "format", UINT32_MAX));
  if (format != kCheckpointFormat) {
    return absl::InvalidArgumentError(
        absl::StrCat("format ", format, " is unknown, only ", kCheckpointFormat, " can be read"));
  }
  ASSIGN_OR_RETURN(state.run, JsonString(json, "run"));
  const nlohmann::json generation = json.value("generation", nlohmann::json::object());
  ASSIGN_OR_RETURN(state.generation.counter, JsonUnsigned(generation, "counter", UINT64_MAX));
  ASSIGN_OR_RETURN(state.generation.random, JsonUnsigned(generation, "random", UINT64_MAX));
  ASSIGN_OR_RETURN(state.round, JsonUnsigned(json, "round", UINT64_MAX));
  ASSIGN_OR_RETURN(state.fragments, ParseFragments(json));
  ASSIGN_OR_RETURN(state.data_identity, JsonDigest(json, "data_identity"));
  ASSIGN_OR_RETURN(state.seed, JsonUnsigned(json, "seed", UINT64_MAX));
  const nlohmann::json files = json.value("digests", nlohmann::json::object());
  for (const char* file : kDigested) {
    ASSIGN_OR_RETURN(digests[file], JsonDigest(files, file));
  }
  if (RenderState(state, digests) != text) return absl::InvalidArgumentError("damaged");
  return absl::OkStatus();
}

// ---- writing ----

// Writes and syncs one file made of pieces.
absl::StatusOr<Digest> WriteFile(Storage& storage, const std::string& path,
                                 const std::vector<ByteSpan>& pieces) {
  ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> file, storage.OpenAppend(path, /*truncate=*/true));
  FileDigest digest;
  for (ByteSpan piece : pieces) {
    digest.Add(piece);
    RETURN_IF_ERROR(file->Append(piece));
  }
  RETURN_IF_ERROR(file->Sync());
  return digest.Finish();
}

absl::Status CheckContents(const CheckpointContents& c) {
  RETURN_IF_ERROR(ValidateShape(c.shape));
  const uint64_t n = ParameterCount(c.shape);
  const bool sizes = c.parameters.size() == n && (c.momentum.empty() || c.momentum.size() == n) &&
                     (c.residual.empty() || c.residual.size() == n);
  if (!sizes) return absl::InvalidArgumentError("checkpoint: a vector has the wrong length");
  if (c.ledger.size() > kMaxLedgerBytes || c.state.fragments.size() > kMaxCheckpointFragments) {
    return absl::InvalidArgumentError("checkpoint: ledger or fragment list over its limit");
  }
  const bool plain = std::all_of(c.state.run.begin(), c.state.run.end(),
                                 [](char ch) { return ch > ' ' && ch < 127; });
  if (!plain) return absl::InvalidArgumentError("checkpoint: the run id is not plain text");
  return absl::OkStatus();
}

absl::Status WriteFiles(Storage& storage, const std::string& folder, const CheckpointContents& c) {
  const std::string config = ToConfigJson(c.shape);
  const std::string header = MakeSafetensorsHeader(MakeParameterTable(c.shape));
  const std::map<std::string, std::vector<ByteSpan>> files = {
      {kConfig, {AsBytes(std::string_view(config))}},
      {kModel, {AsBytes(std::string_view(header)), std::as_bytes(c.parameters)}},
      {kMomentum, {std::as_bytes(c.momentum)}},
      {kResidual, {std::as_bytes(c.residual)}},
      {kLedger, {AsBytes(c.ledger)}},
  };
  DigestByFile digests;
  for (const auto& [name, pieces] : files) {
    ASSIGN_OR_RETURN(digests[name], WriteFile(storage, Join(folder, name), pieces));
  }
  const std::string state = RenderState(c.state, digests);
  return WriteFile(storage, Join(folder, kState), {AsBytes(std::string_view(state))}).status();
}

absl::Status RemoveLeftovers(Storage& storage, const std::string& parent) {
  for (const std::string& name : storage.List(parent)) {
    if (absl::StartsWith(name, kTemporaryPrefix) || absl::StartsWith(name, kRemovedPrefix)) {
      RETURN_IF_ERROR(storage.Remove(Join(parent, name)));
    }
  }
  return absl::OkStatus();
}

// The round of a finished checkpoint's name; nothing for any other name.
std::optional<uint64_t> RoundOf(const std::string& name) {
  if (!absl::StartsWith(name, kRoundPrefix)) return std::nullopt;
  const std::string digits = name.substr(sizeof kRoundPrefix - 1);
  const bool number =
      !digits.empty() && digits.size() < 20 &&
      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number) return std::nullopt;
  return std::stoull(digits);
}

// ---- reading ----

absl::Status BadFile(const std::string& folder, const char* file, const std::string& problem) {
  return absl::InvalidArgumentError(absl::StrCat("checkpoint ", Join(folder, file), ": ", problem));
}

// Reads one file whole, piece by piece, into `out` (resized by the caller's function once the size
// is known to be one it accepts).
class VerifiedReader {
 public:
  VerifiedReader(Storage& storage, const std::string& folder, const DigestByFile& digests)
      : storage_(storage), folder_(folder), digests_(digests) {}

  absl::Status CheckSize(const char* file, uint64_t min_bytes, uint64_t max_bytes, uint64_t& size) {
    absl::StatusOr<uint64_t> found = storage_.Size(Join(folder_, file));
    if (!found.ok()) return BadFile(folder_, file, "missing");
    size = *found;
    if (size < min_bytes || size > max_bytes) return BadFile(folder_, file, "wrong size");
    return absl::OkStatus();
  }

  absl::Status Read(const char* file, std::span<char> out) {
    FileDigest digest;
    for (uint64_t at = 0; at < out.size();) {
      const uint64_t n = std::min<uint64_t>(kDigestChunkBytes, out.size() - at);
      ASSIGN_OR_RETURN(std::string piece, storage_.Read(Join(folder_, file), at, n));
      if (piece.size() != n) return BadFile(folder_, file, "truncated");
      digest.Add(AsBytes(std::string_view(piece)));
      std::memcpy(out.data() + at, piece.data(), n);
      at += n;
    }
    if (digest.Finish() != digests_.at(file)) return BadFile(folder_, file, "damaged (digest)");
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadText(const char* file, uint64_t max_bytes) {
    uint64_t size = 0;
    RETURN_IF_ERROR(CheckSize(file, 0, max_bytes, size));
    std::string text(size, '\0');
    RETURN_IF_ERROR(Read(file, text));
    return text;
  }

  // `count` values, or none.
  absl::StatusOr<std::vector<float>> ReadVector(const char* file, uint64_t count) {
    uint64_t size = 0;
    RETURN_IF_ERROR(CheckSize(file, 0, 4 * count, size));
    if (size != 0 && size != 4 * count) return BadFile(folder_, file, "wrong size");
    std::vector<float> values(size / 4);
    RETURN_IF_ERROR(Read(file, {reinterpret_cast<char*>(values.data()), size}));
    return values;
  }

 private:
  Storage& storage_;
  const std::string& folder_;
  const DigestByFile& digests_;
};

// The header must be the one we would write, so that the bytes after it are the flat vector.
absl::StatusOr<std::vector<float>> ReadParameters(VerifiedReader& reader, const std::string& folder,
                                                  const LlamaShape& shape) {
  const ParameterTable table = MakeParameterTable(shape);
  const std::string header = MakeSafetensorsHeader(table);
  const uint64_t expected = header.size() + 4 * table.elements;
  uint64_t size = 0;
  RETURN_IF_ERROR(reader.CheckSize(kModel, expected, expected, size));
  std::string file(size, '\0');
  RETURN_IF_ERROR(reader.Read(kModel, file));
  if (file.compare(0, header.size(), header) != 0) {
    return BadFile(folder, kModel, "its tensors are not those of config.json");
  }
  std::vector<float> values(table.elements);
  std::memcpy(values.data(), file.data() + header.size(), 4 * table.elements);
  return values;
}

}  // namespace

std::string CheckpointFolder(const std::string& parent, uint64_t round) {
  return Join(parent, kRoundPrefix + absl::StrFormat("%06d", round));
}

absl::Status WriteCheckpoint(Storage& storage, const std::string& folder,
                             const CheckpointContents& contents) {
  RETURN_IF_ERROR(CheckContents(contents));
  if (storage.Exists(folder)) return absl::AlreadyExistsError(folder + " exists");
  const std::string parent = ParentOf(folder);
  const std::string temporary = Join(parent, kTemporaryPrefix + NameOf(folder));
  RETURN_IF_ERROR(RemoveLeftovers(storage, parent));
  RETURN_IF_ERROR(storage.MakeFolder(temporary + "/trainer"));
  RETURN_IF_ERROR(WriteFiles(storage, temporary, contents));
  RETURN_IF_ERROR(storage.SyncFolder(temporary + "/trainer"));
  RETURN_IF_ERROR(storage.SyncFolder(temporary));
  RETURN_IF_ERROR(storage.Rename(temporary, folder));
  RETURN_IF_ERROR(storage.SyncFolder(parent));
  return parent.empty() ? absl::OkStatus() : storage.SyncFolder(ParentOf(parent));
}

namespace {

absl::Status ReadState(Storage& storage, const std::string& folder, CheckpointState& state,
                       DigestByFile& digests) {
  if (!storage.Exists(folder)) return absl::NotFoundError("no checkpoint " + folder);
  absl::StatusOr<std::string> text = ReadWhole(storage, Join(folder, kState), kMaxStateJsonBytes);
  if (!text.ok()) return BadFile(folder, kState, std::string(text.status().message()));
  absl::Status parsed = ParseState(*text, state, digests);
  return parsed.ok() ? parsed : BadFile(folder, kState, std::string(parsed.message()));
}

}  // namespace

absl::StatusOr<CheckpointState> ReadCheckpointState(Storage& storage, const std::string& folder) {
  CheckpointState state;
  DigestByFile digests;
  RETURN_IF_ERROR(ReadState(storage, folder, state, digests));
  return state;
}

absl::StatusOr<Checkpoint> ReadCheckpoint(Storage& storage, const std::string& folder) {
  Checkpoint checkpoint;
  DigestByFile digests;
  RETURN_IF_ERROR(ReadState(storage, folder, checkpoint.state, digests));
  VerifiedReader reader(storage, folder, digests);
  ASSIGN_OR_RETURN(std::string config, reader.ReadText(kConfig, kMaxConfigBytes));
  ASSIGN_OR_RETURN(checkpoint.shape, FromConfigJson(config));
  const uint64_t n = ParameterCount(checkpoint.shape);
  ASSIGN_OR_RETURN(checkpoint.parameters, ReadParameters(reader, folder, checkpoint.shape));
  ASSIGN_OR_RETURN(checkpoint.momentum, reader.ReadVector(kMomentum, n));
  ASSIGN_OR_RETURN(checkpoint.residual, reader.ReadVector(kResidual, n));
  ASSIGN_OR_RETURN(checkpoint.ledger, reader.ReadText(kLedger, kMaxLedgerBytes));
  return checkpoint;
}

std::vector<std::string> ListCheckpoints(Storage& storage, const std::string& parent) {
  std::vector<std::pair<uint64_t, std::string>> found;
  for (const std::string& name : storage.List(parent)) {
    if (std::optional<uint64_t> round = RoundOf(name)) found.emplace_back(*round, name);
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> folders;
  for (const auto& [round, name] : found) folders.push_back(Join(parent, name));
  return folders;
}

absl::Status KeepNewest(Storage& storage, const std::string& parent, uint32_t count) {
  const std::vector<std::string> folders = ListCheckpoints(storage, parent);
  for (size_t i = count; i < folders.size(); ++i) {
    const std::string removed = Join(parent, kRemovedPrefix + NameOf(folders[i]));
    RETURN_IF_ERROR(storage.Remove(removed));
    RETURN_IF_ERROR(storage.Rename(folders[i], removed));
  }
  return RemoveLeftovers(storage, parent);
}

absl::StatusOr<uint64_t> ParametersOffsetBytes(Storage& storage, const std::string& folder) {
  ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(storage, Join(folder, kModel)));
  return header.data_bytes_at;
}

}  // namespace longhaul
