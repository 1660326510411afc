#include "coordinator/run_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/storage.h"
#include "model/parameter_table.h"
#include "model/test_folder.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

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

class RunFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.shape = TinyShape();
    options_.positions = 1000;
    std::vector<TensorPlace> places;
    for (const Parameter& p : MakeParameterTable(options_.shape).parameters)
      places.push_back({p.offset, p.elements, p.layer});
    options_.layout = MakeFragments(places, 1);
  }

  RunStart Start() {
    absl::StatusOr<RunStart> start = StartRun(*storage_, options_);
    EXPECT_TRUE(start.ok()) << start.status();
    return *std::move(start);
  }

  // An empty round is committed, and the checkpoint after it is written; nothing says so.
  Digest CommitAndWrite(RunStart& run) {
    Checkpoint next = run.checkpoint;
    next.parameters[0] += 1;
    const Digest hash = StateHash(next.parameters, next.momentum);
    next.state.fragments[0] = {Version{1}, hash};
    CommitView commit;
    commit.round = RoundId{1};
    commit.version = Version{1};
    commit.state_hash = hash;
    RoundOpened opened;
    opened.round = RoundId{1};
    EXPECT_TRUE(AppendRecords(*run.journal,
                              {Record{run.state.now, opened},
                               Record{run.state.now, RoundClosed{RoundId{1}, {}, {.attempt = 1}}},
                               Record{run.state.now, RoundCommitted{commit}}})
                    .ok());
    EXPECT_TRUE(WriteCheckpoint(*storage_, FolderOf(next.state.fragments),
                                {next.shape, next.parameters, next.momentum, next.residual,
                                 next.ledger, next.state})
                    .ok());
    return hash;
  }

  TestFolder folder_;
  std::unique_ptr<Storage> storage_ = folder_.Open();
  RunStartOptions options_;
};

// Joiners are sent to what the journal names, and the coordinator serves what it has read: a
// coordinator that died between writing a checkpoint and saying so must not keep them apart.
TEST_F(RunFolderTest, ACheckpointThatWasWrittenButNotJournaledIsTheOneThatIsServed) {
  Digest hash;
  {
    RunStart first = Start();
    EXPECT_EQ(first.state.fragments[0].snapshot.id.version, Version{0});
    hash = CommitAndWrite(first);
  }
  for (int again = 0; again < 2; ++again) {
    const RunStart next = Start();
    EXPECT_TRUE(next.restarted);
    EXPECT_EQ(next.checkpoint.state.fragments[0].version, Version{1});
    EXPECT_EQ(next.state.fragments[0].snapshot.id.version, Version{1});
    EXPECT_EQ(next.state.fragments[0].snapshot.root, hash);
  }
}

TEST_F(RunFolderTest, WhenTheNewestCheckpointIsDamagedTheOneBeforeIsServed) {
  {
    RunStart first = Start();
    CommitAndWrite(first);
  }
  const std::string newest = FolderOf(Start().checkpoint.state.fragments);
  std::filesystem::resize_file(folder_.path() + "/" + newest + "/model.safetensors", 10);
  const RunStart next = Start();
  EXPECT_EQ(next.checkpoint.state.fragments[0].version, Version{0});
  EXPECT_EQ(next.state.fragments[0].snapshot.id.version, Version{0});
  EXPECT_FALSE(storage_->Exists(newest));
}

}  // namespace
}  // namespace longhaul
