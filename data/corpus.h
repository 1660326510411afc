// A corpus in memory: tokens of one source, cut into samples of a fixed number of tokens. The last
// whole samples are the validation split; what is left after the last whole sample is not used.
//
// Thread rule: immutable after opening, so any thread may read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace longhaul {

inline constexpr uint64_t kWheelTextBytes = 8'000'000;           // of the built-in text, at most
inline constexpr uint64_t kMaxCorpusTokens = uint64_t{4} << 30;  // 8 GiB of memory
inline constexpr uint64_t kMinTrainingSamples = 2;

struct CorpusOptions {
  uint32_t sample_tokens = 0;
  double validation = 0.05;         // share of the samples, in (0, 0.5]; at least one sample
  uint32_t vocab_size = 256;        // every token is below it
  std::string tokenizer = "bytes";  // how the tokens were made; part of the identity
  uint64_t max_bytes = 0;           // of the source that are used; 0 = all
};

class Corpus {
 public:
  // A file of text; its bytes are the tokens.
  static absl::StatusOr<Corpus> OpenText(const std::string& path, const CorpusOptions& options);

  // A file of 16-bit little-endian tokens, as nanoGPT writes it.
  static absl::StatusOr<Corpus> OpenTokens(const std::string& path, const CorpusOptions& options);

  // The built-in text: the Python sources (*.py) below `wheel_folder`/torch, joined in the order of
  // the bytes of their relative paths; the first kWheelTextBytes of it, or max_bytes.
  static absl::StatusOr<Corpus> OpenWheel(const std::string& wheel_folder,
                                          const CorpusOptions& options);

  // `train` as in the run's file: "wheel", a *.bin file of tokens, or a text file.
  //
  // All four: NotFound for a missing file; InvalidArgument for a folder, an empty or odd-sized
  // file, a token outside the vocabulary, a corpus too short for kMinTrainingSamples and one
  // validation sample (both sizes are named), or options out of range; Unavailable when it cannot
  // be read.
  static absl::StatusOr<Corpus> Open(const std::string& train, const std::string& wheel_folder,
                                     const CorpusOptions& options);

  uint64_t samples() const { return samples_ - validation_samples_; }
  uint64_t validation_samples() const { return validation_samples_; }
  uint32_t sample_tokens() const { return options_.sample_tokens; }

  // `i` below samples(), `out` of sample_tokens() tokens.
  void ReadSample(uint64_t i, std::span<uint16_t> out) const;
  // `i` below validation_samples().
  void ReadValidationSample(uint64_t i, std::span<uint16_t> out) const;

  // BLAKE2b over (format, tokenizer, sample size, validation rule, tokens). Equal exactly when the
  // samples and their split are equal, on every machine; where the tokens came from is not in it.
  const Digest& Identity() const { return identity_; }

  // For messages: "text file corpus.txt, 1,115,394 bytes".
  const std::string& Describe() const { return description_; }

 private:
  Corpus() = default;
  static absl::StatusOr<Corpus> FromTokens(std::vector<uint16_t> tokens, std::string description,
                                           const CorpusOptions& options);

  CorpusOptions options_;
  std::vector<uint16_t> tokens_;
  uint64_t samples_ = 0;
  uint64_t validation_samples_ = 0;
  Digest identity_{};
  std::string description_;
};

}  // namespace longhaul
