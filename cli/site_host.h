// A worker of several ranks: how its processes find together (docs/SITES.md). Rank 0 is the worker;
// it starts the other ranks of its own machine, waits for those of other machines, and hands them
// the run's configuration.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/child_process.h"
#include "cli/config.h"
#include "proto/run_config.h"
#include "worker/site/gradient_trainer.h"
#include "worker/site/site_link.h"
#include "worker/trainer.h"

namespace longhaul {

struct SiteFlags {
  uint32_t ranks = 1;                  // of the whole site
  std::string hosts_file;              // "": all ranks are on this machine
  std::string listen = "127.0.0.1:0";  // where rank 0 waits for the others
  std::string key_file;                // of the site; "": a new one, for ranks of this machine only
  double join_seconds = 60;
  double deadline_seconds = 120;  // SiteOptions::deadline, and that of the group
  // The other ranks:
  uint32_t rank = 0;
  std::string join;  // rank 0's address; "" for rank 0
};

struct SiteHostLine {
  std::string host;
  uint32_t ranks = 0;
};
// "HOST RANKS" a line, # comments; the first host is rank 0's. InvalidArgument names the line.
absl::StatusOr<std::vector<SiteHostLine>> ParseSiteHosts(const std::string& text);

// Which device a rank has: "cuda" becomes "cuda:<its number on the machine>".
std::string DeviceOfRank(const std::string& device, uint32_t local_rank);

// Makes this process's trainer.
using MakeOwnTrainer = std::function<absl::StatusOr<std::unique_ptr<GradientTrainer>>(
    const RunConfig& config, uint64_t parameters)>;
// Makes the group of one rank from its second link; on GPUs NCCL's, else sockets.
using MakeGroup = std::function<absl::StatusOr<std::unique_ptr<DeviceGroup>>(
    std::unique_ptr<SiteLink> sums, Duration deadline)>;

class SiteHost {
 public:
  // Starts the ranks of this machine: `program` with `arguments` and what makes it a rank. Errors
  // name the flag.
  static absl::StatusOr<std::unique_ptr<SiteHost>> Start(
      const SiteFlags& flags, const std::string& program, std::vector<std::string> arguments,
      const std::string& device, const std::string& log_folder,
      std::function<void(const std::string&)> say);
  // The site's trainer, once all ranks have come. DeadlineExceeded names those that did not.
  absl::StatusOr<std::unique_ptr<Trainer>> Assemble(const RunConfig& config, uint64_t parameters,
                                                    std::unique_ptr<GradientTrainer> own,
                                                    const MakeGroup& make_group);

 private:
  SiteHost() = default;
  SitePlace place_;
  Duration deadline_{};
  std::unique_ptr<SiteListener> listener_;
  std::vector<std::unique_ptr<ChildProcess>> children_;
  std::function<void(const std::string&)> say_;
};

// Another rank's whole life. Ok when rank 0 says that the run is over.
absl::Status RunSiteMember(const SiteFlags& flags, const MakeOwnTrainer& make_trainer,
                           const MakeGroup& make_group);

}  // namespace longhaul
