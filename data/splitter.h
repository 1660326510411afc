// Cuts text into the words that byte-level BPE merges within, as the regular expressions of GPT-2,
// Llama 3 and Qwen 2 do, by hand: letters (\p{L}), numbers (\p{N}), white space (\s) and the rest,
// by ICU's Unicode data.
//
// Immutable; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace longhaul {

enum class SplitRule {
  kGpt2,    // contractions | ?letters | ?numbers | ?others | spaces
  kLlama3,  // letters take one mark before them, numbers in threes, others take line ends after
            // them
  kQwen2,   // the same, numbers one by one
};

// The rule with this expression, as it stands in a tokenizer.json.
std::optional<SplitRule> SplitRuleOf(std::string_view expression);

class Splitter {
 public:
  explicit Splitter(SplitRule rule);

  // The end of the word that begins at `at`; `text` is valid UTF-8, at < text.size().
  size_t WordEnd(std::string_view text, size_t at) const;
  // See Tokenizer::SafeCut. Looks back at most kCutWindow bytes.
  size_t SafeCut(std::string_view text) const;

 private:
  static constexpr size_t kCutWindow = 1 << 16;
  enum Class : uint8_t { kOther, kLetter, kNumber, kSpace };
  struct Char {
    uint32_t code = 0;
    uint32_t bytes = 0;  // 0 at the end of the text
    Class kind = kOther;
  };

  Char At(std::string_view text, size_t at) const;
  Char Before(std::string_view text, size_t at) const;
  size_t RunEnd(std::string_view text, size_t at, Class kind) const;
  size_t Contraction(std::string_view text, size_t at) const;  // 0: none
  size_t SpacesEnd(std::string_view text, size_t at) const;
  size_t Gpt2End(std::string_view text, size_t at) const;
  size_t LlamaEnd(std::string_view text, size_t at) const;
  bool CutBeforeSpace(std::string_view text, size_t at) const;
  bool CutAfterLine(std::string_view text, size_t at) const;

  const SplitRule rule_;
  std::array<Class, 128> ascii_;
  std::shared_ptr<const std::vector<Class>> classes_;  // by code point
};

}  // namespace longhaul
