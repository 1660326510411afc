#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/exit_codes.h"
#include "cli/worker_backend.h"
#include "worker/toy_trainer.h"

namespace longhaul {

namespace {

absl::Status NoSites() {
  return absl::InvalidArgumentError(
      "a site of several ranks needs longhaul-worker: the toy has no gradient");
}

}  // namespace

std::string BackendName() { return "longhaul-worker-toy"; }

absl::StatusOr<std::string> DescribeBackend(const BackendOptions& options) {
  if (options.site != nullptr) return NoSites();
  return std::string("closed-form toy trainer");
}

void UseBackend(const BackendOptions& backend, WorkerService::Options& service) {
  service.toy = true;
  service.make_trainer = [own_step_ms = backend.toy_step_ms](
                             const RunConfig& config,
                             uint64_t parameters) -> absl::StatusOr<std::unique_ptr<Trainer>> {
    ToyOptions options{.parameters = parameters, .seed = config.run.seed};
    const auto step =
        std::chrono::milliseconds(own_step_ms > 0 ? own_step_ms : config.train.toy_step_ms);
    if (step.count() > 0) options.wait = [step] { std::this_thread::sleep_for(step); };
    return MakeToyTrainer(options);
  };
}

absl::Status RunMember(const BackendOptions&, const SiteFlags&) { return NoSites(); }

int RunPcnDoctor(int, char**) {
  std::fputs("predictive coding needs longhaul-worker: the toy has no network\n", stderr);
  return kExitFailure;
}

int RunPcnStage(int argc, char** argv) { return RunPcnDoctor(argc, argv); }

}  // namespace longhaul
