// From text to tokens. A tokenizer is exact: the same text gives the same ids as the program that
// made it, except that text which spells a special token stays text (data cannot inject one).
//
// Thread rule: Encode may use a cache of its own, so an object belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"

namespace longhaul {

inline constexpr uint64_t kMaxTokenizerFileBytes = uint64_t{256} << 20;
inline constexpr uint32_t kMaxTokens = 1 << 22;  // of a vocabulary

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual const std::string& name() const = 0;  // for people
  virtual const Digest& hash() const = 0;       // part of a data set's identity
  virtual uint32_t vocab_size() const = 0;      // every id is below it
  // What follows every document, when the vocabulary has such a token.
  virtual std::optional<uint32_t> document_end() const = 0;
  // Appends. InvalidArgument, and nothing appended, for text that is not UTF-8 where that matters.
  virtual absl::Status Encode(std::string_view text, std::vector<uint32_t>& out) = 0;
  // The largest place, at most text.size(), where text that goes on after `text` may be cut without
  // changing a token: Encode(before) + Encode(after) = Encode(whole). 0: none.
  virtual size_t SafeCut(std::string_view text) const = 0;
};

// Tokens are the bytes; any text.
std::unique_ptr<Tokenizer> NewByteTokenizer();

// For token files: every text is refused. 1 <= vocab_size <= kMaxTokens.
std::unique_ptr<Tokenizer> NewNoTokenizer(uint32_t vocab_size);

// A Hugging Face tokenizer.json with byte-level BPE: the splits of GPT-2, Llama 3 and Qwen 2, no
// normalizer or NFC. Special tokens around a text (post_processor) are not added. `document_end`
// names the token that ends a document; "" looks for the usual names. InvalidArgument says what the
// file has that this does not do.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizerJson(const std::string& name,
                                                              const std::string& json,
                                                              const std::string& document_end);

}  // namespace longhaul
