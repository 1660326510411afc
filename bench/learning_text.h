// The text of the learning benchmark: one byte is one token, or one word is (word_tokens.h); the
// first nine tenths are for training and the rest for validation. Every window follows from a hash,
// so runs with the same seed see the same data in the same order, and another implementation can
// draw the same windows.
//
// Immutable after Load; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul {

// Inputs and targets of whole windows, row after row.
struct LearningRows {
  std::vector<int64_t> inputs, targets;
};

class LearningText {
 public:
  // text/tinyshakespeare.txt in `test_data` when that is not "", else as much of the built-in text.
  // NotFound when there is neither; InvalidArgument when it is shorter than kMinBytes.
  // `vocab`: 256 for bytes, more for words.
  static absl::StatusOr<LearningText> Load(const std::string& test_data, uint32_t vocab = 256);
  static constexpr size_t kMinBytes = 65'536;
  static constexpr size_t kBuiltInBytes = 1'115'394;  // as long as tiny Shakespeare

  // Appends `sequences` windows of `length` targets for step `step` of worker `worker`: number j
  // starts at draw(seed, 2, worker, step, j) mod (training tokens - length).
  void AddWindows(uint64_t seed, uint64_t worker, uint64_t step, uint32_t sequences,
                  uint32_t length, LearningRows& rows) const;
  // The validation part in consecutive windows; what does not fill one is left out. At most
  // `windows` of them, evenly spread; 0: all.
  LearningRows Validation(uint32_t length, uint64_t windows) const;

  const std::string& name() const { return name_; }

 private:
  LearningText(std::string name, const std::string& bytes, uint32_t vocab);
  void AddWindow(size_t start, uint32_t length, LearningRows& rows) const;

  std::string name_;
  std::vector<uint16_t> tokens_;
  size_t training_;  // tokens
};

}  // namespace longhaul
