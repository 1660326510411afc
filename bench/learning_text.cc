#include "bench/learning_text.h"

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "bench/word_tokens.h"
#include "cli/run_inputs.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "data/corpus.h"

namespace longhaul {
namespace {

constexpr uint64_t kWindowStream = 2;
constexpr char kFile[] = "/text/tinyshakespeare.txt";

absl::StatusOr<std::string> BuiltInText() {
  const std::string wheel = WheelFolder();
  if (wheel.empty()) return absl::NotFoundError("no text: set LONGHAUL_TEST_DATA");
  ASSIGN_OR_RETURN(Corpus corpus,
                   Corpus::OpenWheel(wheel, {.sample_tokens = kSampleTokens,
                                             .max_bytes = LearningText::kBuiltInBytes}));
  std::string text;
  std::vector<uint16_t> sample(kSampleTokens);
  for (uint64_t i = 0; i < corpus.samples() + corpus.validation_samples(); ++i) {
    if (i < corpus.samples()) {
      corpus.ReadSample(i, sample);
    } else {
      corpus.ReadValidationSample(i - corpus.samples(), sample);
    }
    text.append(sample.begin(), sample.end());
  }
  return text;
}

}  // namespace

LearningText::LearningText(std::string name, const std::string& bytes, uint32_t vocab)
    : name_(std::move(name)), training_(bytes.size() * 9 / 10) {
  if (vocab > 256) {
    WordTokens words = MakeWordTokens(bytes, training_, vocab);
    name_ += absl::StrCat(" in ", vocab, " words");
    tokens_ = std::move(words.ids);
    training_ = words.training;
  } else {
    for (char c : bytes) tokens_.push_back(static_cast<unsigned char>(c));
  }
}

absl::StatusOr<LearningText> LearningText::Load(const std::string& test_data, uint32_t vocab) {
  std::string name = "built-in text", bytes;
  if (!test_data.empty()) {
    name = "tiny Shakespeare";
    std::ifstream file(test_data + kFile, std::ios::binary);
    if (!file) return absl::NotFoundError("cannot read " + test_data + kFile);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  } else {
    ASSIGN_OR_RETURN(bytes, BuiltInText());
  }
  if (bytes.size() < kMinBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, " has ", bytes.size(), " bytes only"));
  }
  return LearningText(std::move(name), bytes, vocab);
}

void LearningText::AddWindow(size_t start, uint32_t length, LearningRows& rows) const {
  for (size_t i = start; i < start + length; ++i) {
    rows.inputs.push_back(tokens_[i]);
    rows.targets.push_back(tokens_[i + 1]);
  }
}

void LearningText::AddWindows(uint64_t seed, uint64_t worker, uint64_t step, uint32_t sequences,
                              uint32_t length, LearningRows& rows) const {
  for (uint64_t j = 0; j < sequences; ++j) {
    const uint64_t draw = Draw(seed, {kWindowStream, worker, step, j});
    AddWindow(draw % (training_ - length), length, rows);
  }
}

LearningRows LearningText::Validation(uint32_t length, uint64_t windows) const {
  const uint64_t all = (tokens_.size() - training_ - 1) / length;
  if (windows == 0 || windows > all) windows = all;
  LearningRows rows;
  for (uint64_t i = 0; i < windows; ++i) {
    AddWindow(training_ + i * all / windows * length, length, rows);
  }
  return rows;
}

}  // namespace longhaul
