#include "cli/run_inputs.h"
#include "cli/worker_backend.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "worker/site/loopback_group.h"
#include "worker/site/plugin_group.h"
#include "worker/train/device.h"
#include "worker/train/llama_trainer.h"
#include "worker/train/pcn_trainer.h"
#include "worker/train/train_options.h"

namespace longhaul {
namespace {

// θ̄, outer momentum, residual and θ as sent, beside what the trainer holds.
constexpr uint64_t kReplicaCopies = 4;
constexpr uint64_t kLibraryBytes = 200'000'000;

// Where the run trains here; an error when there is not the memory for it.
absl::StatusOr<Device> FindRoom(const BackendOptions& options, const RunConfig& config,
                                uint64_t parameters) {
  const LlamaShape shape = ShapeOf(config);
  RETURN_IF_ERROR(ValidateShape(shape));
  if (ParameterCount(shape) != parameters)
    return absl::InvalidArgumentError("the run's model has another size than stated");
  const TrainOptions train = TrainOptionsFrom(config, options.threads);
  const uint64_t trainer = config.train.mode == "pcn" ? PcnTrainerMemoryBytes(shape, train)
                                                      : TrainerMemoryBytes(shape, train);
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
  return device;
}

// NCCL when this rank trains on a GPU.
MakeGroup GroupMaker(const BackendOptions& options) {
  return [device_name = options.device](
             std::unique_ptr<SiteLink> sums,
             Duration deadline) -> absl::StatusOr<std::unique_ptr<DeviceGroup>> {
    ASSIGN_OR_RETURN(const Device device, ResolveDevice(device_name));
    if (device.name == "cpu") return MakeLoopbackGroup(std::move(sums), deadline);
    ASSIGN_OR_RETURN(const LonghaulCudaPlugin* plugin, LoadCudaPlugin());
    return MakeNcclGroup(*plugin, *sums, device.index, deadline, nullptr);
  };
}

// One rank of a site.
absl::StatusOr<std::unique_ptr<GradientTrainer>> MakeRank(const BackendOptions& options,
                                                          const RunConfig& config,
                                                          uint64_t parameters) {
  if (config.train.mode == "pcn")
    return absl::InvalidArgumentError(
        "a run with train.mode = \"pcn\" needs a worker without --site-ranks");
  ASSIGN_OR_RETURN(const Device device, FindRoom(options, config, parameters));
  return MakeLlamaTrainer(ShapeOf(config), TrainOptionsFrom(config, options.threads), device.name);
}

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const BackendOptions& options,
                                                     const RunConfig& config, uint64_t parameters) {
  if (options.site != nullptr) {
    ASSIGN_OR_RETURN(std::unique_ptr<GradientTrainer> own, MakeRank(options, config, parameters));
    return options.site->Assemble(config, parameters, std::move(own), GroupMaker(options));
  }
  ASSIGN_OR_RETURN(const Device device, FindRoom(options, config, parameters));
  const TrainOptions train = TrainOptionsFrom(config, options.threads);
  if (config.train.mode != "pcn") return MakeLlamaTrainer(ShapeOf(config), train, device.name);
  return PcnTrainer::Make(ShapeOf(config), train, config.pcn, device.name);
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

absl::Status RunMember(const BackendOptions& options, const SiteFlags& flags) {
  return RunSiteMember(
      flags,
      [&](const RunConfig& config, uint64_t parameters) {
        return MakeRank(options, config, parameters);
      },
      GroupMaker(options));
}

}  // namespace longhaul
