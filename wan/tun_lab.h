// A scenario's machines and network in tier `tun`: hosts with namespaces and devices, and the
// emulator between them. Only inside RunInLab (wan/emulate/namespaces.h), on its main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/emulate/emulator.h"
#include "wan/emulate/namespaces.h"
#include "wan/scenario.h"
#include "wan/schedule.h"

namespace longhaul::wan {

class TunLab {
 public:
  static absl::StatusOr<std::unique_ptr<TunLab>> Create(const Scenario& scenario);

  const LabHost& host(uint32_t node) const { return hosts_[node]; }
  void Apply(const Schedule::Step& step);
  void ResetLateness() { emulator_->ResetLateness(); }
  EmulatorReport report() const { return emulator_->report(); }

 private:
  explicit TunLab(const Scenario& scenario) : scenario_(scenario) {}
  const Scenario scenario_;
  std::vector<LabHost> hosts_;
  std::unique_ptr<Emulator> emulator_;
};

// "  europe  up 12.3 MB of ..." per node, drops, losses, and how late the emulator was itself.
std::string FormatNetwork(const Scenario& scenario, const EmulatorReport& report);

}  // namespace longhaul::wan
