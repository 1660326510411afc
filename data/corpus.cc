#include "data/corpus.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kIdentityFormat = 1;
constexpr double kMaxValidation = 0.5;

absl::Status Bad(const std::string& reason) {
  return absl::InvalidArgumentError("data: " + reason);
}

std::string WithCommas(uint64_t n) {
  std::string digits = std::to_string(n);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, 1, ',');
  return digits;
}

absl::Status CheckOptions(const CorpusOptions& o) {
  if (o.sample_tokens < 2) return Bad("a sample needs at least 2 tokens");
  if (!(o.validation > 0 && o.validation <= kMaxValidation)) {
    return Bad(absl::StrCat("validation is ", o.validation, ", it must be above 0 and at most ",
                            kMaxValidation));
  }
  if (o.vocab_size == 0 || o.vocab_size > 65536) return Bad("vocab_size must be 1 to 65,536");
  return absl::OkStatus();
}

// The first `max_bytes` bytes of a regular file are appended.
absl::Status AppendFileBytes(const std::string& path, uint64_t max_bytes, std::string& out) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return absl::NotFoundError("data: no file " + path + " (data.train names it)");
  }
  if (error) return absl::UnavailableError("data: " + path + ": " + error.message());
  if (fs::is_directory(status)) return Bad(path + " is a folder; name a file, or \"wheel\"");
  if (!fs::is_regular_file(status)) return Bad(path + " is not a regular file");
  const uint64_t size = std::min<uint64_t>(fs::file_size(path, error), max_bytes);
  std::ifstream file(path, std::ios::binary);
  const size_t before = out.size();
  if (!error && file) {
    out.resize(before + size);
    file.read(out.data() + before, static_cast<std::streamsize>(size));
  }
  if (error || !file) return absl::UnavailableError("data: cannot read " + path);
  return absl::OkStatus();
}

uint64_t ByteLimit(const CorpusOptions& o, uint64_t fallback) {
  return o.max_bytes == 0 ? fallback : o.max_bytes;
}

std::vector<uint16_t> ByteTokens(const std::string& text) {
  std::vector<uint16_t> tokens(text.size());
  for (size_t i = 0; i < text.size(); ++i) tokens[i] = static_cast<unsigned char>(text[i]);
  return tokens;
}

// Relative paths of the regular *.py files below `root`, in the order of their bytes.
absl::StatusOr<std::vector<std::string>> PythonSources(const fs::path& root) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (it->path().extension() == ".py" && fs::is_regular_file(it->symlink_status(ignored))) {
      paths.push_back(it->path().lexically_relative(root).generic_string());
    }
  }
  if (error) return absl::UnavailableError("data: " + root.string() + ": " + error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

Digest ComputeIdentity(const CorpusOptions& o, std::span<const uint16_t> tokens) {
  static_assert(std::endian::native == std::endian::little);
  ByteWriter w;
  w.String("LH-data");
  w.U32(kIdentityFormat);
  w.String(o.tokenizer);
  w.U32(o.sample_tokens);
  w.F64(o.validation);
  w.U64(tokens.size());
  w.Write(Blake2b(std::as_bytes(tokens)));
  return Blake2b(std::string_view(w.str()));
}

}  // namespace

absl::StatusOr<Corpus> Corpus::FromTokens(std::vector<uint16_t> tokens, std::string description,
                                          const CorpusOptions& options) {
  const auto outside = std::find_if(tokens.begin(), tokens.end(),
                                    [&](uint16_t t) { return t >= options.vocab_size; });
  if (outside != tokens.end()) {
    return Bad(absl::StrCat(description, ": token ", *outside, " at place ",
                            outside - tokens.begin(), " is outside the vocabulary of ",
                            options.vocab_size));
  }
  Corpus corpus;
  corpus.samples_ = tokens.size() / options.sample_tokens;
  corpus.validation_samples_ = std::max<uint64_t>(
      1, static_cast<uint64_t>(options.validation * static_cast<double>(corpus.samples_)));
  if (corpus.samples_ < corpus.validation_samples_ + kMinTrainingSamples) {
    const uint64_t needed = (kMinTrainingSamples + 1) * options.sample_tokens;
    return Bad(absl::StrCat(description, ": too short, ", WithCommas(tokens.size()),
                            " tokens; at least ", WithCommas(needed), " are needed (",
                            kMinTrainingSamples, " samples of ", options.sample_tokens,
                            " tokens for training, 1 for validation)"));
  }
  tokens.resize(corpus.samples_ * options.sample_tokens);
  corpus.options_ = options;
  corpus.identity_ = ComputeIdentity(options, tokens);
  corpus.tokens_ = std::move(tokens);
  corpus.description_ = std::move(description);
  return corpus;
}

absl::StatusOr<Corpus> Corpus::OpenText(const std::string& path, const CorpusOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  std::string text;
  RETURN_IF_ERROR(AppendFileBytes(path, ByteLimit(options, kMaxCorpusTokens), text));
  if (text.empty()) return Bad(path + " is empty");
  return FromTokens(ByteTokens(text),
                    absl::StrCat("text file ", path, ", ", WithCommas(text.size()), " bytes"),
                    options);
}

absl::StatusOr<Corpus> Corpus::OpenTokens(const std::string& path, const CorpusOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  std::string bytes;
  RETURN_IF_ERROR(AppendFileBytes(path, ByteLimit(options, 2 * kMaxCorpusTokens), bytes));
  if (bytes.empty()) return Bad(path + " is empty");
  if (bytes.size() % 2 != 0) {
    return Bad(absl::StrCat(path, " has ", WithCommas(bytes.size()),
                            " bytes, an odd number: not a file of 16-bit tokens"));
  }
  std::vector<uint16_t> tokens(bytes.size() / 2);
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  const std::string description =
      absl::StrCat("token file ", path, ", ", WithCommas(tokens.size()), " tokens");
  return FromTokens(std::move(tokens), description, options);
}

absl::StatusOr<Corpus> Corpus::OpenWheel(const std::string& wheel_folder,
                                         const CorpusOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  const fs::path root = fs::path(wheel_folder) / "torch";
  std::error_code ignored;
  if (!fs::is_directory(root, ignored)) {
    return absl::NotFoundError(absl::StrCat("data: no built-in text, ", root.string(),
                                            " is not there (./setup.sh fetches it)"));
  }
  ASSIGN_OR_RETURN(std::vector<std::string> paths, PythonSources(root));
  const uint64_t limit = ByteLimit(options, kWheelTextBytes);
  std::string text;
  for (const std::string& path : paths) {
    if (text.size() == limit) break;
    RETURN_IF_ERROR(AppendFileBytes((root / path).string(), limit - text.size(), text));
  }
  return FromTokens(ByteTokens(text),
                    absl::StrCat("built-in wheel text, ", WithCommas(text.size()), " bytes"),
                    options);
}

absl::StatusOr<Corpus> Corpus::Open(const std::string& train, const std::string& wheel_folder,
                                    const CorpusOptions& options) {
  if (train == "wheel") return OpenWheel(wheel_folder, options);
  if (absl::EndsWith(train, ".bin")) return OpenTokens(train, options);
  return OpenText(train, options);
}

void Corpus::ReadSample(uint64_t i, std::span<uint16_t> out) const {
  LONGHAUL_CHECK(i < samples() && out.size() == options_.sample_tokens, "no such sample");
  std::copy_n(tokens_.begin() + static_cast<int64_t>(i * out.size()), out.size(), out.begin());
}

void Corpus::ReadValidationSample(uint64_t i, std::span<uint16_t> out) const {
  LONGHAUL_CHECK(i < validation_samples_ && out.size() == options_.sample_tokens,
                 "no such validation sample");
  const uint64_t at = (samples() + i) * out.size();
  std::copy_n(tokens_.begin() + static_cast<int64_t>(at), out.size(), out.begin());
}

}  // namespace longhaul
