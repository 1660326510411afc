#include "pcn/rules/relay_world.h"

#include <ATen/ops/cat.h>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul::pcn {
namespace {

Payload ExactPayload(const at::Tensor& rows) {
  std::optional<Bytes> bytes = EncodeTensor(RowCodec::kFloat32, rows, Rounding::kNearest, 0);
  LONGHAUL_CHECK(bytes.has_value(), "inputs and targets must be finite");
  return std::make_shared<const Bytes>(*std::move(bytes));
}

RelayWorld::Totals TotalsOf(const BatchLedger& ledger) {
  return {ledger.accepted(), ledger.trained(), ledger.discarded(), ledger.Balances()};
}

void Add(RelayWorld::Totals& sum, const RelayWorld::Totals& part) {
  sum.accepted += part.accepted;
  sum.trained += part.trained;
  sum.discarded += part.discarded;
  sum.balances = sum.balances && part.balances;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RelayWorld>> RelayWorld::Make(const Network& network,
                                                             const at::Tensor& parameters,
                                                             const RelayOptions& options) {
  ASSIGN_OR_RETURN(std::vector<Network> blocks, network.Cut(options.first_layers));
  if (parameters.numel() != network.parameters()) {
    return absl::InvalidArgumentError(absl::StrCat("a network of ", network.parameters(),
                                                   " parameters, given ", parameters.numel()));
  }
  if (options.kill && options.kill->stage >= blocks.size()) {
    return absl::InvalidArgumentError("no such stage to kill");
  }
  return std::unique_ptr<RelayWorld>(new RelayWorld(std::move(blocks), parameters, options));
}

RelayWorld::RelayWorld(std::vector<Network> networks, const at::Tensor& parameters,
                       const RelayOptions& options)
    : options_(options), networks_(std::move(networks)), past_(networks_.size()) {
  int64_t offset = 0;
  for (size_t k = 0; k < networks_.size(); ++k) {
    const int64_t n = networks_[k].parameters();
    blocks_.push_back(std::make_unique<RelayBlock>(networks_[k], parameters.narrow(0, offset, n),
                                                   options_.block));
    offset += n;
    stages_.push_back(std::make_unique<Stage>(OptionsFor(k, 1, 0)));
    LossyLink::Options link = options_.link;
    link.seed = options_.link.seed * 1000 + 2 * k;
    up_.emplace_back(link);
    ++link.seed;
    down_.emplace_back(link);
  }
}

StageOptions RelayWorld::OptionsFor(size_t k, uint64_t epoch, uint64_t version) const {
  StageOptions o = options_.stage;
  o.stage = static_cast<uint32_t>(k);
  o.stages = static_cast<uint32_t>(networks_.size());
  o.epoch = epoch;
  o.version = version;
  if (epoch == 1) o.warm_up = 0;
  if (options_.synchronous) o.max_in_flight = 1;
  return o;
}

void RelayWorld::Run(uint64_t count, const Source& source) {
  wanted_ += count;
  while (fed_ < wanted_ || !AllDecided()) {
    KillOrRevive();
    Feed(source);
    Tick();
  }
}

bool RelayWorld::AllDecided() const {
  for (const auto& stage : stages_) {
    if (stage == nullptr || stage->ledger().open() > 0) return false;
  }
  return true;
}

// At most one new micro-batch per tick.
void RelayWorld::Feed(const Source& source) {
  if (stages_[0] != nullptr && fed_ < wanted_) {
    if (!next_) next_ = source(fed_);
    const bool idle = stages_[0]->ledger().open() == 0;
    if ((idle || !options_.synchronous) &&
        stages_[0]->OfferInput(fed_, ExactPayload(next_->input))) {
      labels_[fed_] = ExactPayload(next_->target);
      ++fed_;
      next_.reset();
    }
  }
  // Labels are repeated until their micro-batch is settled: a replaced top stage lost its own.
  if (stages_[0] != nullptr) {
    std::erase_if(labels_,
                  [&](const auto& entry) { return !stages_[0]->ledger().IsOpen(entry.first); });
  }
  if (stages_.back() == nullptr) return;
  for (const auto& [m, label] : labels_) stages_.back()->OfferLabel(m, label);
}

void RelayWorld::Tick() {
  ++now_;
  for (size_t k = stages_.size(); k-- > 0;) {
    std::vector<Message> arrived = k > 0 ? up_[k - 1].Receive(now_) : std::vector<Message>();
    for (Message& m : down_[k].Receive(now_)) arrived.push_back(std::move(m));
    if (stages_[k] == nullptr) continue;  // what arrives while nobody is there is lost
    for (const Message& m : arrived) stages_[k]->OnMessage(m, now_);
    stages_[k]->OnTick(now_);
    Work(k);
    for (const Message& m : stages_[k]->TakeOutgoing()) {
      (m.to > k ? up_[k] : down_[m.to]).Send(m, now_);
    }
  }
}

// One credit and one prediction; the top does both at once.
void RelayWorld::Work(size_t k) {
  bool credited = false, predicted = false;
  while (const auto work = stages_[k]->NextWork(now_)) {
    bool& done = work->kind == WorkKind::kPredict ? predicted : credited;
    if (done) return;  // stays the stage's current work
    done = true;
    DoWork(k, *work);
    if (stages_[k]->SnapshotDue()) {
      stages_[k]->SendSnapshot(std::make_shared<const Bytes>(blocks_[k]->Snapshot()));
    }
  }
}

void RelayWorld::DoWork(size_t k, const pcn::Work& work) {
  Stage& stage = *stages_[k];
  RelayBlock& block = *blocks_[k];
  const uint64_t m = work.micro_batch;
  if (work.kind == WorkKind::kPredict) {
    Payload state = block.Predict(m, *work.input);
    return state ? stage.OnPredicted(m, std::move(state), now_)
                 : stage.OnFailed(m, Discard::kNotFinite);
  }
  const double rate = options_.learning_rate(stage.version()) * work.rate;
  Payload down;
  const bool ok = work.kind == WorkKind::kTop
                      ? block.Top(m, *work.input, *work.credit, rate, k > 0, &down)
                      : block.Credit(m, *work.input, *work.credit, rate, k > 0, &down);
  return ok ? stage.OnTrained(m, std::move(down)) : stage.OnFailed(m, Discard::kNotFinite);
}

void RelayWorld::KillOrRevive() {
  if (!options_.kill) return;
  const uint32_t k = options_.kill->stage;
  if (now_ == options_.kill->at_tick && stages_[k] != nullptr) {
    Totals lost = TotalsOf(stages_[k]->ledger());
    lost.discarded += stages_[k]->ledger().open();
    Add(past_[k], lost);
    stages_[k].reset();
  }
  if (now_ != options_.kill->back_at_tick || stages_[k] != nullptr) return;
  // The new holder begins with what the buddy holds, or where the run began.
  const uint32_t buddy = k + 1 == stages_.size() ? k - 1 : k + 1;
  const Message* snapshot =
      stages_.size() > 1 && stages_[buddy] != nullptr ? stages_[buddy]->HeldSnapshot(k) : nullptr;
  if (snapshot != nullptr) {
    LONGHAUL_CHECK(blocks_[k]->SetSnapshot(*snapshot->payload).ok(), "our own snapshot");
  }
  stages_[k] = std::make_unique<Stage>(OptionsFor(k, 2, snapshot ? snapshot->version : 0));
  for (auto& stage : stages_) {
    if (stage != nullptr && stage != stages_[k]) stage->OnFence(k, 2, now_);
  }
}

at::Tensor RelayWorld::parameters() const {
  std::vector<at::Tensor> parts;
  for (const auto& block : blocks_) parts.push_back(block->parameters());
  return at::cat(parts);
}

RelayWorld::Totals RelayWorld::totals(size_t k) const {
  Totals sum = past_[k];
  if (stages_[k] != nullptr) Add(sum, TotalsOf(stages_[k]->ledger()));
  return sum;
}

uint64_t RelayWorld::bytes_between(size_t k) const {
  return up_[k].sent_bytes() + down_[k].sent_bytes();
}

}  // namespace longhaul::pcn
