// A scenario file: who is there, how they are connected, what goes wrong and when, and what must
// hold in the end. TOML; docs/WAN_LAB.md describes every key. Plain values; parsing is pure but for
// LoadScenario, which reads one file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "wan/emulate/namespaces.h"
#include "wan/emulate/network.h"

namespace longhaul::wan {

// How a machine reaches the core. Rates of IP packets; `round_trip` is its share: to the core and
// back. A round trip between two nodes is the sum of both shares.
struct AccessLink {
  double up_mbit = 1000;
  double down_mbit = 1000;
  Duration round_trip = Milliseconds(1);
  Duration jitter{0};                  // each way
  double loss_percent = 0;             // each way
  double loss_burst = 1;               // mean length of a run of lost packets
  Duration queue = Milliseconds(100);  // each way
  bool half_duplex = false;
};

struct Node {
  std::string name;
  std::string preset;  // "" = none
  AccessLink access;
  HostKernel kernel = HostKernel::kTuned;
  std::optional<uint32_t> step_ms;  // of one inner step; otherwise the run's
};

// What all traffic between its nodes and everybody else passes: an office's line, an ocean's cable.
struct Bottleneck {
  std::string name;
  std::vector<uint32_t> nodes;  // indices
  double rate_mbit = 1000;      // each way
  AccessLink link;              // its rates are rate_mbit
};

// When a round reaches a state, as the coordinator decides it.
enum class RoundState { kOpened, kOffered, kHeld, kClosed, kCommitted };

struct Trigger {
  std::optional<Duration> at;  // since the start of the run; or
  uint64_t round = 0;
  RoundState state = RoundState::kOpened;
};

enum class Action {
  kOutage,  // a link is down for a while
  kRate,    // a link's rates change, for a while or for good
  kKill,    // kill -9 of the node's program
};

struct Incident {
  Trigger trigger;
  Action action = Action::kOutage;
  bool at_bottleneck = false;
  uint32_t target = 0;            // node or bottleneck
  std::optional<Duration> lasts;  // kOutage, kRate; kKill: the program starts again after it
  double up_mbit = 0;             // kRate
  double down_mbit = 0;
};

enum class Comparison { kLess, kAtMost, kGreater, kAtLeast, kEqual };

// "final_loss < 4.2"
struct Assertion {
  std::string metric;
  Comparison comparison = Comparison::kEqual;
  double bound = 0;
  std::string text;   // as written
  std::string place;  // "file.toml:12"

  bool HoldsFor(double value) const;  // never for NaN
};

// Names that an assertion may use, with one line of help each.
struct Metric {
  const char* name;
  const char* help;
  bool packets = false;  // needs a tier that emulates packets: tun
};
const std::vector<Metric>& Metrics();
const Metric* FindMetric(std::string_view name);  // or null

struct Scenario {
  std::string file;  // for messages
  std::string description;
  uint64_t seed = 1;
  Duration time_limit = Seconds(300);
  std::vector<Node> nodes;
  std::vector<Bottleneck> bottlenecks;
  std::vector<Incident> incidents;
  std::vector<Assertion> assertions;
  uint32_t coordinator = 0;  // the node that runs it; the others are workers
  std::vector<std::pair<std::string, std::string>>
      run_config;  // keys of run.toml: section.key, value

  bool Configures(std::string_view key) const;  // in run_config
  std::optional<uint32_t> FindNode(std::string_view name) const;
  // Access links and bottlenecks for the emulator.
  std::vector<HostShape> HostShapes() const;
  std::vector<BottleneckShape> BottleneckShapes() const;
};

inline constexpr size_t kMaxScenarioBytes = 1024 * 1024;

// InvalidArgument lists every mistake, one line each: file, line, what is wrong, nearest valid
// name.
absl::StatusOr<Scenario> ParseScenario(std::string_view toml, const std::string& file);
// The same for a file. NotFound when it cannot be read.
absl::StatusOr<Scenario> LoadScenario(const std::string& path);

// home-dsl, cable, ...: what `preset` may be.
struct Preset {
  const char* name;
  AccessLink access;
};
const std::vector<Preset>& Presets();

}  // namespace longhaul::wan
