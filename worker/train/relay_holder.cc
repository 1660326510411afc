#include "worker/train/relay_holder.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "pcn/rules/adam.h"
#include "pcn/rules/builders.h"
#include "pcn/rules/image_files.h"

namespace longhaul {
namespace {

using pcn::MessageKind;

constexpr uint32_t kSnapshotQueries = 20;
constexpr Duration kQueryEvery = Milliseconds(250);
constexpr int kCreditUnits = 3;  // forward again, and twice as much backward

pcn::Payload Exact(const at::Tensor& rows) {
  auto bytes = pcn::EncodeTensor(pcn::RowCodec::kFloat32, rows, pcn::Rounding::kNearest, 0);
  LONGHAUL_CHECK(bytes.has_value(), "images and labels are finite");
  return std::make_shared<const pcn::Bytes>(*std::move(bytes));
}

std::vector<size_t> Cut(const pcn::StageTable& table) {
  std::vector<size_t> first;
  for (const pcn::StageSlot& slot : table.slots) first.push_back(slot.first_layer);
  return first;
}

pcn::RelayBlock::Options BlockOptions(const pcn::RelayPlan& plan) {
  pcn::RelayBlock::Options o;
  o.codec = plan.codec;
  o.adam.weight_decay = plan.weight_decay;
  o.seed = plan.seed;
  return o;
}

}  // namespace

absl::StatusOr<pcn::ImageSet> ImagesFor(const pcn::RelayPlan& plan, const std::string& folder) {
  if (plan.generated_images > 0) return pcn::GeneratedDigits(plan.generated_images, 1);
  if (folder.empty()) {
    return absl::NotFoundError("this run trains on IDX digits: --images FOLDER");
  }
  return pcn::LoadIdxDigits(folder);
}

absl::StatusOr<pcn::Network> NetworkOf(const pcn::RelayPlan& plan) {
  if (const std::string problem = pcn::PlanProblem(plan); !problem.empty()) {
    return absl::InvalidArgumentError(problem);
  }
  ASSIGN_OR_RETURN(const pcn::Activation activation, pcn::ParseActivation(plan.activation));
  return pcn::MakeMlp({plan.sizes.begin(), plan.sizes.end()}, activation);
}

absl::StatusOr<std::unique_ptr<RelayHolder>> RelayHolder::Make(const pcn::StageTable& table,
                                                               uint32_t stage,
                                                               const pcn::ImageSet& images,
                                                               RelayLinks* links) {
  ASSIGN_OR_RETURN(pcn::Network network, NetworkOf(table.plan));
  if (images.pixels != table.plan.sizes.front() || images.classes != table.plan.sizes.back()) {
    return absl::InvalidArgumentError(
        absl::StrCat("images of ", images.pixels, " pixels in ", images.classes,
                     " classes do not match a network of ", table.plan.sizes.front(),
                     " inputs and ", table.plan.sizes.back(), " outputs"));
  }
  ASSIGN_OR_RETURN(std::vector<pcn::Network> blocks, network.Cut(Cut(table)));
  const at::Tensor all =
      network.InitialParameters(table.plan.seed, at::kFloat).mul(table.plan.initial_scale);
  int64_t offset = 0;
  for (uint32_t k = 0; k < stage; ++k) offset += blocks[k].parameters();
  const at::Tensor parameters = all.narrow(0, offset, blocks[stage].parameters());
  return std::unique_ptr<RelayHolder>(
      new RelayHolder(table, stage, std::move(blocks[stage]), parameters, images, links));
}

RelayHolder::RelayHolder(const pcn::StageTable& table, uint32_t stage, pcn::Network network,
                         const at::Tensor& parameters, const pcn::ImageSet& images,
                         RelayLinks* links)
    : table_(table),
      index_(stage),
      epoch_(table.slots[stage].epoch),
      fold_(pcn::MakeFold(images, table.plan.fold % pcn::kFolds)),
      links_(links),
      block_(std::make_shared<SharedBlock>(std::move(network), parameters, BlockOptions(table.plan),
                                           !table.plan.block_runs.empty())),
      fed_(table.resume_at) {
  if (epoch_ == 1) Begin(0);
}

void RelayHolder::Begin(uint64_t version) {
  const pcn::RelayPlan& plan = table_.plan;
  pcn::StageOptions o;
  o.stage = index_;
  o.stages = plan.stages;
  o.epoch = epoch_;
  o.version = version;
  o.max_in_flight = plan.synchronous ? 1 : plan.max_in_flight;
  o.full_rate_gap = plan.full_rate_gap;
  o.gap_limit = plan.gap_limit;
  o.hop_ticks = plan.hop_ms;
  o.max_queries = plan.max_queries;
  o.warm_up = epoch_ == 1 ? 0 : plan.warm_up;
  o.snapshot_every = plan.snapshot_every;
  stage_.emplace(o);
  for (uint32_t k = 0; k < plan.stages; ++k) {
    if (k != index_) stage_->OnFence(k, table_.slots[k].epoch, 0);
  }
}

uint64_t RelayHolder::Milliseconds(Duration now) const {
  return static_cast<uint64_t>(now.count() / 1'000'000);
}

// ---- neighbours ----

absl::Status RelayHolder::OnTable(const pcn::StageTable& table, Duration now) {
  table_ = table;
  if (index_ > 0) links_->SetBelow(table.slots[index_ - 1].holder);
  if (!is_top()) {
    const pcn::StageSlot& above = table.slots[index_ + 1];
    RETURN_IF_ERROR(links_->SetAbove(above.address, above.holder));
  }
  for (uint32_t k = 0; k < table.plan.stages && stage_; ++k) {
    if (k != index_) stage_->OnFence(k, table.slots[k].epoch, Milliseconds(now));
  }
  return absl::OkStatus();
}

void RelayHolder::OnMessage(const pcn::Message& message, Duration now) {
  if (message.kind == MessageKind::kSnapshotQuery) return AnswerSnapshotQuery(message);
  if (message.kind == MessageKind::kSnapshotAnswer) {
    if (stage_ || message.to != index_) return;
    const bool held = message.payload != nullptr;
    if (held) {
      const absl::Status status =
          block_->With([&](pcn::RelayBlock& block) { return block.SetSnapshot(*message.payload); });
      if (!status.ok()) return LogWarning(std::string(status.message()));
    }
    LogInfo(held ? absl::StrCat("took over at update ", message.version)
                 : "took over a block of which there is no snapshot: from its initial values");
    return Begin(held ? message.version : 0);
  }
  if (!stage_) return;  // what it says will be said again
  stage_->OnMessage(message, Milliseconds(now));
  if (message.kind == MessageKind::kStateUp && is_top()) OfferLabel(message.micro_batch);
}

void RelayHolder::OfferLabel(uint64_t micro_batch) {
  const pcn::RelayPlan& plan = table_.plan;
  stage_->OfferLabel(micro_batch,
                     Exact(pcn::DrawBatch(fold_, plan.rows, plan.seed, micro_batch).target));
}

void RelayHolder::AnswerSnapshotQuery(const pcn::Message& query) {
  pcn::Message answer{.kind = MessageKind::kSnapshotAnswer, .from = index_, .to = query.from};
  const pcn::Message* held = stage_ ? stage_->HeldSnapshot(query.from) : nullptr;
  if (held != nullptr) {
    answer.version = held->version;
    answer.payload = held->payload;
  }
  links_->Send(answer, query.from > index_);
}

// A buddy that never answers must not keep the block from training.
void RelayHolder::AskForSnapshot(Duration now) {
  if (now < next_query_) return;
  if (table_.plan.stages == 1 || snapshot_queries_++ >= kSnapshotQueries) {
    LogWarning("nobody answers with a snapshot: the block begins with its initial values");
    return Begin(0);
  }
  next_query_ = now + kQueryEvery;
  const uint32_t buddy = is_top() ? index_ - 1 : index_ + 1;
  links_->Send({.kind = MessageKind::kSnapshotQuery, .from = index_, .to = buddy, .epoch = epoch_},
               buddy > index_);
}

// ---- work ----

void RelayHolder::Feed() {
  const pcn::RelayPlan& plan = table_.plan;
  while (is_averaged() ? table_.phase == pcn::RelayPhase::kRunning : fed_ < plan.micro_batches) {
    if (plan.synchronous && stage_->ledger().open() > 0) return;
    if (!next_input_) {
      next_input_ = Exact(pcn::DrawBatch(fold_, plan.rows, plan.seed, fed_).input);
    }
    if (!stage_->OfferInput(fed_, *next_input_)) return;
    if (is_top()) OfferLabel(fed_);
    next_input_.reset();
    ++fed_;
  }
}

bool RelayHolder::Turn(Duration now, const std::function<Duration()>& clock) {
  if (!stage_) {
    AskForSnapshot(now);
    links_->Flush(now);
    return false;
  }
  stage_->OnTick(Milliseconds(now));
  if (index_ == 0) Feed();
  const auto work = NextWork(now);
  if (work) {
    Do(*work, now);
    const bool is_forward = work->kind == pcn::WorkKind::kPredict;
    const int units = is_forward ? 1 : kCreditUnits;
    const Duration least = units * longhaul::Milliseconds(table_.plan.work_unit_ms);
    std::this_thread::sleep_for(least - (clock() - now));  // emulates a slower machine
    // Connections open and the chain fills until the first update: that is not counted.
    if (first_update_ == Duration(0) && !is_forward) first_update_ = now;
    last_work_ = clock();
    if (first_update_ != Duration(0)) busy_ += last_work_ - now;
    if (stage_->SnapshotDue() && !links_->sends_in_background()) {
      stage_->SendSnapshot(std::make_shared<const pcn::Bytes>(
          block_->With([](const pcn::RelayBlock& block) { return block.Snapshot(); })));
    }
  }
  SendOutgoing();
  links_->Flush(clock());
  return work.has_value();
}

std::optional<pcn::Work> RelayHolder::NextWork(Duration now) {
  mode_ = block_->mode();
  return stage_->NextWork(Milliseconds(now), mode_ != SharedBlock::Mode::kWait);
}

void RelayHolder::Do(const pcn::Work& work, Duration now) {
  const uint64_t m = work.micro_batch;
  if (work.kind == pcn::WorkKind::kPredict) {
    pcn::Payload state =
        block_->With([&](pcn::RelayBlock& block) { return block.Predict(m, *work.input); });
    return state ? stage_->OnPredicted(m, std::move(state), Milliseconds(now))
                 : stage_->OnFailed(m, pcn::Discard::kNotFinite);
  }
  const double schedule = pcn::WarmCosine(stage_->version(), table_.plan.micro_batches);
  const bool serves = mode_ == SharedBlock::Mode::kServe;
  const double rate = serves ? 0 : table_.plan.learning_rate * schedule * work.rate;
  pcn::Payload down;
  if (!Train(work, rate, &down)) return stage_->OnFailed(m, pcn::Discard::kNotFinite);
  if (serves) return stage_->OnServed(m, std::move(down));
  stage_->OnTrained(m, std::move(down));
  block_->OnUpdate();
}

bool RelayHolder::Train(const pcn::Work& work, double rate, pcn::Payload* down) {
  const bool is_label = work.kind == pcn::WorkKind::kTop;
  return block_->With([&](pcn::RelayBlock& block) {
    return is_label
               ? block.Top(work.micro_batch, *work.input, *work.credit, rate, index_ > 0, down)
               : block.Credit(work.micro_batch, *work.input, *work.credit, rate, index_ > 0, down);
  });
}

void RelayHolder::SendOutgoing() {
  for (const pcn::Message& m : stage_->TakeOutgoing()) {
    const bool up = m.to > index_;
    if (m.kind == MessageKind::kStateUp) bytes_up_ += pcn::EncodedBytes(m);
    if (m.kind == MessageKind::kCreditDown) bytes_down_ += pcn::EncodedBytes(m);
    links_->Send(m, up);
  }
}

bool RelayHolder::finished() const {
  const bool feeds = index_ == 0 && !is_averaged();
  const bool no_more =
      feeds ? fed_ >= table_.plan.micro_batches : table_.phase >= pcn::RelayPhase::kDraining;
  return stage_ && no_more && stage_->ledger().open() == 0;
}

void RelayHolder::Report(pcn::StageBeat& beat) const {
  beat.epoch = epoch_;
  beat.stage = index_;
  if (!stage_) return;
  const pcn::BatchLedger& ledger = stage_->ledger();
  beat.version = stage_->version();
  beat.settled_below = ledger.FirstOpen(fed_);
  beat.finished = finished();
  beat.averaged = block_->has_ended();
  beat.accepted = ledger.accepted();
  beat.trained = ledger.trained();
  beat.open = ledger.open();
  for (size_t i = 0; i < pcn::kDiscards; ++i) {
    beat.discarded[i] = ledger.discarded(static_cast<pcn::Discard>(i));
  }
  beat.gap_median = stage_->gaps().Percentile(0.5);
  beat.gap_p95 = stage_->gaps().Percentile(0.95);
  beat.fenced = stage_->counters().fenced;
  beat.resends = stage_->counters().resends;
  beat.bytes_up = bytes_up_;
  beat.bytes_down = bytes_down_;
  beat.busy_ns = static_cast<uint64_t>(busy_.count());
  if (first_update_ != Duration(0)) {
    beat.span_ns = static_cast<uint64_t>((last_work_ - first_update_).count());
  }
  block_->With([&](const pcn::RelayBlock& block) {
    beat.loss = block.last_loss();
    const at::Tensor& p = block.parameters();
    if (!beat.finished) return;
    beat.parameters =
        Blake2b(std::string_view(static_cast<const char*>(p.const_data_ptr()), p.nbytes()));
  });
}

}  // namespace longhaul
