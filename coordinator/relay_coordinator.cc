#include "coordinator/relay_coordinator.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/bounded_queue.h"
#include "common/status_macros.h"
#include "transport/invitation.h"
#include "transport/server.h"

namespace longhaul {
namespace {

constexpr size_t kMaxInbox = 4096;
constexpr uint32_t kUses = 10'000;
constexpr uint64_t kValidSeconds = 7 * 24 * 3600;
constexpr Duration kProgressEvery = Seconds(2);
constexpr Duration kTick = Milliseconds(20);
constexpr Duration kPartingTime = Seconds(10);  // for stages to hear that it is over
constexpr char kRunId[] = "0000000000000000";   // stages belong to the invitation, not to a folder

Duration Now() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch());
}

class RelayCoordinator {
 public:
  explicit RelayCoordinator(const RelayCoordinatorOptions& options)
      : options_(options), slots_(options.plan, options.lease) {}

  absl::Status Start();
  absl::StatusOr<RelayOutcome> Run(const std::atomic<int>& stop);

 private:
  absl::Status WriteInvitation();
  void OnMessage(const Inbound& in);
  void Broadcast();
  void SendTable(const std::string& route);
  void Say() const;
  void SayProgress();

  const RelayCoordinatorOptions& options_;
  pcn::RelaySlots slots_;
  const CurveKeyPair keys_ = CurveKeyPair::Generate();
  const CurveKeyPair one_off_ = CurveKeyPair::Generate();
  KeyTable table_;
  BoundedQueue<Inbound> inbox_{kMaxInbox};
  std::map<WorkerKey, std::string> routes_;
  uint64_t told_ = 0;
  pcn::RelayPhase phase_ = pcn::RelayPhase::kWaiting;
  Duration begin_{0}, next_progress_{0};
  std::unique_ptr<RouterServer> server_;
};

absl::Status RelayCoordinator::Start() {
  const std::string problem = pcn::PlanProblem(options_.plan);
  if (!problem.empty()) return absl::InvalidArgumentError(problem);
  table_.Add(one_off_.public_key, Role::kInvitation);
  ServerOptions o;
  o.listen = options_.listen;
  o.keys = keys_;
  o.key_table = &table_;
  o.on_message = [this](Inbound&& in) { inbox_.TryPush(std::move(in)); };
  ASSIGN_OR_RETURN(server_, RouterServer::Start(std::move(o)));
  return WriteInvitation();
}

absl::Status RelayCoordinator::WriteInvitation() {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  ASSIGN_OR_RETURN(
      Invitation invitation,
      MakeInvitation(ReachableAddresses(server_->address()), keys_.public_key, kRunId, one_off_,
                     kUses, static_cast<uint64_t>(now.count()) + kValidSeconds));
  ASSIGN_OR_RETURN(std::string text, EncodeInvitation(invitation));
  // Whole or not at all: others wait for this file.
  const std::string fresh = options_.invitation_file + ".new";
  std::ofstream file(fresh);
  file << text << "\n";
  file.close();
  if (!file || std::rename(fresh.c_str(), options_.invitation_file.c_str()) != 0) {
    return absl::UnavailableError("cannot write " + options_.invitation_file);
  }
  return absl::OkStatus();
}

void RelayCoordinator::OnMessage(const Inbound& in) {
  if (in.frames.size() != 1) return;
  const ByteSpan bytes = in.frames[0].bytes();
  if (in.role == Role::kInvitation) {  // a stage's own key
    WorkerKey key;
    if (bytes.size() != key.bytes.size()) return;
    std::memcpy(key.bytes.data(), bytes.data(), bytes.size());
    if (!table_.Find(key)) table_.Add(key, Role::kWorker);
    return SendTable(in.route);
  }
  const auto beat = pcn::DecodeBeat(bytes);
  if (!beat) return;
  routes_[in.user] = in.route;
  slots_.OnBeat(in.user, *beat, Now());
  SendTable(in.route);
}

void RelayCoordinator::SendTable(const std::string& route) {
  std::vector<Frame> frames;
  frames.emplace_back(pcn::EncodeTable(slots_.table()));
  server_->Send(route, std::move(frames));
}

void RelayCoordinator::Broadcast() {
  if (slots_.changes() == told_) return;
  told_ = slots_.changes();
  for (const auto& [key, route] : routes_) SendTable(route);
  Say();
}

void RelayCoordinator::Say() const {
  const pcn::StageTable& table = slots_.table();
  std::string text;
  for (size_t k = 0; k < table.slots.size(); ++k) {
    const pcn::StageSlot& slot = table.slots[k];
    const bool vacant = slot.holder == WorkerKey();
    absl::StrAppend(&text, k == 0 ? "" : "; ", "stage ", k, ": ",
                    vacant ? "vacant, waiting for a worker"
                           : absl::StrCat(slot.address, " from layer ", slot.first_layer,
                                          ", epoch ", slot.epoch));
  }
  options_.say(text);
}

void RelayCoordinator::SayProgress() {
  if (phase_ == pcn::RelayPhase::kWaiting || Now() < next_progress_) return;
  next_progress_ = Now() + kProgressEvery;
  std::string text = "updates:";
  for (size_t k = 0; k < options_.plan.stages; ++k) {
    absl::StrAppend(&text, " ", slots_.Summary(k).version);
  }
  options_.say(absl::StrCat(text, ", loss ", slots_.Summary(options_.plan.stages - 1).loss));
}

absl::StatusOr<RelayOutcome> RelayCoordinator::Run(const std::atomic<int>& stop) {
  RETURN_IF_ERROR(Start());
  options_.say(absl::StrCat("invitation: ", options_.invitation_file, "; waiting for ",
                            options_.plan.stages, " stages"));
  Duration over_since{0};
  while (stop == 0 && !slots_.over()) {
    for (auto in = inbox_.PopFor(kTick); in; in = inbox_.PopFor(Duration(0))) OnMessage(*in);
    slots_.OnTick(Now());
    if (phase_ == pcn::RelayPhase::kWaiting && slots_.table().phase != phase_) begin_ = Now();
    phase_ = slots_.table().phase;
    Broadcast();
    SayProgress();
    if (phase_ != pcn::RelayPhase::kOver) continue;
    if (over_since == Duration(0)) over_since = Now();
    if (Now() - over_since > kPartingTime) break;
  }
  if (!slots_.table().problem.empty()) {
    return absl::FailedPreconditionError(slots_.table().problem);
  }
  RelayOutcome outcome;
  outcome.complete = phase_ == pcn::RelayPhase::kOver;
  outcome.seconds = std::chrono::duration<double>(Now() - begin_).count();
  for (size_t k = 0; k < options_.plan.stages; ++k) outcome.stages.push_back(slots_.Summary(k));
  return outcome;
}

}  // namespace

absl::StatusOr<RelayOutcome> RunRelayCoordinator(const RelayCoordinatorOptions& options,
                                                 const std::atomic<int>& stop) {
  return RelayCoordinator(options).Run(stop);
}

}  // namespace longhaul
