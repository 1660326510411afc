// Manifests: from data.manifest and data.mixture to the order of a run and the source of its
// shards.
#include <charconv>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "common/storage.h"
#include "data/data_set.h"
#include "data/http_source.h"

namespace longhaul {
namespace {

constexpr char kHttp[] = "http://";

// A folder with the storage that it is read through.
struct Folder {
  explicit Folder(const std::string& place, std::unique_ptr<Storage> opened)
      : storage(std::move(opened)), source(place, *storage) {}
  std::unique_ptr<Storage> storage;
  FolderSource source;
};

absl::StatusOr<std::string> ReadManifestBytes(const std::string& place) {
  if (place.starts_with(kHttp)) return ReadHttpFile(place, "manifest", kMaxManifestBytes, {});
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(place));
  return ReadWhole(*storage, "manifest", kMaxManifestBytes);
}

absl::Status Bad(const std::string& text, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("data.mixture: \"", text, "\": ", why,
                   "; write shares of the domains like \"web=3 code=1\""));
}

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// Pieces between any of `marks`, without the empty ones.
std::vector<std::string> Pieces(const std::string& text, const char* marks) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(marks, at), text.size());
    if (end > at) pieces.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return pieces;
}

// "web=3 code=1"
absl::StatusOr<std::vector<uint64_t>> ParseShares(const std::string& text,
                                                  const Manifest& manifest) {
  std::vector<uint64_t> weights(manifest.domains.size());
  for (const std::string& word : Pieces(text, " \t,")) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto domain = std::find_if(manifest.domains.begin(), manifest.domains.end(),
                                     [&](const ManifestDomain& d) { return d.name == name; });
    if (equals == std::string::npos || domain == manifest.domains.end())
      return Bad(word, "the manifest has no such domain");
    const auto weight = Number(std::string_view(word).substr(equals + 1));
    uint64_t& slot = weights[static_cast<size_t>(domain - manifest.domains.begin())];
    if (!weight || *weight == 0 || *weight > kShareOne)
      return Bad(word, "not a whole number above 0");
    if (slot != 0) return Bad(word, "given twice");
    slot = *weight;
  }
  for (size_t d = 0; d < weights.size(); ++d) {
    if (weights[d] == 0) return Bad(text, manifest.domains[d].name + " has no share");
  }
  return SharesOf(weights);
}

}  // namespace

absl::StatusOr<std::shared_ptr<BlobSource>> OpenBlobSource(const std::string& place) {
  if (place.starts_with(kHttp)) {
    ASSIGN_OR_RETURN(std::unique_ptr<BlobSource> source, OpenHttpSource(place, {}));
    return std::shared_ptr<BlobSource>(std::move(source));
  }
  std::error_code error;
  if (!std::filesystem::is_directory(place, error))
    return absl::NotFoundError(place + " is not a folder");
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(place));
  auto folder = std::make_shared<Folder>(place, std::move(storage));
  return std::shared_ptr<BlobSource>(folder, &folder->source);
}

absl::StatusOr<std::vector<MixingRow>> ParseMixture(const std::string& text,
                                                    const Manifest& manifest) {
  std::vector<MixingRow> rows;
  if (text.empty()) {
    const SampleMap map(manifest);
    std::vector<uint64_t> weights;
    for (uint32_t d = 0; d < manifest.domains.size(); ++d) weights.push_back(map.samples(d));
    rows.push_back({0, SharesOf(weights)});
  }
  for (std::string row : Pieces(text, ";")) {
    uint64_t first_block = 0;
    if (const size_t colon = row.find(':'); colon != std::string::npos) {
      const std::vector<std::string> block = Pieces(row.substr(0, colon), " \t");
      const auto number = block.size() == 1 ? Number(block[0]) : std::nullopt;
      if (!number) return Bad(row, "not a macro-block's number before \":\"");
      first_block = *number;
      row = row.substr(colon + 1);
    }
    ASSIGN_OR_RETURN(std::vector<uint64_t> shares, ParseShares(row, manifest));
    rows.push_back({first_block, std::move(shares)});
  }
  const std::string problem = MixedOrder::Problem(manifest.domains.size(), rows);
  if (!problem.empty()) return Bad(text, problem);
  return rows;
}

absl::StatusOr<MixedOrder> OrderOf(const RunConfig& config, const Manifest& manifest) {
  const auto refuse = [](const std::string& why) {
    return absl::InvalidArgumentError("data.manifest: " + why);
  };
  if (manifest.format.sample_tokens != kSampleTokens) {
    return refuse(absl::StrCat("its samples have ", manifest.format.sample_tokens, " tokens, not ",
                               kSampleTokens));
  }
  if (manifest.vocab_size > config.model.vocab_size) {
    return refuse(absl::StrCat("its tokenizer has ", manifest.vocab_size,
                               " tokens; set model.vocab_size to that or more (it is ",
                               config.model.vocab_size, ")"));
  }
  const SampleMap map(manifest);
  std::vector<WindowSizes> sizes;
  for (uint32_t d = 0; d < manifest.domains.size(); ++d) {
    if (map.samples(d) == 0) return refuse(manifest.domains[d].name + " has no training samples");
    sizes.push_back({.samples = map.samples(d), .piece_samples = BlockSamples(manifest)});
  }
  if (sizes.empty()) return refuse("it has no domain");
  ASSIGN_OR_RETURN(std::vector<MixingRow> rows, ParseMixture(config.data.mixture, manifest));
  return MixedOrder(config.run.seed, sizes, std::move(rows));
}

absl::StatusOr<std::shared_ptr<DataOrigin>> OpenDataOrigin(const RunConfig& config) {
  const std::string& place = config.data.manifest;
  ASSIGN_OR_RETURN(std::shared_ptr<BlobSource> source, OpenBlobSource(place));
  ASSIGN_OR_RETURN(std::string bytes, ReadManifestBytes(place));
  ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(AsBytes(bytes)));
  ASSIGN_OR_RETURN(MixedOrder order, OrderOf(config, manifest));
  return std::make_shared<DataOrigin>(std::move(manifest), std::move(bytes), std::move(order),
                                      std::move(source));
}

absl::StatusOr<std::shared_ptr<DataOrigin>> ReadRunManifest(const RunConfig& config,
                                                            const std::string& folder) {
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(folder));
  ASSIGN_OR_RETURN(std::string bytes, ReadWhole(*storage, kRunManifest, kMaxManifestBytes));
  ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(AsBytes(bytes)));
  ASSIGN_OR_RETURN(MixedOrder order, OrderOf(config, manifest));
  return std::make_shared<DataOrigin>(std::move(manifest), std::move(bytes), std::move(order),
                                      nullptr);
}

}  // namespace longhaul
