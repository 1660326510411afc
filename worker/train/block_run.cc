#include "worker/train/block_run.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

class BlockTrainer : public Trainer {
 public:
  explicit BlockTrainer(std::shared_ptr<SharedBlock> block) : block_(std::move(block)) {}

  uint64_t parameters() const override {
    return block_->With([](const pcn::RelayBlock& b) { return uint64_t(b.parameters().numel()); });
  }
  void SetParameters(uint64_t offset, std::span<const float> values) override {
    block_->With([&](pcn::RelayBlock& b) { b.SetParameters(offset, values); });
  }
  void GetParameters(uint64_t offset, std::span<float> out) const override {
    block_->With([&](const pcn::RelayBlock& b) {
      std::copy_n(b.parameters().const_data_ptr<float>() + offset, out.size(), out.begin());
    });
  }
  void ResetInnerState() override {
    block_->With([](pcn::RelayBlock& b) { b.ResetOptimizer(); });
  }
  absl::StatusOr<StepOutput> Step(const StepInput&) override { return block_->MakeUpdate(); }
  absl::StatusOr<StepOutput> Evaluate(std::span<const float>, std::span<const uint16_t>) override {
    return absl::UnimplementedError("a block alone has no validation loss");
  }
  absl::StatusOr<std::vector<uint16_t>> Sample(std::span<const float>, std::span<const uint16_t>,
                                               uint32_t, uint64_t) override {
    return std::vector<uint16_t>{};
  }

 private:
  const std::shared_ptr<SharedBlock> block_;
};

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const std::shared_ptr<SharedBlock>& block,
                                                     const RunConfig& config, uint64_t parameters) {
  auto trainer = std::make_unique<BlockTrainer>(block);
  if (config.train.mode != "relay" || trainer->parameters() != parameters) {
    return absl::InvalidArgumentError(absl::StrCat(
        "run ", config.run.name, " (train.mode ", config.train.mode, ", ", parameters,
        " parameters) does not average this block of ", trainer->parameters(), " parameters"));
  }
  return trainer;
}

}  // namespace

// ---- SharedBlock ----

void SharedBlock::End() {
  {
    const std::lock_guard lock(mutex_);
    has_ended_ = true;
  }
  made_.notify_all();
}

bool SharedBlock::has_ended() const {
  const std::lock_guard lock(mutex_);
  return has_ended_;
}

SharedBlock::Mode SharedBlock::mode() const {
  const std::lock_guard lock(mutex_);
  if (!is_averaged_) return Mode::kTrain;
  if (has_ended_) return Mode::kServe;
  return is_wanted_ ? Mode::kTrain : Mode::kWait;
}

void SharedBlock::OnUpdate() {
  {
    const std::lock_guard lock(mutex_);
    is_wanted_ = false;
  }
  made_.notify_all();
}

StepOutput SharedBlock::MakeUpdate() {
  std::unique_lock lock(mutex_);
  is_wanted_ = !has_ended_;
  made_.wait(lock, [this] { return !is_wanted_ || has_ended_; });
  return {block_.last_loss(), has_ended_ ? 0u : 1u};
}

// ---- BlockRun ----

BlockRun::BlockRun(std::shared_ptr<SharedBlock> block, Options options)
    : block_(std::move(block)), options_(std::move(options)) {
  thread_ = std::thread([this] { options_.on_end(Run()); });
}

BlockRun::~BlockRun() {
  stop_ = 2;
  thread_.join();
}

absl::Status BlockRun::Run() {
  WorkerService::Options o;
  o.invitation = options_.invitation;
  o.keys = CurveKeyPair::Generate();
  o.signing_keys = SigningKeyPair::Generate();
  const CurveKeyPair random = CurveKeyPair::Generate();
  std::memcpy(&o.process.high, random.public_key.bytes.data(), sizeof o.process.high);
  std::memcpy(&o.process.low, random.public_key.bytes.data() + sizeof o.process.high,
              sizeof o.process.low);
  o.name = options_.name;
  o.give_up = options_.give_up;
  o.make_layout = options_.make_layout;
  o.make_tensors = options_.make_tensors;
  o.make_trainer = [this](const RunConfig& config, uint64_t parameters) {
    return MakeTrainer(block_, config, parameters);
  };
  o.say = [](const std::string& text) { LogInfo("averaging: " + text); };
  WorkerService service(std::move(o));
  const absl::StatusOr<WorkerService::Outcome> outcome = service.Run(stop_);
  block_->End();  // before the service waits for its trainer
  RETURN_IF_ERROR(outcome.status());
  if (outcome->success) return absl::OkStatus();
  return absl::FailedPreconditionError("the run that averages this block: " + outcome->reason);
}

}  // namespace longhaul
