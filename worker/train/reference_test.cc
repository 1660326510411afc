// A checkpoint that we write, read by an independent implementation (tools/reference_logits.py,
// numpy only): it must find the same model in it.
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "common/storage.h"
#include "model/checkpoint.h"
#include "model/parameter_table.h"
#include "model/test_folder.h"
#include "worker/train/llama_trainer.h"

namespace longhaul {
namespace {

constexpr char kPython[] = "/usr/bin/python3";

// Output and exit code of a shell command.
std::pair<std::string, int> RunCommand(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {"", -1};
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  const int status = pclose(pipe);
  return {output, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

std::vector<float> Numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<float> numbers;
  for (float v; in >> v;) numbers.push_back(v);
  return numbers;
}

void CompareLogits(const LlamaShape& shape) {
  TrainOptions options;
  options.sequence_length = 32;
  auto trainer = LlamaTrainer::Make(shape, options, "cpu");
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  std::vector<float> theta = InitialParameters(MakeParameterTable(shape), 1);
  for (size_t i = 0; i < theta.size(); ++i) theta[i] *= 4.0f + 0.5f * static_cast<float>(i % 3);

  TestFolder folder;
  auto storage = folder.Open();
  CheckpointContents contents;
  contents.shape = shape;
  contents.parameters = theta;
  ASSERT_TRUE(WriteCheckpoint(*storage, "round-000001", contents).ok());
  std::vector<uint16_t> tokens;
  std::string list;
  for (uint32_t i = 0; i < options.sequence_length; ++i) {
    tokens.push_back(static_cast<uint16_t>((i * 37 + 11) % shape.vocab_size));
    list.append(1, ' ').append(std::to_string(tokens.back()));
  }
  const char* source = std::getenv("LONGHAUL_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "run through ctest";
  const auto [output, exit_code] =
      RunCommand(std::string(kPython) + " '" + source + "/tools/reference_logits.py' '" +
                 folder.path() + "/round-000001'" + list);
  ASSERT_EQ(exit_code, 0);
  const std::vector<float> expected = Numbers(output);
  const auto logits = (*trainer)->Logits(theta, tokens);
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(expected.size(), logits->size());
  double largest = 0;
  for (float v : expected) largest = std::max(largest, std::abs(double{v}));
  ASSERT_GT(largest, 0.1);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR((*logits)[i], expected[i], 1e-4 * largest) << i;
  }
}

class ReferenceLogits : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(RunCommand(std::string(kPython) + " -c 'import numpy' 2>&1").second, 0)
        << kPython << " has no numpy; ./setup.sh --tests installs it";
  }
};

TEST_F(ReferenceLogits, SmallModel) { CompareLogits(*PresetShape("llama-130k")); }

TEST_F(ReferenceLogits, GroupedQueryTiedModel) {
  LlamaShape shape = *PresetShape("llama-130k");
  shape.num_attention_heads = 8;
  shape.num_key_value_heads = 2;
  shape.tie_word_embeddings = true;
  shape.rope_theta = 500000;
  shape.rms_norm_eps = 1e-6;
  CompareLogits(shape);
}

}  // namespace
}  // namespace longhaul
