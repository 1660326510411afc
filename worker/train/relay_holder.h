// What a stage does with the slot that it was given: block, rules, images, snapshots.
//
// Thread rule: one thread. It throws what LibTorch throws.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "pcn/relay/control.h"
#include "pcn/relay/stage.h"
#include "pcn/rules/image_task.h"
#include "worker/relay_links.h"
#include "worker/train/block_run.h"

namespace longhaul {

// The images of a plan: generated, or the IDX digits in `folder`.
absl::StatusOr<pcn::ImageSet> ImagesFor(const pcn::RelayPlan& plan, const std::string& folder);
// InvalidArgument, with PlanProblem or the reason, for what makes no network.
absl::StatusOr<pcn::Network> NetworkOf(const pcn::RelayPlan& plan);

class RelayHolder {
 public:
  // `table` has our slot. InvalidArgument: NetworkOf, or images of another size than the network's.
  static absl::StatusOr<std::unique_ptr<RelayHolder>> Make(const pcn::StageTable& table,
                                                           uint32_t stage,
                                                           const pcn::ImageSet& images,
                                                           RelayLinks* links);

  // Neighbours came, went or were replaced. Our own slot is as in Make.
  absl::Status OnTable(const pcn::StageTable& table, Duration now);
  void OnMessage(const pcn::Message& message, Duration now);
  // One piece of work, if there is any: true when there was.
  bool Turn(Duration now, const std::function<Duration()>& clock);
  bool finished() const;  // nothing is open here, and nothing more comes
  void Report(pcn::StageBeat& beat) const;
  const std::shared_ptr<SharedBlock>& block() const { return block_; }
  uint64_t epoch() const { return epoch_; }
  bool is_ready() const { return stage_.has_value(); }

 private:
  RelayHolder(const pcn::StageTable& table, uint32_t stage, pcn::Network network,
              const at::Tensor& parameters, const pcn::ImageSet& images, RelayLinks* links);
  void Begin(uint64_t version);
  void AskForSnapshot(Duration now);
  void AnswerSnapshotQuery(const pcn::Message& query);
  void Feed();
  void OfferLabel(uint64_t micro_batch);
  std::optional<pcn::Work> NextWork(Duration now);
  void Do(const pcn::Work& work, Duration now);
  bool Train(const pcn::Work& work, double rate, pcn::Payload* down);
  void SendOutgoing();
  uint64_t Milliseconds(Duration now) const;
  bool is_top() const { return index_ + 1 == table_.plan.stages; }
  bool is_averaged() const { return !table_.plan.block_runs.empty(); }

  pcn::StageTable table_;
  const uint32_t index_;
  const uint64_t epoch_;
  const pcn::Fold fold_;
  RelayLinks* const links_;
  const std::shared_ptr<SharedBlock> block_;
  SharedBlock::Mode mode_ = SharedBlock::Mode::kTrain;  // of the work in hand
  std::optional<pcn::Stage> stage_;                     // not before a new holder has its snapshot
  uint32_t snapshot_queries_ = 0;
  Duration next_query_{0};
  std::optional<pcn::Payload> next_input_;
  uint64_t fed_ = 0;
  uint64_t bytes_up_ = 0, bytes_down_ = 0;
  Duration busy_{0}, first_update_{0}, last_work_{0};
};

}  // namespace longhaul
