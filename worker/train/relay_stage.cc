#include "worker/train/relay_stage.h"

#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/bounded_queue.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "pcn/relay/slots.h"
#include "worker/relay_links.h"
#include "worker/train/relay_holder.h"

namespace longhaul {
namespace {

using pcn::RelayPhase;

constexpr size_t kMaxEvents = 4096;
constexpr Duration kIdle = Milliseconds(2);
constexpr Duration kFarewell = Milliseconds(200);  // for the last words to leave

Duration Now() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch());
}

// Multiply-adds per second, in thousands of millions.
double MeasureSpeed() {
  constexpr int64_t kSide = 256;
  const at::Tensor a = at::ones({kSide, kSide});
  const Duration begin = Now();
  int rounds = 0;
  while (Now() - begin < Milliseconds(100)) {
    at::mm(a, a);
    ++rounds;
  }
  const double seconds = std::chrono::duration<double>(Now() - begin).count();
  return rounds * static_cast<double>(kSide * kSide * kSide) / seconds * 1e-9;
}

Digest DigestOf(const pcn::ImageSet& set) {
  const Digest values = Blake2b(std::string_view(reinterpret_cast<const char*>(set.values.data()),
                                                 set.values.size() * sizeof(float)));
  std::string both(reinterpret_cast<const char*>(values.data()), values.size());
  both.append(reinterpret_cast<const char*>(set.labels.data()),
              set.labels.size() * sizeof(int64_t));
  return Blake2b(both);
}

// The block's parameters as plain float32: block-NN.bin.
absl::Status WriteBlock(const std::string& folder, uint32_t stage, const at::Tensor& parameters) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string path = absl::StrCat(folder, "/block-", stage < 10 ? "0" : "", stage, ".bin");
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(parameters.const_data_ptr()),
             static_cast<std::streamsize>(parameters.nbytes()));
  file.close();
  return file ? absl::OkStatus() : absl::DataLossError("cannot write " + path);
}

class RelayStage {
 public:
  explicit RelayStage(const RelayStageOptions& options) : options_(options) {}
  ~RelayStage() { events_.Close(); }  // before its producers are waited for

  absl::Status Run(const std::atomic<int>& stop);

 private:
  struct Control {
    std::vector<Frame> frames;  // none: connected
  };
  struct Trouble {
    std::string reason;
  };
  struct Averaged {  // the run of our block is over
    absl::Status status;
  };
  using Event = std::variant<RelayLinks::Received, Control, Trouble, Averaged>;

  absl::Status Connect(const CurveKeyPair& keys);
  absl::Status Handle(Event&& event);
  absl::Status OnControl(const Control& control);
  absl::Status OnTable(const pcn::StageTable& table);
  absl::Status TakeSlot(const pcn::StageTable& table, uint32_t stage);
  absl::Status JoinBlockRun(const pcn::StageTable& table, uint32_t stage);
  void Beat(bool leaving);
  absl::Status Finish();

  const RelayStageOptions& options_;
  const CurveKeyPair keys_ = CurveKeyPair::Generate();
  BoundedQueue<Event> events_{kMaxEvents};
  bool enrolled_ = false, over_ = false;
  Duration heard_{0}, next_beat_{0};
  pcn::StageBeat beat_;
  std::optional<pcn::ImageSet> images_;
  std::unique_ptr<RelayLinks> links_;
  std::unique_ptr<DealerClient> control_;
  std::unique_ptr<RelayHolder> holder_;
  std::unique_ptr<BlockRun> averaging_;
};

absl::Status RelayStage::Connect(const CurveKeyPair& keys) {
  ClientOptions o;
  o.address = options_.invitation.addresses.front();
  o.server_key = options_.invitation.server_key;
  o.keys = keys;
  o.on_message = [this](std::vector<Frame>&& frames) {
    events_.TryPush(Control{std::move(frames)});
  };
  o.on_event = [this](const ConnectionEvent& event) {
    if (event.change == ConnectionChange::kConnected) {
      events_.TryPush(Control{});
    } else {
      events_.TryPush(Trouble{event.reason});
    }
  };
  control_.reset();
  ASSIGN_OR_RETURN(control_, DealerClient::Start(std::move(o)));
  return absl::OkStatus();
}

absl::Status RelayStage::Run(const std::atomic<int>& stop) {
  at::set_num_threads(1);
  RelayLinks::Options links;
  links.listen = options_.listen;
  links.keys = keys_;
  links.most_message_bytes = pcn::kMaxPayloadBytes;
  links.on_frames = [this](RelayLinks::Received&& received) {
    events_.TryPush(Event(std::move(received)));
  };
  ASSIGN_OR_RETURN(links_, RelayLinks::Start(std::move(links)));
  beat_.address = ReachableAddresses(links_->address()).front();
  beat_.speed = options_.speed > 0 ? options_.speed : MeasureSpeed();
  beat_.memory_bytes = options_.memory_bytes;
  heard_ = Now();
  RETURN_IF_ERROR(Connect(options_.invitation.one_off_keys()));
  bool busy = false;
  while (stop == 0 && !over_) {
    auto event = busy ? events_.PopFor(Duration(0)) : events_.PopFor(kIdle);
    for (; event; event = events_.PopFor(Duration(0))) {
      RETURN_IF_ERROR(Handle(*std::move(event)));
    }
    if (enrolled_ && Now() >= next_beat_) Beat(/*leaving=*/false);
    if (options_.give_up_s > 0 && Now() - heard_ > Duration(int64_t(options_.give_up_s * 1e9))) {
      return absl::UnavailableError("the coordinator does not answer");
    }
    if (holder_ == nullptr) continue;
    busy = holder_->Turn(Now(), Now);
    if (holder_->finished() && !beat_.finished) next_beat_ = Now();  // to be told at once
  }
  return Finish();
}

absl::Status RelayStage::Handle(Event&& event) {
  if (const auto* control = std::get_if<Control>(&event)) return OnControl(*control);
  if (const auto* trouble = std::get_if<Trouble>(&event)) {
    LogDebug("coordinator: " + trouble->reason);
    return absl::OkStatus();
  }
  if (const auto* averaged = std::get_if<Averaged>(&event)) {
    next_beat_ = Now();
    return averaged->status;
  }
  const auto& received = std::get<RelayLinks::Received>(event);
  const auto message = links_->OnFrames(received);
  if (message && holder_ != nullptr) holder_->OnMessage(*message, Now());
  return absl::OkStatus();
}

absl::Status RelayStage::OnControl(const Control& control) {
  if (control.frames.empty()) {  // connected
    if (enrolled_) {
      next_beat_ = Now();
    } else {
      std::vector<Frame> join;
      join.emplace_back(std::string(reinterpret_cast<const char*>(keys_.public_key.bytes.data()),
                                    keys_.public_key.bytes.size()));
      control_->Send(std::move(join));
    }
    return absl::OkStatus();
  }
  heard_ = Now();
  if (!enrolled_) {  // any answer: our own key is known now
    enrolled_ = true;
    return Connect(keys_);
  }
  const auto table = pcn::DecodeTable(control.frames[0].bytes());
  return table ? OnTable(*table) : absl::OkStatus();
}

absl::Status RelayStage::OnTable(const pcn::StageTable& table) {
  if (!table.problem.empty()) return absl::FailedPreconditionError(table.problem);
  if (!images_) {
    ASSIGN_OR_RETURN(images_, ImagesFor(table.plan, options_.images));
    beat_.data = DigestOf(*images_);
    next_beat_ = Now();
  }
  std::optional<uint32_t> slot;
  for (uint32_t k = 0; k < table.slots.size(); ++k) {
    if (table.slots[k].holder == keys_.public_key) slot = k;
  }
  if (holder_ != nullptr) {
    const bool is_ours = slot && table.slots[*slot].epoch == holder_->epoch();
    if (!is_ours) return absl::FailedPreconditionError("another stage took our place");
  } else if (slot) {
    RETURN_IF_ERROR(TakeSlot(table, *slot));
  }
  if (holder_ != nullptr) RETURN_IF_ERROR(holder_->OnTable(table, Now()));
  over_ = table.phase == RelayPhase::kOver;
  return absl::OkStatus();
}

absl::Status RelayStage::TakeSlot(const pcn::StageTable& table, uint32_t stage) {
  ASSIGN_OR_RETURN(holder_, RelayHolder::Make(table, stage, *images_, links_.get()));
  LogInfo(absl::StrCat("stage ", stage, " of ", table.plan.stages, ", epoch ",
                       table.slots[stage].epoch, ", layers from ", table.slots[stage].first_layer));
  return table.plan.block_runs.empty() ? absl::OkStatus() : JoinBlockRun(table, stage);
}

absl::Status RelayStage::JoinBlockRun(const pcn::StageTable& table, uint32_t stage) {
  BlockRun::Options o;
  ASSIGN_OR_RETURN(o.invitation, DecodeInvitation(table.plan.block_runs[stage]));
  o.name = absl::StrCat("block-", stage, "-of-", beat_.address);
  o.give_up = Duration(static_cast<int64_t>(options_.give_up_s * 1e9));
  o.make_layout = options_.make_layout;
  o.make_tensors = options_.make_tensors;
  o.on_end = [this](absl::Status status) { events_.Push(Event(Averaged{std::move(status)})); };
  averaging_ = std::make_unique<BlockRun>(holder_->block(), std::move(o));
  return absl::OkStatus();
}

void RelayStage::Beat(bool leaving) {
  if (holder_ != nullptr) holder_->Report(beat_);
  beat_.leaving = leaving;
  next_beat_ = Now() + pcn::kBeatEvery;
  std::vector<Frame> frames;
  frames.emplace_back(pcn::EncodeBeat(beat_));
  control_->Send(std::move(frames));
}

absl::Status RelayStage::Finish() {
  Beat(/*leaving=*/true);
  absl::Status status;
  if (over_ && holder_ != nullptr && !options_.output.empty()) {
    status = holder_->block()->With([&](const pcn::RelayBlock& block) {
      return WriteBlock(options_.output, beat_.stage, block.parameters());
    });
  }
  const Duration until = Now() + kFarewell;
  while (Now() < until) events_.PopFor(kIdle);
  return status;
}

}  // namespace

absl::Status RunRelayStage(const RelayStageOptions& options, const std::atomic<int>& stop) {
  return RelayStage(options).Run(stop);
}

}  // namespace longhaul
