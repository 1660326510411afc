// What tells longhaul-worker and longhaul-worker-toy apart: where the trainer and the data come
// from. Linked in by CMake: worker_backend_torch.cc or worker_backend_toy.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/site_host.h"
#include "worker/service.h"

namespace longhaul {

struct BackendOptions {
  std::string device = "auto";
  uint32_t threads = 1;
  uint64_t memory_bytes = 0;       // what the trainer may take
  uint32_t toy_step_ms = 0;        // longhaul-worker-toy: time of one step; 0: as the run says
  std::vector<std::string> data;   // files and folders that may hold the run's data
  std::shared_ptr<SiteHost> site;  // null: this process is the whole worker
};

std::string BackendName();  // "longhaul-worker"
// One line about what it trains on and with; an error when `device` cannot be had.
absl::StatusOr<std::string> DescribeBackend(const BackendOptions& options);
// Fills toy, load_data and make_trainer.
void UseBackend(const BackendOptions& options, WorkerService::Options& service);
// As another rank of a site (SiteFlags::join).
absl::Status RunMember(const BackendOptions& options, const SiteFlags& flags);
// `PROGRAM pcn-doctor ...`: argv[0] is the subcommand. Returns the exit code.
int RunPcnDoctor(int argc, char** argv);
// `PROGRAM pcn-stage ...`: the same.
int RunPcnStage(int argc, char** argv);

}  // namespace longhaul
