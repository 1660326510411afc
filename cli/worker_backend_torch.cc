#include "cli/run_inputs.h"
#include "cli/worker_backend.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "worker/site/loopback_group.h"
#include "worker/site/plugin_group.h"
#include "worker/train/device.h"
#include "worker/train/llama_trainer.h"
#include "worker/train/train_options.h"

namespace longhaul {
namespace {

// θ̄, outer momentum, residual and θ as sent, beside what the trainer holds.
constexpr uint64_t kReplicaCopies = 4;
constexpr uint64_t kLibraryBytes = 200'000'000;
// In one sum a rank may wait as long for the slowest one.
constexpr Duration kSumDeadline = Seconds(120);

absl::StatusOr<std::unique_ptr<GradientTrainer>> MakeTrainer(const BackendOptions& options,
                                                             const RunConfig& config,
                                                             uint64_t parameters) {
  const LlamaShape shape = ShapeOf(config);
  RETURN_IF_ERROR(ValidateShape(shape));
  if (ParameterCount(shape) != parameters)
    return absl::InvalidArgumentError("the run's model has another size than stated");
  const TrainOptions train = TrainOptionsFrom(config, options.threads);
  const uint64_t trainer = TrainerMemoryBytes(shape, train);
  const uint64_t replica = kReplicaCopies * sizeof(float) * parameters;
  ASSIGN_OR_RETURN(Device device, ResolveDevice(options.device));
  if (device.name != "cpu") RETURN_IF_ERROR(CheckDeviceMemory(device, trainer));
  const uint64_t needed = (device.name == "cpu" ? trainer : 0) + replica + kLibraryBytes;
  LogInfo("memory: about " + HumanBytes(needed) + " (training " + HumanBytes(trainer) +
          ", synchronising " + HumanBytes(replica) + " = " + std::to_string(kReplicaCopies) +
          " copies of the model, libraries " + HumanBytes(kLibraryBytes) + ")");
  if (needed > options.memory_bytes) {
    return absl::FailedPreconditionError("this run needs about " + HumanBytes(needed) +
                                         " of memory, and " + HumanBytes(options.memory_bytes) +
                                         " may be used here (--memory GB, or a machine with more)");
  }
  return MakeLlamaTrainer(shape, train, device.name);
}

// NCCL when this rank trains on a GPU.
MakeGroup GroupMaker(const BackendOptions& options) {
  return [device_name = options.device](
             std::unique_ptr<SiteLink> sums) -> absl::StatusOr<std::unique_ptr<DeviceGroup>> {
    ASSIGN_OR_RETURN(const Device device, ResolveDevice(device_name));
    if (device.name == "cpu") return MakeLoopbackGroup(std::move(sums), kSumDeadline);
    ASSIGN_OR_RETURN(const LonghaulCudaPlugin* plugin, LoadCudaPlugin());
    return MakeNcclGroup(*plugin, *sums, device.index, kSumDeadline, nullptr);
  };
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
  service.make_trainer = [options](
                             const RunConfig& config,
                             uint64_t parameters) -> absl::StatusOr<std::unique_ptr<Trainer>> {
    ASSIGN_OR_RETURN(std::unique_ptr<GradientTrainer> own,
                     MakeTrainer(options, config, parameters));
    if (options.site == nullptr) return std::unique_ptr<Trainer>(std::move(own));
    return options.site->Assemble(config, parameters, std::move(own), GroupMaker(options));
  };
}

absl::Status RunMember(const BackendOptions& options, const SiteFlags& flags) {
  return RunSiteMember(
      flags,
      [&](const RunConfig& config, uint64_t parameters) {
        return MakeTrainer(options, config, parameters);
      },
      GroupMaker(options));
}

}  // namespace longhaul
