// longhaul data: inspect, verify. Preparing is in command_data_prepare.cc.
#include "cli/command_data.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/progress.h"
#include "cli/text_table.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "data/data_set.h"
#include "data/http_source.h"
#include "data/prepare.h"
#include "data/verified_blobs.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// A folder and the name of a file in it, for a path to either.
absl::StatusOr<std::pair<std::unique_ptr<Storage>, std::string>> OpenPath(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return absl::NotFoundError("no file or folder " + path);
  const bool folder = fs::is_directory(path, error);
  const fs::path parent = folder ? fs::path(path) : fs::absolute(path).parent_path();
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(parent.string()));
  return std::pair(std::move(storage),
                   folder ? std::string(kManifestFile) : fs::path(path).filename().string());
}

std::string TokenizerName(const Manifest& m) {
  return m.tokenizer + " (" + ShortHex(m.format.tokenizer_hash) + ")";
}

ordered_json ShardJson(const ShardHeader& h, const Digest& blob_id) {
  ordered_json json;
  json["blob_id"] = ToHex(blob_id);
  json["logical_id"] = ToHex(h.logical_id);
  json["tokenizer_hash"] = ToHex(h.format.tokenizer_hash);
  json["token_bytes"] = h.format.token_bytes;
  json["sample_tokens"] = h.format.sample_tokens;
  json["samples"] = h.samples;
  json["blocks"] = h.blocks;
  json["block_samples"] = h.block_samples;
  json["file_bytes"] = h.file_bytes;
  return json;
}

struct InspectArguments {
  std::string path;
  bool json = false;
};

absl::Status InspectShard(Storage& storage, const std::string& name, bool json) {
  ASSIGN_OR_RETURN(const std::string head, storage.Read(name, 0, kShardHeaderBytes));
  ASSIGN_OR_RETURN(const ShardHeader header, ParseShardHeader(AsBytes(head)));
  ASSIGN_OR_RETURN(const std::string bytes, storage.Read(name, 0, header.index_bytes()));
  ASSIGN_OR_RETURN(const ShardIndex index, ParseShardIndex(AsBytes(bytes)));
  const ordered_json shard = ShardJson(header, index.blob_id);
  if (json) {
    std::printf("%s\n", shard.dump(2).c_str());
    return absl::OkStatus();
  }
  for (const auto& [key, value] : shard.items()) {
    std::printf("%-15s %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
  return absl::OkStatus();
}

absl::Status InspectDelta(const std::string& bytes, bool json) {
  ASSIGN_OR_RETURN(const ManifestDelta delta, ParseDelta(AsBytes(bytes)));
  ordered_json out;
  out["parent"] = ToHex(delta.parent);
  out["result"] = ToHex(delta.result);
  out["added_shards"] = delta.added.size();
  out["withdrawn_ranges"] = delta.withdrawn.size();
  out["signed"] = delta.signature.present();
  std::printf("%s\n",
              json ? out.dump(2).c_str()
                   : absl::StrCat("delta from ", ToHex(delta.parent), "\n        to ",
                                  ToHex(delta.result), "\n", delta.added.size(), " shards added, ",
                                  delta.withdrawn.size(), " ranges withdrawn")
                         .c_str());
  return absl::OkStatus();
}

absl::Status Inspect(const InspectArguments& args) {
  ASSIGN_OR_RETURN(const auto opened, OpenPath(args.path));
  const auto& [storage, name] = opened;
  ASSIGN_OR_RETURN(const std::string magic, storage->Read(name, 0, 8));
  if (magic == "LHSHARD\n") return InspectShard(*storage, name, args.json);
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(*storage, name, kMaxManifestBytes));
  if (magic == "LHDELTA\n") return InspectDelta(bytes, args.json);
  ASSIGN_OR_RETURN(const Manifest manifest, ParseManifest(AsBytes(bytes)));
  if (args.json) {
    std::printf("%s\n", ManifestJson(manifest).dump(2).c_str());
  } else {
    PrintManifest(manifest);
  }
  return absl::OkStatus();
}

// ---- verify ----

struct VerifyArguments {
  std::string path;
  std::vector<std::string> sources;
  std::string key;
  bool json = false;
};

absl::Status CheckSignature(const Manifest& manifest, const std::string& key) {
  if (key.empty()) {
    // Of the key that it names itself: whose that is, is for the user to know.
    return manifest.signature.present() ? VerifyManifest(manifest, manifest.signature.public_key)
                                        : absl::OkStatus();
  }
  std::array<uint8_t, 32> public_key;
  if (!FromHex(key, public_key)) return absl::InvalidArgumentError("--key takes 64 hex digits");
  return VerifyManifest(manifest, public_key);
}

struct VerifyResult {
  uint64_t good = 0;
  std::vector<std::pair<Digest, std::string>> bad;
};

VerifyResult VerifyAll(VerifiedBlobs& blobs, const Manifest& manifest, bool quiet) {
  using Clock = std::chrono::steady_clock;
  ProgressLine line({}, [](const std::string& text) { std::fputs(text.c_str(), stderr); });
  uint64_t total = 0, done = 0;
  for (const ShardEntry& e : manifest.shards) total += e.file_bytes;
  const auto start = Clock::now();
  VerifyResult result;
  for (const ShardEntry& entry : manifest.shards) {
    const absl::Status status = VerifyShard(blobs, entry);
    if (status.ok()) {
      ++result.good;
    } else {
      result.bad.emplace_back(entry.blob_id, std::string(status.message()));
    }
    done += entry.file_bytes;
    const Duration elapsed = Clock::now() - start;
    if (!quiet) line.Update({elapsed}, FormatByteProgress("verifying", done, total, elapsed));
  }
  return result;
}

void Print(const Manifest& manifest, const VerifyResult& result, bool json) {
  if (json) {
    ordered_json out;
    out["id"] = ToHex(manifest.Id());
    out["identity"] = ToHex(manifest.Identity());
    out["good_shards"] = result.good;
    out["bad_shards"] = ordered_json::array();
    for (const auto& [blob, reason] : result.bad) {
      out["bad_shards"].push_back({{"blob_id", ToHex(blob)}, {"reason", reason}});
    }
    std::printf("%s\n", out.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("%llu of %zu shards are what the manifest says\n",
              static_cast<unsigned long long>(result.good), manifest.shards.size());
  for (const auto& [blob, reason] : result.bad) {
    std::printf("bad  %s: %s\n", ToHex(blob).c_str(), PrintableText(reason, false).c_str());
  }
}

absl::StatusOr<bool> Verify(const VerifyArguments& args) {
  ASSIGN_OR_RETURN(const auto opened, OpenPath(args.path));
  const auto& [folder, name] = opened;
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(*folder, name, kMaxManifestBytes));
  ASSIGN_OR_RETURN(const Manifest manifest, ParseManifest(AsBytes(bytes)));
  RETURN_IF_ERROR(CheckSignature(manifest, args.key));
  std::vector<std::unique_ptr<Storage>> folders;
  std::vector<std::shared_ptr<BlobSource>> sources;
  for (const std::string& source : args.sources) {
    if (source.starts_with("http://")) {
      ASSIGN_OR_RETURN(std::shared_ptr<BlobSource> http, OpenHttpSource(source, {}));
      sources.push_back(std::move(http));
      continue;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(source));
    sources.push_back(std::make_shared<FolderSource>(source, *storage));
    folders.push_back(std::move(storage));
  }
  if (sources.empty()) sources.push_back(std::make_shared<FolderSource>(args.path, *folder));
  VerifiedBlobs blobs(std::move(sources));
  const VerifyResult result = VerifyAll(blobs, manifest, args.json);
  Print(manifest, result, args.json);
  return result.bad.empty();
}

}  // namespace

int DataFailure(const absl::Status& status) {
  std::fprintf(stderr, "longhaul: %s\n",
               PrintableText(std::string(status.message()), false).c_str());
  return DataExitCode(status);
}

ordered_json ManifestJson(const Manifest& m) {
  ordered_json json;
  json["id"] = ToHex(m.Id());
  json["identity"] = ToHex(m.Identity());
  json["version"] = m.version;
  json["parent"] = m.version > 1 ? ordered_json(ToHex(m.parent)) : ordered_json(nullptr);
  json["tokenizer"] = m.tokenizer;
  json["tokenizer_hash"] = ToHex(m.format.tokenizer_hash);
  json["vocab_size"] = m.vocab_size;
  json["token_bytes"] = m.format.token_bytes;
  json["sample_tokens"] = m.format.sample_tokens;
  json["samples"] = m.Samples();
  json["tokens"] = m.Samples() * m.format.sample_tokens;
  json["signed_by"] = m.signature.present()
                          ? ordered_json(ToHex(std::as_bytes(std::span(m.signature.public_key))))
                          : ordered_json(nullptr);
  json["domains"] = ordered_json::array();
  for (uint32_t i = 0; i < m.domains.size(); ++i) {
    json["domains"].push_back({{"name", m.domains[i].name},
                               {"samples", m.DomainSamples(i)},
                               {"validation_samples", m.domains[i].validation_samples}});
  }
  json["shards"] = ordered_json::array();
  for (const ShardEntry& e : m.shards) {
    json["shards"].push_back({{"blob_id", ToHex(e.blob_id)},
                              {"logical_id", ToHex(e.logical_id)},
                              {"domain", m.domains[e.domain].name},
                              {"samples", e.samples},
                              {"file_bytes", e.file_bytes}});
  }
  json["withdrawn"] = ordered_json::array();
  for (const Withdrawal& x : m.withdrawn) {
    json["withdrawn"].push_back({{"shard", x.shard}, {"from", x.from}, {"to", x.to}});
  }
  return json;
}

void PrintManifest(const Manifest& m) {
  std::printf("manifest   %s  version %llu, %s\nidentity   %s\n", ToHex(m.Id()).c_str(),
              static_cast<unsigned long long>(m.version),
              m.signature.present() ? "signed" : "not signed", ToHex(m.Identity()).c_str());
  std::printf("tokenizer  %s, %u tokens; samples of %u tokens\n\n", TokenizerName(m).c_str(),
              m.vocab_size, m.format.sample_tokens);
  TextTable table(
      {"domain", "samples", "tokens", "validation", "shards", "stored"},
      {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  for (uint32_t i = 0; i < m.domains.size(); ++i) {
    uint64_t shards = 0, bytes = 0;
    for (const ShardEntry& e : m.shards) {
      if (e.domain == i) ++shards, bytes += e.file_bytes;
    }
    table.AddRow({m.domains[i].name, std::to_string(m.DomainSamples(i)),
                  HumanCount(m.DomainSamples(i) * m.format.sample_tokens),
                  std::to_string(m.domains[i].validation_samples), std::to_string(shards),
                  HumanBytes(bytes)});
  }
  std::fputs(table.ToString().c_str(), stdout);
  if (!m.withdrawn.empty()) std::printf("\n%zu withdrawn ranges\n", m.withdrawn.size());
}

void AddDataInspect(CLI::App& data, Command& command) {
  auto args = std::make_shared<InspectArguments>();
  auto* inspect = data.add_subcommand("inspect", "What a data set, manifest, delta or shard holds");
  inspect->add_option("path", args->path, "a prepared folder, or one of its files")->required();
  inspect->add_flag("--json", args->json, "as JSON");
  inspect->footer(
      "Examples:\n  longhaul data inspect sets/web\n"
      "  longhaul data inspect sets/web/shards/3f...lhs --json");
  inspect->callback([args, &command] {
    command.run = [args]() -> int {
      const absl::Status status = Inspect(*args);
      return status.ok() ? kExitOk : DataFailure(status);
    };
  });
}

void AddDataVerify(CLI::App& data, Command& command) {
  auto args = std::make_shared<VerifyArguments>();
  auto* verify = data.add_subcommand(
      "verify", "Read every block and compare it with its digest, every sample with its id");
  verify->add_option("path", args->path, "a prepared folder, or its manifest")->required();
  verify->add_option("--source", args->sources,
                     "read shards from this folder or http:// address; may be repeated");
  verify->add_option("--key", args->key, "the manifest must be signed by this public key");
  verify->add_flag("--json", args->json, "as JSON");
  verify->footer(
      "Exit code 6 when something is damaged or missing.\n\n"
      "Examples:\n  longhaul data verify sets/web\n"
      "  longhaul data verify sets/web/manifest --source http://10.0.0.5:8000");
  verify->callback([args, &command] {
    command.run = [args]() -> int {
      const auto good = Verify(*args);
      if (!good.ok()) return DataFailure(good.status());
      return *good ? kExitOk : kExitData;
    };
  });
}

void AddData(CLI::App& app, Command& command) {
  auto* data = app.add_subcommand("data", "Prepare, inspect and verify training data");
  data->require_subcommand(1);
  AddDataPrepare(*data, command);
  AddDataInspect(*data, command);
  AddDataVerify(*data, command);
}

}  // namespace longhaul
