// When the incidents of a scenario begin and end. Pure: the caller brings the time since the start
// of the run, and the states of rounds as they happen.
#pragma once

#include <optional>
#include <vector>

#include "wan/scenario.h"

namespace longhaul::wan {

class Schedule {
 public:
  struct Step {
    uint32_t incident = 0;  // index into the list
    bool begins = true;     // false: it is over (the link is up again, the program starts again)
  };

  explicit Schedule(const std::vector<Incident>& incidents);

  void OnState(Duration now, uint64_t round, RoundState state);
  std::vector<Step> Take(Duration now);  // what is due, in order of time
  std::optional<Duration> Next() const;  // when something will be

 private:
  struct Planned {
    Duration at{0};
    Step step;
  };
  void Plan(Duration at, uint32_t incident);

  std::vector<Incident> incidents_;
  std::vector<bool> begun_;
  std::vector<Planned> planned_;  // sorted by time
};

// Outages and rates: what the step does to the links. Kills are the caller's.
void ApplyToNetwork(const Scenario& scenario, const Schedule::Step& step, Network& network);
// "home2: outage for 5 s", for people.
std::string DescribeStep(const Scenario& scenario, const Schedule::Step& step);

}  // namespace longhaul::wan
