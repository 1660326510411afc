#include "cli/plan_run.h"
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

// Where and how the run trains here.
struct Room {
  Device device;
  TrainOptions train;
};

absl::Status TooLittle(uint64_t needed, uint64_t allowed) {
  return absl::FailedPreconditionError("this run needs about " + HumanBytes(needed) +
                                       " of memory, and " + HumanBytes(allowed) +
                                       " may be used here (--memory GB, or a machine with more)");
}

// On a processor, the largest micro-batch that fits the memory that may be used: the step is the
// same. An error when not even one sequence fits.
absl::StatusOr<Room> FindRoom(const BackendOptions& options, const RunConfig& config,
                              uint64_t parameters) {
  const LlamaShape shape = ShapeOf(config);
  RETURN_IF_ERROR(ValidateShape(shape));
  if (ParameterCount(shape) != parameters)
    return absl::InvalidArgumentError("the run's model has another size than stated");
  Room room{.train = TrainOptionsFrom(config, options.threads)};
  ASSIGN_OR_RETURN(room.device, ResolveDevice(options.device));
  ASSIGN_OR_RETURN(const MemoryModel model, MemoryModelOf(config, shape));
  const uint64_t pcn = config.train.mode == "pcn" ? PcnMemoryBytes(shape, room.train) : 0;
  MemoryEstimate e = EstimateMemory(model, room.train.micro_batch_size);
  const bool on_host = room.device.name == "cpu";
  if (!on_host) {
    RETURN_IF_ERROR(CheckDeviceMemory(room.device, e.training() + pcn));
    const uint64_t host = e.total() - e.training();
    if (host > options.memory_bytes) return TooLittle(host, options.memory_bytes);
  } else if (e.total() + pcn > options.memory_bytes) {
    const uint64_t least = EstimateMemory(model, 1).total() + pcn;
    if (least > options.memory_bytes) return TooLittle(least, options.memory_bytes);
    room.train.micro_batch_size = static_cast<uint32_t>(
        LargestMicroBatch(model, room.train.micro_batch_size, options.memory_bytes - pcn));
    e = EstimateMemory(model, room.train.micro_batch_size);
  }
  LogInfo("memory: about " + HumanBytes(e.total() + pcn) + " (training " +
          HumanBytes(e.training() + pcn) + (on_host ? "" : " on the device") + ", synchronising " +
          HumanBytes(e.exchange_bytes + e.coded_bytes) + ", program " +
          HumanBytes(e.program_bytes) + "), " + std::to_string(room.train.micro_batch_size) +
          " sequences at a time");
  return room;
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
  ASSIGN_OR_RETURN(const Room room, FindRoom(options, config, parameters));
  return MakeLlamaTrainer(ShapeOf(config), room.train, room.device.name);
}

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const BackendOptions& options,
                                                     const RunConfig& config, uint64_t parameters) {
  if (options.site != nullptr) {
    ASSIGN_OR_RETURN(std::unique_ptr<GradientTrainer> own, MakeRank(options, config, parameters));
    return options.site->Assemble(config, parameters, std::move(own), GroupMaker(options));
  }
  ASSIGN_OR_RETURN(const Room room, FindRoom(options, config, parameters));
  if (config.train.mode != "pcn")
    return MakeLlamaTrainer(ShapeOf(config), room.train, room.device.name);
  return PcnTrainer::Make(ShapeOf(config), room.train, config.pcn, room.device.name);
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
