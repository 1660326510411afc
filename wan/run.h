// One real run in an emulated network: the coordinator and its workers as processes on their nodes,
// incidents as the scenario plans them, and what came of it as numbers.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/emulate/emulator.h"
#include "wan/emulate/host_process.h"
#include "wan/scenario.h"
#include "wan/schedule.h"

namespace longhaul::wan {

enum class Tier { kSim, kRelay, kTun };
const char* TierName(Tier tier);

// The machines and the network of a tier. Used by one thread.
class RunWorld {
 public:
  virtual ~RunWorld() = default;
  // Where the coordinator must listen (network.listen).
  virtual std::string ListenAddress() const = 0;
  // The coordinator's invitation as the node must see it. The first call may make the way to it.
  virtual absl::StatusOr<std::string> InvitationFor(uint32_t node,
                                                    const std::string& invitation) = 0;
  virtual absl::StatusOr<std::unique_ptr<HostProcess>> Start(uint32_t node,
                                                             const HostCommand& command) = 0;
  virtual void Apply(const Schedule::Step& step) = 0;
  virtual void ResetLateness() = 0;
  virtual EmulatorReport report() const = 0;
  virtual bool EmulatesPackets() const = 0;
};

// tun: only inside RunInLab. relay: anywhere.
absl::StatusOr<std::unique_ptr<RunWorld>> MakeWorld(Tier tier, const Scenario& scenario);

struct RunOptions {
  std::string program_folder;  // where longhaul and the workers are
  std::string work_folder;     // exists; logs, identities and the run folder go there
  std::function<void(const std::string&)> say;  // what happens, a line each
};

struct RunOutcome {
  struct Check {
    Assertion assertion;
    double value = 0;  // NaN: this run has no such number
    bool holds = false;
    bool skipped = false;  // about packets, which this tier does not emulate
  };
  bool finished = false;  // the coordinator ended by itself, with success
  std::string problem;    // why not
  std::map<std::string, double> metrics;
  std::vector<Check> checks;
  EmulatorReport network;
  double elapsed_s = 0;
  bool valid() const { return network.valid(); }
  bool passed() const;  // finished, and every assertion that was not skipped holds
};

// Starts everything, follows the schedule, stops everything. Returns early when `stop` is set
// (Cancelled). An error status: a program could not be started.
absl::StatusOr<RunOutcome> RunScenario(const Scenario& scenario, RunWorld& world,
                                       const RunOptions& options, const std::atomic<int>& stop);

// ---- shared by the tiers ----

// What the scenario asks of run.toml, as section.key=value; the scenario's own keys come last.
std::vector<std::string> RunSettings(const Scenario& scenario);
// Adds the percentiles of times between commits and of exchanges.
void MeasureRounds(const std::vector<double>& round_s, const std::vector<double>& sync_s,
                   std::map<std::string, double>& metrics);
// Adds the busiest uplink's share of `seconds`, given the counters when they began.
void MeasureUplinks(const Scenario& scenario, const std::vector<LinkCounters>& before,
                    const std::vector<LinkCounters>& after, double seconds,
                    std::map<std::string, double>& metrics);
// Adds the rate of committed tokens over `seconds`, against that of all machines training alone.
void MeasureSolo(const Scenario& scenario, double seconds, std::map<std::string, double>& metrics);
// `skips`: what this tier does not measure, though another one would.
std::vector<RunOutcome::Check> CheckAssertions(const Scenario& scenario,
                                               const std::map<std::string, double>& metrics,
                                               const std::function<bool(const Metric&)>& skips);

// The p-th percentile (0 to 100) by the nearest rank; NaN for none.
double Percentile(std::vector<double> values, double p);

// ---- pure halves, for tests ----

// What a line of the coordinator's decision log says about a round, if anything.
struct RoundEvent {
  uint64_t round = 0;
  RoundState state = RoundState::kOpened;
};
// `open_round`: the round of the last kOpened, for decisions about contributions.
std::optional<RoundEvent> RoundEventIn(const std::string& line, uint64_t open_round);

}  // namespace longhaul::wan
