// longhaul-worker pcn-stage: one block of a Relay run.
#include <CLI/CLI.hpp>

#include "cli/exit_codes.h"
#include "cli/invitation_text.h"
#include "cli/run_inputs.h"
#include "cli/signals.h"
#include "cli/worker_backend.h"
#include "common/log.h"
#include "worker/train/relay_stage.h"

namespace longhaul {

int RunPcnStage(int argc, char** argv) {
  RelayStageOptions options;
  std::string invitation;
  double memory_gb = 0;
  bool verbose = false;
  CLI::App app("Hold one block of a network that is cut over machines.",
               "longhaul-worker pcn-stage");
  app.add_option("invitation", invitation, "LH1-..., or @FILE that holds it")->required();
  app.add_option("--listen", options.listen, "address:port for the stage below")
      ->capture_default_str();
  app.add_option("--images", options.images, "folder with IDX digits");
  app.add_option("--output", options.output, "folder for the block's parameters at the end");
  app.add_option("--speed", options.speed, "relative to other stages (measured)");
  app.add_option("--memory", memory_gb, "that may be used, GB (all)");
  app.add_option("--give-up", options.give_up_s, "seconds to try to join; 0 = for ever")
      ->capture_default_str();
  app.add_flag("-v,--verbose", verbose, "log everything");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  StartLogging(verbose ? LogLevel::kDebug : LogLevel::kInfo, "pcn-stage", "");
  const absl::StatusOr<Invitation> read = ReadInvitation(invitation);
  absl::Status status = read.status();
  if (status.ok()) {
    options.invitation = *read;
    if (memory_gb > 0) options.memory_bytes = static_cast<uint64_t>(memory_gb * 1e9);
    options.make_layout = LayoutOf;
    options.make_tensors = TensorsOf;
    status = RunRelayStage(options, StopCount());
  }
  if (status.ok()) return kExitOk;
  LogError(std::string(status.message()));
  return absl::IsNotFound(status) ? kExitData : ExitCodeFor(status);
}

}  // namespace longhaul
