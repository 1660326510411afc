// Training data: speed of tokenizing, preparing, verifying and ordering, quality of the order, and
// what a cache that knows its leases saves. Speeds are per core, in CPU time of one thread. The
// text is the project's own sources and documents, over and over.
#include <simdjson.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "bench/cpu_time.h"
#include "bench/suite.h"
#include "common/hash.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "data/data_set.h"
#include "data/memory_storage.h"
#include "data/prefetch.h"
#include "data/prepare.h"
#include "data/sample_shards.h"
#include "data/verified_blobs.h"
#include "sharding/order/mixed_order.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

Result Make(const std::string& name, double value, const std::string& unit) {
  return {.suite = "data", .name = name, .value = value, .unit = unit};
}

Result Target(ResultKind kind, const std::string& name, double value, const std::string& unit,
              Relation relation, double target) {
  Result r = Make(name, value, unit);
  r.kind = kind;
  r.relation = relation;
  r.target = target;
  return r;
}

Result Goal(const std::string& name, double value, const std::string& unit, Relation relation,
            double target) {
  return Target(ResultKind::kGoal, name, value, unit, relation, target);
}

std::string ReadText(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Sources and documents, sorted, repeated up to `bytes`.
std::string ProjectText(size_t bytes) {
  std::vector<fs::path> files;
  for (const char* folder : {"docs", "data", "coordinator", "worker", "common"}) {
    std::error_code error;
    for (const auto& entry :
         fs::directory_iterator(fs::path(LONGHAUL_SOURCE_DIR) / folder, error)) {
      const std::string ending = entry.path().extension().string();
      if (ending == ".md" || ending == ".cc" || ending == ".h") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) text += ReadText(file);
  if (text.empty()) text = "no sources here; ";
  while (text.size() < bytes) text += text.substr(0, bytes - text.size());
  text.resize(bytes);
  return text;
}

// ---- tokenizing and preparing ----

void BenchBpe(const std::string& text, int repeats, std::vector<Result>& results) {
  for (const char* kind : {"gpt2", "llama3", "qwen2"}) {
    const std::string name = absl::StrCat("bpe_", kind);
    const fs::path golden = fs::path(LONGHAUL_SOURCE_DIR) / "data" / "testdata" / (name + ".json");
    simdjson::dom::parser parser;
    simdjson::padded_string json(ReadText(golden));
    simdjson::dom::element tokenizer_json;
    if (parser.parse(json)["tokenizer"].get(tokenizer_json)) continue;
    auto tokenizer = ParseTokenizerJson(kind, simdjson::minify(tokenizer_json), "");
    if (!tokenizer.ok()) continue;
    std::vector<uint32_t> ids;
    bool encoded = true;
    const double s = BestCpuSeconds(repeats, [&] {
      ids.clear();
      encoded = encoded && (*tokenizer)->Encode(text, ids).ok();
    });
    if (!encoded) continue;
    Result r =
        Goal(name, static_cast<double>(text.size()) / s / 1e6, "MB/s", Relation::kAtLeast, 30);
    r.note = absl::StrCat("vocabulary of ", (*tokenizer)->vocab_size(), ", ",
                          ids.size() * 1000 / text.size(), " tokens per 1,000 bytes");
    results.push_back(std::move(r));
  }
}

absl::StatusOr<Manifest> PrepareBytes(const std::string& file, MemoryStorage& out, double& cpu_s) {
  ASSIGN_OR_RETURN(const auto inputs, ListInputs({file}, std::nullopt));
  const auto tokenizer = NewByteTokenizer();
  absl::StatusOr<PrepareReport> report = absl::UnknownError("not run");
  cpu_s = BestCpuSeconds(1, [&] {
    report = Prepare(inputs, *tokenizer, {}, out, [](const PrepareProgress&) { return true; });
  });
  RETURN_IF_ERROR(report.status());
  RETURN_IF_ERROR(FinishPreparation(report->manifest, {}, out));
  return report->manifest;
}

void BenchPrepare(const std::string& text, std::vector<Result>& results) {
  const ScratchFolder folder;
  const std::string file = folder.Write("text.txt", text);
  MemoryStorage first, second;
  double a_s = 0, b_s = 0;
  const auto a = PrepareBytes(file, first, a_s), b = PrepareBytes(file, second, b_s);
  if (!a.ok() || !b.ok()) {
    results.push_back({.suite = "data", .name = "prepare", .note = a.status().ToString()});
    return;
  }
  results.push_back(Goal("text_to_shards",
                         static_cast<double>(text.size()) / std::min(a_s, b_s) / 1e6, "MB/s",
                         Relation::kAtLeast, 150));
  results.push_back(
      Target(ResultKind::kGate, "same_root_twice", a->Id() == b->Id(), "", Relation::kAtLeast, 1));
  VerifiedBlobs blobs({std::make_shared<FolderSource>("memory", static_cast<Storage&>(first))});
  bool good = true;
  const double verify_s = BestCpuSeconds(1, [&] {
    for (const ShardEntry& entry : a->shards) good = good && VerifyShard(blobs, entry).ok();
  });
  uint64_t stored = 0;
  for (const ShardEntry& entry : a->shards) stored += entry.file_bytes;
  results.push_back(
      Make("verify_shards", static_cast<double>(text.size()) / verify_s / 1e6, "MB/s decoded"));
  results.push_back(
      Make("compression", static_cast<double>(text.size()) / static_cast<double>(stored), "x"));
  results.push_back(Target(ResultKind::kGate, "shards_verify", good, "", Relation::kAtLeast, 1));
}

// ---- hashes ----

void BenchHashes(size_t bytes, std::vector<Result>& results) {
  std::string noise(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) noise[i] = static_cast<char>(Draw(1, {i / 64}) >> (i % 8));
  Digest sink{};
  const double flat = BestCpuSeconds(3, [&] { sink = Blake2b(std::string_view(noise)); });
  constexpr size_t kBlock = 256 << 10;
  const double tree = BestCpuSeconds(3, [&] {
    std::vector<Digest> leaves;
    for (size_t at = 0; at < bytes; at += kBlock) {
      leaves.push_back(LeafDigest(AsBytes(noise).subspan(at, std::min(kBlock, bytes - at))));
    }
    sink = MerkleRoot(leaves, bytes);
  });
  const double size = static_cast<double>(bytes);
  results.push_back(Goal("merkle_against_flat", flat / tree, "x", Relation::kAtLeast, 0.9));
  results.push_back(Make("merkle", size / tree / 1e6, "MB/s"));
  Result share = Make("verify_share_of_a_core_at_1_gbit", 100 * tree / size * 125e6, "%");
  share.note = "of stored bytes; decompressing and unpacking come on top";
  results.push_back(std::move(share));
}

// Bits of a shard flipped one by one: all must be found.
void BenchFlips(uint64_t flips, std::vector<Result>& results) {
  const SampleFormat format = SmallFormat();
  const auto shard = BuildShard(format, SampleBytes(format, 4000, 1), 512);
  Rng rng(2);
  uint64_t found = 0;
  for (uint64_t i = 0; i < flips; ++i) {
    std::string file = shard.file;
    const uint64_t bit = rng.Below(file.size() * 8);
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
    MemoryStorage storage;
    storage.files[BlobPath(shard.index.blob_id)] = std::move(file);
    VerifiedBlobs blobs(
        {std::make_shared<FolderSource>("flipped", static_cast<Storage&>(storage))});
    found += !VerifyShard(blobs, EntryOf(shard.index)).ok();
  }
  results.push_back(Target(ResultKind::kGate, "flipped_bits_found",
                           static_cast<double>(found) / static_cast<double>(flips), "share",
                           Relation::kAtLeast, 1));
}

// ---- order ----

void BenchOrder(uint64_t indices, std::vector<Result>& results) {
  // 1.5e13 tokens of text in samples of 1,024.
  const WindowSizes large{.samples = 14'648'437'500, .piece_samples = 512};
  constexpr uint64_t kStride = 2917;  // 5 million of these are inside
  const WindowOrder window(1, 0, large);
  uint64_t sum = 0;
  const double n = static_cast<double>(indices);
  const double at = BestCpuSeconds(3, [&] {
    for (uint64_t i = 0; i < indices; ++i) sum += window.Sample(0, i * kStride);
  });
  const double back = BestCpuSeconds(3, [&] {
    for (uint64_t i = 0; i < indices; ++i) sum += window.Place(0, i * kStride);
  });
  const MixedOrder mixed(1, {large, large, large, large}, {{0, SharesOf({50, 30, 15, 5})}});
  const double mix = BestCpuSeconds(3, [&] {
    for (uint64_t i = 0; i < indices; ++i) sum += mixed.At(i * kStride).sample;
  });
  Result r = Goal("order_sample", at / n * 1e9, "ns", Relation::kAtMost, 40);
  r.note = absl::StrCat("checksum ", sum);
  results.push_back(std::move(r));
  results.push_back(Make("order_place", back / n * 1e9, "ns"));
  results.push_back(Make("order_mixed_of_four", mix / n * 1e9, "ns"));
  results.push_back(Goal("order_state", sizeof(WindowOrder), "bytes", Relation::kAtMost, 128));
}

void BenchBijection(uint64_t samples, std::vector<Result>& results) {
  const WindowOrder order(3, 0, {.samples = samples, .piece_samples = 512});
  std::vector<bool> seen(samples);
  uint64_t once = 0;
  for (uint64_t place = 0; place < samples; ++place) {
    const uint64_t sample = order.Sample(1, place);
    once += !seen[sample];
    seen[sample] = true;
  }
  Result r = Target(ResultKind::kGate, "order_repeated_or_lost",
                    static_cast<double>(samples - once), "samples", Relation::kAtMost, 0);
  r.note = absl::StrCat("of ", samples);
  results.push_back(std::move(r));
}

double Entropy(const std::map<uint64_t, uint64_t>& counts) {
  double all = 0, bits = 0;
  for (const auto& [value, count] : counts) all += static_cast<double>(count);
  for (const auto& [value, count] : counts) {
    const double p = static_cast<double>(count) / all;
    bits -= p * std::log2(p);
  }
  return bits;
}

// Bits of the difference between neighbours, in pieces, against a shuffle of the same windows.
void BenchEntropy(std::vector<Result>& results) {
  constexpr uint64_t kSamples = 1 << 18, kPiece = 256, kWindow = 16;
  const WindowOrder order(5, 0, {kSamples, kPiece, kWindow});
  std::vector<uint64_t> ours, ideal(kSamples), pieces(kSamples / kPiece);
  for (uint64_t i = 0; i < kSamples; ++i) ours.push_back(order.Sample(0, i));
  Rng rng(6);
  const auto shuffle = [&](auto begin, uint64_t n) {
    for (uint64_t i = n; i > 1; --i) std::swap(begin[i - 1], begin[rng.Below(i)]);
  };
  std::iota(pieces.begin(), pieces.end(), 0);
  shuffle(pieces.begin(), pieces.size());
  for (uint64_t i = 0; i < kSamples; ++i) ideal[i] = pieces[i / kPiece] * kPiece + i % kPiece;
  for (uint64_t at = 0; at < kSamples; at += kPiece * kWindow) {
    shuffle(ideal.begin() + static_cast<int64_t>(at), kPiece * kWindow);
  }
  const auto of = [](const std::vector<uint64_t>& list) {
    std::map<uint64_t, uint64_t> counts;
    for (size_t i = 0; i + 1 < list.size(); ++i) ++counts[list[i + 1] / kPiece - list[i] / kPiece];
    return Entropy(counts);
  };
  results.push_back(
      Goal("order_entropy_of_fisher_yates", of(ours) / of(ideal), "x", Relation::kAtLeast, 0.98));
}

// Leases of one of several workers, as the order gives them, through a small cache.
void BenchCache(uint64_t leases, std::vector<Result>& results) {
  constexpr uint64_t kLease = 240, kWorkers = 4, kBlockBytes = 200 << 10;
  const WindowOrder order(7, 0, {.samples = 4'000'000, .piece_samples = 512});
  std::vector<BlockUse> uses;
  for (uint64_t lease = 0; lease < leases; ++lease) {
    const uint64_t from = (lease * kWorkers + Draw(1, {lease}) % kWorkers) * kLease;
    for (uint64_t p = from; p < from + kLease; ++p) {
      uses.push_back({order.Sample(0, p) / 512, kBlockBytes, p});
    }
  }
  constexpr uint64_t kCacheBytes = 24 * kBlockBytes;
  const TraceResult all = ReplayTrace(uses, kCacheBytes, SIZE_MAX / 4);
  const TraceResult known = ReplayTrace(uses, kCacheBytes, 2 * kLease);
  Result r =
      Goal("cache_hits_of_optimum", static_cast<double>(known.hits) / static_cast<double>(all.hits),
           "x", Relation::kAtLeast, 0.98);
  r.note = "two leases of 240 samples known ahead, room for 24 blocks";
  results.push_back(std::move(r));
  results.push_back(Make(
      "cache_bytes_per_sample",
      static_cast<double>(known.downloaded_bytes) / static_cast<double>(uses.size()), "bytes"));
}

std::vector<Result> RunData(const Bench& bench) {
  std::vector<Result> results;
  const bool quick = bench.quick;
  const std::string text = ProjectText(quick ? 2'000'000 : 64'000'000);
  BenchBpe(text.substr(0, quick ? 500'000 : 8'000'000), quick ? 2 : 3, results);
  BenchPrepare(text, results);
  BenchHashes(quick ? 4 << 20 : 64 << 20, results);
  BenchFlips(quick ? 200 : 5000, results);
  BenchOrder(quick ? 50'000 : 5'000'000, results);
  BenchBijection(quick ? 300'000 : 10'000'000, results);
  BenchEntropy(results);
  BenchCache(quick ? 100 : 1000, results);
  return results;
}

}  // namespace

void AddData(CLI::App& app, Bench& bench) {
  auto* suite = AddSuite(app, bench, "data", "training data: preparing, verifying, order, cache");
  suite->callback([&bench] { bench.run = [&bench] { return RunData(bench); }; });
}

}  // namespace longhaul
