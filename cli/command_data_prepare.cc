// longhaul data prepare: text or tokens -> shards and a manifest.
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/command_data.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/small_file.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "data/prepare.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
  std::vector<std::string> inputs;
  std::string output;
  std::string tokenizer = "bytes";
  std::string document_end;
  std::string format;
  std::string sign_key;
  uint32_t vocab_size = 0;
  uint32_t block_kib = 512;
  uint32_t shard_mib = 64;
  bool restart = false;
  bool extend = false;
  bool json = false;
  PrepareOptions options;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const Arguments& args) {
  if (args.tokenizer == "bytes") return NewByteTokenizer();
  if (args.tokenizer == "none") {
    if (args.vocab_size == 0) {
      return absl::InvalidArgumentError(
          "--tokenizer none needs --vocab-size, the number of tokens");
    }
    return NewNoTokenizer(args.vocab_size);
  }
  ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(args.tokenizer, kMaxTokenizerFileBytes));
  return ParseTokenizerJson(std::filesystem::path(args.tokenizer).filename().string(), json,
                            args.document_end);
}

absl::Status CheckInputs(const std::vector<InputFile>& inputs, const Arguments& args) {
  if (args.tokenizer != "none") return absl::OkStatus();
  for (const InputFile& input : inputs) {
    if (input.format == InputFormat::kText || input.format == InputFormat::kJsonl) {
      return absl::InvalidArgumentError(input.path + " is text: name a --tokenizer for it");
    }
  }
  return absl::OkStatus();
}

// 64 hex digits; a new file when there is none.
absl::StatusOr<SigningSeed> ReadOrMakeKey(const std::string& path) {
  SigningSeed seed;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    randombytes_buf(seed.data(), seed.size());
    const mode_t before = ::umask(0077);
    std::ofstream file(path);
    ::umask(before);
    file << ToHex(std::as_bytes(std::span(seed))) << "\n";
    if (!file.flush()) return absl::ResourceExhaustedError("cannot write " + path);
    return seed;
  }
  ASSIGN_OR_RETURN(std::string text, ReadSmallFile(path, 1024));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (!FromHex(text, seed)) return absl::InvalidArgumentError(path + " holds no key");
  return seed;
}

// Shows progress and listens for Ctrl-C.
class Watch {
 public:
  explicit Watch(bool quiet)
      : quiet_(quiet), line_({.terminal = isatty(STDERR_FILENO) == 1}, [](const std::string& text) {
          std::fputs(text.c_str(), stderr);
        }) {}

  bool Show(const PrepareProgress& p) {
    if (!first_ && p.bytes_done >= p.bytes_total) return StopCount() == 0;
    const Duration elapsed = Clock::now() - start_;
    if (first_ && p.resumed && !quiet_) {
      std::fprintf(stderr, "going on where the last one stopped\n");
    }
    first_ = false;
    std::string text = FormatByteProgress("preparing", p.bytes_done, p.bytes_total, elapsed);
    absl::StrAppend(&text, "  ", p.shards, " shards");
    if (p.quarantined > 0) absl::StrAppend(&text, ", ", p.quarantined, " records refused");
    if (!quiet_) line_.Update({elapsed}, text);
    return StopCount() == 0;
  }
  void Clear() { line_.Clear(); }
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  const bool quiet_;
  const Clock::time_point start_ = Clock::now();
  bool first_ = true;
  ProgressLine line_;
};

void Print(const PrepareReport& report, const Manifest& manifest, const Arguments& args,
           double seconds) {
  if (args.json) {
    nlohmann::ordered_json json = ManifestJson(manifest);
    json["tokens_left"] = report.tokens_left;
    json["quarantined"] = report.quarantine.size();
    json["bytes_resumed"] = report.bytes_resumed;
    json["seconds"] = seconds;
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  PrintManifest(manifest);
  if (report.tokens_left > 0) {
    std::printf("\n%llu tokens behind the last whole sample of a domain are not used\n",
                static_cast<unsigned long long>(report.tokens_left));
  }
  if (!report.quarantine.empty()) {
    const QuarantinedRecord& first = report.quarantine.front();
    std::printf(
        "\n%zu records could not be used; they are listed in %s/%s\n  the first: %s, byte "
        "%llu: %s\n",
        report.quarantine.size(), args.output.c_str(), kQuarantineFile,
        PrintableText(first.path, true).c_str(), static_cast<unsigned long long>(first.offset),
        first.reason.c_str());
  }
  std::printf("\nnext: longhaul data verify %s\n", args.output.c_str());
}

absl::StatusOr<std::optional<Manifest>> Parent(Storage& out, const Arguments& args) {
  if (!out.Exists(kManifestFile)) {
    if (args.extend) return absl::NotFoundError(args.output + " holds no data set to extend");
    return std::optional<Manifest>();
  }
  if (!args.extend) {
    return absl::FailedPreconditionError(
        args.output + " holds a finished data set; name another folder, or --extend it");
  }
  ASSIGN_OR_RETURN(Manifest parent, ReadManifest(out));
  return std::optional<Manifest>(std::move(parent));
}

// Signs, adds to what was there, writes.
absl::StatusOr<Manifest> Finish(const PrepareReport& report, const std::optional<Manifest>& parent,
                                const Arguments& args, Storage& out) {
  Manifest manifest = report.manifest;
  if (parent) {
    ASSIGN_OR_RETURN(manifest, Extended(*parent, report.manifest));
  }
  if (!args.sign_key.empty()) {
    ASSIGN_OR_RETURN(const SigningSeed seed, ReadOrMakeKey(args.sign_key));
    SignManifest(seed, manifest);
  }
  if (parent) {
    ASSIGN_OR_RETURN(const ManifestDelta delta, MakeDelta(*parent, manifest));
    RETURN_IF_ERROR(WriteAtomically(out, absl::StrCat("delta-", manifest.version),
                                    AsBytes(EncodeDelta(delta))));
  }
  RETURN_IF_ERROR(FinishPreparation(manifest, report.quarantine, out));
  return manifest;
}

absl::Status Run(const Arguments& args) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(args));
  const auto format = InputFormatByName(args.format);
  ASSIGN_OR_RETURN(const std::vector<InputFile> inputs, ListInputs(args.inputs, format));
  RETURN_IF_ERROR(CheckInputs(inputs, args));
  ASSIGN_OR_RETURN(const std::unique_ptr<Storage> out, OpenFileStorage(args.output));
  ASSIGN_OR_RETURN(const std::optional<Manifest> parent, Parent(*out, args));
  if (args.restart) RETURN_IF_ERROR(AbandonPreparation(*out));
  PrepareOptions options = args.options;
  options.block_bytes = args.block_kib << 10;
  options.shard_bytes = uint64_t{args.shard_mib} << 20;
  StopCount();
  Watch watch(args.json);
  auto report = Prepare(inputs, *tokenizer, options, *out,
                        [&](const PrepareProgress& p) { return watch.Show(p); });
  watch.Clear();
  if (absl::IsCancelled(report.status())) {
    return absl::CancelledError("stopped; the same command goes on from here");
  }
  RETURN_IF_ERROR(report.status());
  ASSIGN_OR_RETURN(const Manifest manifest, Finish(*report, parent, args, *out));
  Print(*report, manifest, args, watch.Seconds());
  return absl::OkStatus();
}

void AddOptions(CLI::App& prepare, Arguments& args) {
  prepare.add_option("inputs", args.inputs, "files or folders, or DOMAIN=PATH")->required();
  prepare.add_option("-o,--output", args.output, "folder to fill")->required();
  prepare
      .add_option("--tokenizer", args.tokenizer,
                  "bytes, a Hugging Face tokenizer.json, or none for files of tokens")
      ->capture_default_str();
  prepare.add_option("--vocab-size", args.vocab_size, "with --tokenizer none")
      ->check(CLI::Range(1u, kMaxTokens));
  prepare.add_option("--document-end", args.document_end,
                     "token after every document; default: <|endoftext|> or the like");
  prepare.add_option("--format", args.format, "of all inputs; default: by their endings")
      ->check(CLI::IsMember({"text", "jsonl", "bin", "ds"}));
  prepare.add_option("--field", args.options.json_field, "of JSON lines, that holds the text")
      ->capture_default_str();
  prepare.add_option("--sample-tokens", args.options.sample_tokens, "tokens in a sample")
      ->check(CLI::Range(1u, kMaxSampleTokens))
      ->capture_default_str();
  prepare.add_option("--validation", args.options.validation, "share that is not trained on")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  prepare.add_option("--block-kib", args.block_kib, "decoded size of a block")
      ->check(CLI::Range(4, 1024))
      ->capture_default_str();
  prepare.add_option("--shard-mib", args.shard_mib, "decoded size of a shard")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  prepare.add_option("--level", args.options.zstd_level, "of zstd")
      ->check(CLI::Range(1, 19))
      ->capture_default_str();
  prepare.add_option("--sign-key", args.sign_key, "sign with the key in this file; made if absent");
  prepare.add_flag("--strict", args.options.strict, "stop at the first record that cannot be used");
  prepare.add_flag("--restart", args.restart, "forget an unfinished preparation");
  prepare.add_flag("--extend", args.extend,
                   "add to the data set in the folder, as its next version");
  prepare.add_flag("--json", args.json, "report as JSON");
}

}  // namespace

void AddDataPrepare(CLI::App& data, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* prepare = data.add_subcommand("prepare", "Make shards and a manifest of text or tokens");
  AddOptions(*prepare, *args);
  prepare->footer(
      "A killed preparation goes on from its last block: give the same command again.\n"
      "The result depends on the inputs alone, not on the order they are named in.\n"
      "Exit codes: 2 usage, 6 inputs that cannot be used, 7 disk full, 130 stopped.\n\n"
      "Examples:\n"
      "  longhaul data prepare corpus.txt -o sets/mine\n"
      "  longhaul data prepare web=crawl/ code=src/ --tokenizer tokenizer.json -o sets/mix\n"
      "  longhaul data prepare train.bin --tokenizer none --vocab-size 50257 -o sets/gpt2");
  prepare->callback([args, &command] {
    command.run = [args]() -> int {
      const absl::Status status = Run(*args);
      return status.ok() ? kExitOk : DataFailure(status);
    };
  });
}

}  // namespace longhaul
