#include "cli/run_inputs.h"
#include "cli/worker_backend.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "worker/train/device.h"
#include "worker/train/llama_trainer.h"
#include "worker/train/pcn_trainer.h"
#include "worker/train/train_options.h"

namespace longhaul {
namespace {

// θ̄, outer momentum, residual and θ as sent, beside what the trainer holds.
constexpr uint64_t kReplicaCopies = 4;
constexpr uint64_t kLibraryBytes = 200'000'000;

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const BackendOptions& options,
                                                     const RunConfig& config, uint64_t parameters) {
  if (IsBlockRun(config)) {
    return absl::FailedPreconditionError(
        "this run averages a block of a Relay network: its workers are the stages that hold the "
        "block (longhaul pcn relay --block-runs, longhaul-worker pcn-stage)");
  }
  const LlamaShape shape = ShapeOf(config);
  RETURN_IF_ERROR(ValidateShape(shape));
  if (ParameterCount(shape) != parameters)
    return absl::InvalidArgumentError("the run's model has another size than stated");
  const TrainOptions train = TrainOptionsFrom(config, options.threads);
  const bool is_pcn = config.train.mode == "pcn";
  const uint64_t trainer =
      is_pcn ? PcnTrainerMemoryBytes(shape, train) : TrainerMemoryBytes(shape, train);
  const uint64_t replica = kReplicaCopies * sizeof(float) * parameters;
  const uint64_t needed = trainer + replica + kLibraryBytes;
  LogInfo("memory: about " + HumanBytes(needed) + " (training " + HumanBytes(trainer) +
          ", synchronising " + HumanBytes(replica) + " = " + std::to_string(kReplicaCopies) +
          " copies of the model, libraries " + HumanBytes(kLibraryBytes) + ")");
  if (needed > options.memory_bytes) {
    return absl::FailedPreconditionError("this run needs about " + HumanBytes(needed) +
                                         " of memory, and " + HumanBytes(options.memory_bytes) +
                                         " may be used here (--memory GB, or a machine with more)");
  }
  ASSIGN_OR_RETURN(Device device, ResolveDevice(options.device));
  if (!is_pcn) return MakeLlamaTrainer(shape, train, device.name);
  ASSIGN_OR_RETURN(std::unique_ptr<PcnTrainer> pcn_trainer,
                   PcnTrainer::Make(shape, train, config.pcn, device.name));
  return std::unique_ptr<Trainer>(std::move(pcn_trainer));
}

}  // namespace

std::string BackendName() { return "longhaul-worker"; }

absl::StatusOr<std::string> DescribeBackend(const BackendOptions& options) {
  ASSIGN_OR_RETURN(Device device, ResolveDevice(options.device));
  return "LibTorch 2.11.0, " + device.description;
}

void UseBackend(const BackendOptions& options, WorkerService::Options& service) {
  service.load_data = [options](const RunConfig& config, const Digest& identity) {
    return FindCorpus(config, identity, options.data);
  };
  service.make_trainer = [options](const RunConfig& config, uint64_t parameters) {
    return MakeTrainer(options, config, parameters);
  };
}

}  // namespace longhaul
