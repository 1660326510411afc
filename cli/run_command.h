// What `longhaul coordinator` and `longhaul demo` share: from a checked configuration to a running
// coordinator that shows what happens.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/http.h"
#include "coordinator/service.h"
#include "proto/run_config.h"

namespace longhaul {

struct RunView {
  bool json_lines = false;  // one JSON object per round on stdout instead of the table
};

class CoordinatorRun {
 public:
  // Loads the data, resolves the model, opens the run folder, binds the ports.
  static absl::StatusOr<std::unique_ptr<CoordinatorRun>> Start(RunConfig config,
                                                               const std::string& resume_from,
                                                               Duration worker_wait,
                                                               const RunView& view);
  ~CoordinatorRun();

  CoordinatorService& service() { return *service_; }
  const RunConfig& config() const { return config_; }  // with model sizes and output_dir filled in
  std::string dashboard() const;                       // "" = none
  // As <run folder>/invitation, readable by the owner alone.
  absl::Status KeepInvitation(const std::string& invitation);
  // Called with every committed round, after it was shown.
  std::function<void(const RoundReport&)> on_round;

 private:
  CoordinatorRun() = default;
  void ShowRound(const RoundReport& report);

  RunConfig config_;
  RunView view_;
  std::unique_ptr<class EventWriter> events_;
  std::unique_ptr<CoordinatorService> service_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace longhaul
