// Replicas of one block of a Relay network, averaged by an ordinary run: every stage that holds the
// block is a worker of that run, its inner step is one update that the stage makes, and rounds,
// leases, codecs, ledger and hashes are those of any run (worker/service.h).
//
// A stage trains only when the run has a step for it. Meanwhile credits wait, states still go up,
// and stages below are told that they are waited for. When the run is over the block stays as it
// is, and serves: credits are passed down without an update.
//
// Thread rule: each function says whose thread calls it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "pcn/rules/relay_block.h"
#include "worker/service.h"
#include "worker/trainer.h"

namespace longhaul {

// ---- a block with two users ----

class SharedBlock {
 public:
  enum class Mode { kTrain, kWait, kServe };

  // Not averaged: the mode is always kTrain.
  SharedBlock(pcn::Network network, const at::Tensor& parameters,
              const pcn::RelayBlock::Options& options, bool is_averaged)
      : block_(std::move(network), parameters, options), is_averaged_(is_averaged) {}

  // ---- any thread ----
  // What `use` makes of the block, which nobody else touches meanwhile.
  template <class Use>
  auto With(Use use) {
    const std::lock_guard lock(mutex_);
    return use(block_);
  }
  // No further update. Whoever waits in MakeUpdate gets one of no targets.
  void End();
  bool has_ended() const;

  // ---- the stage's thread ----
  Mode mode() const;
  void OnUpdate();  // one was made

  // ---- the run's trainer thread ----
  // Waits until the stage has made one update.
  StepOutput MakeUpdate();

 private:
  mutable std::mutex mutex_;
  std::condition_variable made_;
  pcn::RelayBlock block_;
  const bool is_averaged_;
  bool is_wanted_ = false, has_ended_ = false;
};

// ---- its ordinary run ----

class BlockRun {
 public:
  struct Options {
    Invitation invitation;
    std::string name;  // for the run's page
    Duration give_up{0};
    // Of a run's configuration: WorkerService::Options.
    std::function<std::vector<FragmentLayout>(const RunConfig&)> make_layout;
    std::function<std::vector<std::vector<TensorSpan>>(const RunConfig&)> make_tensors;
    // On the run's thread, once: it is over (OK) or cannot go on.
    std::function<void(absl::Status)> on_end;
  };
  BlockRun(std::shared_ptr<SharedBlock> block, Options options);
  ~BlockRun();  // leaves the run, if it is not over

 private:
  absl::Status Run();

  const std::shared_ptr<SharedBlock> block_;
  const Options options_;
  std::atomic<int> stop_{0};
  std::thread thread_;
};

}  // namespace longhaul
