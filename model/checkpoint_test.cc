#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "common/rng.h"
#include "model/hugging_face.h"
#include "model/parameter_table.h"
#include "model/test_folder.h"

namespace longhaul {
namespace {

constexpr const char* kFiles[] = {"config.json",          "model.safetensors",
                                  "trainer/momentum.bin", "trainer/residual.bin",
                                  "trainer/ledger.bin",   "trainer/state.json"};

LlamaShape TinyShape() {
  LlamaShape s;
  s.vocab_size = 5;
  s.hidden_size = 4;
  s.intermediate_size = 6;
  s.num_hidden_layers = 1;
  s.num_attention_heads = 2;
  s.num_key_value_heads = 1;
  return s;
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : storage_(folder_.Open()) {
    parameters_ = InitialParameters(MakeParameterTable(TinyShape()), 3);
    for (float v : parameters_) momentum_.push_back(2 * v), residual_.push_back(-v);
  }

  CheckpointContents Contents(uint64_t round) const {
    CheckpointContents c;
    c.shape = TinyShape();
    c.parameters = parameters_;
    c.momentum = momentum_;
    c.residual = residual_;
    c.ledger = "an opaque ledger";
    c.state.run = "00ff00ff00ff00ff";
    c.state.generation = {3, 0xfedcba9876543210ull};
    c.state.round = round;
    c.state.fragments = {{Version{9}, {1, 2, 3}}, {Version{8}, {4, 5, 6}}};
    c.state.data_identity = {7, 8, 9};
    c.state.seed = UINT64_MAX;
    return c;
  }

  std::string Write(uint64_t round) {
    const std::string folder = CheckpointFolder("checkpoints", round);
    const absl::Status status = WriteCheckpoint(*storage_, folder, Contents(round));
    EXPECT_TRUE(status.ok()) << status;
    return folder;
  }

  std::string FileBytes(const std::string& path) { return *ReadWhole(*storage_, path, 1 << 20); }

  TestFolder folder_;
  std::unique_ptr<Storage> storage_;
  std::vector<float> parameters_, momentum_, residual_;
};

TEST_F(CheckpointTest, RoundTrip) {
  const std::string folder = Write(10);
  EXPECT_EQ(folder, "checkpoints/round-000010");
  auto read = ReadCheckpoint(*storage_, folder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->shape, TinyShape());
  EXPECT_EQ(read->parameters, parameters_);
  EXPECT_EQ(read->momentum, momentum_);
  EXPECT_EQ(read->residual, residual_);
  EXPECT_EQ(read->ledger, "an opaque ledger");
  EXPECT_EQ(read->state, Contents(10).state);

  auto model = ReadHuggingFace(*storage_, folder);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->shape, TinyShape());
  EXPECT_EQ(model->parameters, parameters_);
}

TEST_F(CheckpointTest, VectorsMayBeEmptyButNotShort) {
  CheckpointContents c = Contents(1);
  c.residual = {};
  c.momentum = {};
  c.ledger = "";
  ASSERT_TRUE(WriteCheckpoint(*storage_, "a/round-000001", c).ok());
  auto read = ReadCheckpoint(*storage_, "a/round-000001");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->momentum.empty() && read->residual.empty() && read->ledger.empty());
  c.momentum = std::span(momentum_).first(3);
  EXPECT_EQ(WriteCheckpoint(*storage_, "a/round-000002", c).code(),
            absl::StatusCode::kInvalidArgument);
  c = Contents(1);
  c.state.run = "two\nlines";
  EXPECT_FALSE(WriteCheckpoint(*storage_, "a/round-000002", c).ok());
}

TEST_F(CheckpointTest, SlicesOfTheFlatVectorAreByteRanges) {
  const std::string folder = Write(1);
  auto offset = ParametersOffsetBytes(*storage_, folder);
  ASSERT_TRUE(offset.ok());
  for (uint64_t i : {uint64_t{0}, uint64_t{17}, uint64_t{parameters_.size() - 1}}) {
    std::string bytes = *storage_->Read(folder + "/model.safetensors", *offset + 4 * i, 4);
    EXPECT_EQ(std::memcmp(bytes.data(), &parameters_[i], 4), 0) << i;
  }
}

TEST_F(CheckpointTest, NeverOverwrites) {
  const std::string folder = Write(4);
  EXPECT_EQ(WriteCheckpoint(*storage_, folder, Contents(4)).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(ReadCheckpoint(*storage_, folder).ok());
  EXPECT_EQ(ReadCheckpoint(*storage_, "checkpoints/round-000005").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(CheckpointTest, ListsNewestFirstAndKeepsTheNewest) {
  EXPECT_TRUE(ListCheckpoints(*storage_, "checkpoints").empty());
  for (uint64_t round : {20, 3, 1000000, 100}) Write(round);
  ASSERT_TRUE(storage_->MakeFolder("checkpoints/.writing-round-000200/trainer").ok());
  ASSERT_TRUE(storage_->MakeFolder("checkpoints/round-x").ok());
  EXPECT_EQ(ListCheckpoints(*storage_, "checkpoints"),
            (std::vector<std::string>{"checkpoints/round-1000000", "checkpoints/round-000100",
                                      "checkpoints/round-000020", "checkpoints/round-000003"}));
  ASSERT_TRUE(KeepNewest(*storage_, "checkpoints", 2).ok());
  EXPECT_EQ(storage_->List("checkpoints"),
            (std::vector<std::string>{"round-000100", "round-1000000", "round-x"}));
  EXPECT_TRUE(ReadCheckpoint(*storage_, "checkpoints/round-000100").ok());
}

TEST_F(CheckpointTest, AnInterruptedWriteLeavesNothingAndIsRepeated) {
  ASSERT_TRUE(storage_->MakeFolder("checkpoints/.writing-round-000007/trainer").ok());
  Overwrite(*storage_, "checkpoints/.writing-round-000007/trainer/state.json", "{");
  EXPECT_TRUE(ListCheckpoints(*storage_, "checkpoints").empty());
  EXPECT_TRUE(ReadCheckpoint(*storage_, Write(7)).ok());
  EXPECT_EQ(storage_->List("checkpoints"), (std::vector<std::string>{"round-000007"}));
}

// Every kind of damage to every file, 2,500 times, is noticed.
TEST_F(CheckpointTest, DamageIsAlwaysDetected) {
  const std::string folder = Write(10);
  const std::string other = Write(11);
  Rng rng(77);
  for (int i = 0; i < 2500; ++i) {
    const std::string file = kFiles[rng.Below(std::size(kFiles))];
    const std::string path = folder + "/" + file;
    const std::string good = FileBytes(path);
    std::string bad = good;
    switch (rng.Below(6)) {
      case 0:  // one bit
        bad[rng.Below(bad.size())] ^= static_cast<char>(1 << rng.Below(8));
        break;
      case 1:
        bad.resize(rng.Below(bad.size()));
        break;
      case 2:
        bad.push_back(static_cast<char>(rng.Below(256)));
        break;
      case 3:  // a block of zeros
        bad.replace(rng.Below(bad.size()), 1 + rng.Below(16), 1 + rng.Below(16), '\0');
        break;
      case 4:  // another file of the same checkpoint
        bad = FileBytes(folder + "/" + kFiles[rng.Below(std::size(kFiles))]);
        break;
      case 5:  // a byte moved
        std::swap(bad[rng.Below(bad.size())], bad[rng.Below(bad.size())]);
        break;
    }
    if (bad == good) continue;
    Overwrite(*storage_, path, bad);
    EXPECT_EQ(ReadCheckpoint(*storage_, folder).status().code(), absl::StatusCode::kInvalidArgument)
        << i << " " << file;
    Overwrite(*storage_, path, good);
  }
  ASSERT_TRUE(ReadCheckpoint(*storage_, folder).ok());
  for (const char* file : kFiles) {
    const std::string path = folder + "/" + file;
    const std::string good = FileBytes(path);
    ASSERT_TRUE(storage_->Remove(path).ok());
    EXPECT_EQ(ReadCheckpoint(*storage_, folder).status().code(), absl::StatusCode::kInvalidArgument)
        << file;
    Overwrite(*storage_, path, good);
  }
  // The state of another checkpoint of the same run.
  momentum_[0] += 1;
  const std::string changed = Write(12);
  Overwrite(*storage_, folder + "/trainer/state.json", FileBytes(changed + "/trainer/state.json"));
  EXPECT_FALSE(ReadCheckpoint(*storage_, folder).ok());
}

}  // namespace
}  // namespace longhaul
