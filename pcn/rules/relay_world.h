// Relay in one process and in scheduled ticks: real blocks and stages, links that delay, lose,
// repeat and reorder, stages that are killed and replaced from their snapshots. What staleness does
// to training is measured here; only the transport is not real.
//
// In a tick every stage takes what arrived, pulls back at most one credit and predicts at most one
// new micro-batch. With K stages, link delay d and room for all, stage k (from 0) gets a
// credit 2 (K - 1 - k) (d + 1) ticks after its forward pass, with one update fewer in between.
//
// Thread rule: one thread. Deterministic for its options.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "pcn/relay/lossy_link.h"
#include "pcn/relay/stage.h"
#include "pcn/rules/relay_block.h"

namespace longhaul::pcn {

struct RelayOptions {
  std::vector<size_t> first_layers = {0};  // of each stage's block
  RelayBlock::Options block;
  StageOptions stage;  // stage, stages, epoch and version are set for each
  LossyLink::Options link;
  // One micro-batch at a time, to the end: the weights are those of backward() and Adam.
  bool synchronous = false;
  // The learning rate of a block at its own update number (from 0).
  std::function<double(uint64_t)> learning_rate = [](uint64_t) { return 3e-4; };
  // A stage that vanishes and comes back as a new holder.
  struct Kill {
    uint32_t stage = 0;
    uint64_t at_tick = 0, back_at_tick = 0;
  };
  std::optional<Kill> kill;
};

class RelayWorld {
 public:
  struct MicroBatch {
    at::Tensor input, target;
  };
  using Source = std::function<MicroBatch(uint64_t)>;  // by number, from 0; asked for once

  // InvalidArgument for blocks that do not match the network, tied weights across blocks, and
  // parameters of another size.
  static absl::StatusOr<std::unique_ptr<RelayWorld>> Make(const Network& network,
                                                          const at::Tensor& parameters,
                                                          const RelayOptions& options);
  // Feeds `count` more micro-batches and runs until all are decided everywhere.
  void Run(uint64_t count, const Source& source);

  at::Tensor parameters() const;  // all blocks', in the network's order
  const Stage& stage(size_t k) const { return *stages_[k]; }
  // Of all holders that stage k had.
  struct Totals {
    uint64_t accepted = 0, trained = 0, discarded = 0;
    bool balances = true;
  };
  Totals totals(size_t k) const;
  uint64_t now() const { return now_; }
  uint64_t bytes_between(size_t k) const;  // both ways over the boundary above stage k
  double last_loss() const { return blocks_.back()->last_loss(); }

 private:
  RelayWorld(std::vector<Network> networks, const at::Tensor& parameters,
             const RelayOptions& options);
  StageOptions OptionsFor(size_t k, uint64_t epoch, uint64_t version) const;
  void Tick();
  void Feed(const Source& source);
  void Work(size_t k);
  void DoWork(size_t k, const pcn::Work& work);
  void KillOrRevive();
  bool AllDecided() const;

  const RelayOptions options_;
  std::vector<Network> networks_;
  std::vector<std::unique_ptr<RelayBlock>> blocks_;
  std::vector<std::unique_ptr<Stage>> stages_;  // null while killed
  std::vector<LossyLink> up_, down_;            // over the boundary above stage k
  std::vector<Totals> past_;                    // of former holders
  std::map<uint64_t, Payload> labels_;          // of micro-batches that stage 0 has not settled
  std::optional<MicroBatch> next_;              // asked for, not taken yet
  uint64_t fed_ = 0, wanted_ = 0, now_ = 0;
};

}  // namespace longhaul::pcn
