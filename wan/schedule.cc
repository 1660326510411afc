#include "wan/schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace longhaul::wan {
namespace {

uint64_t BitsPerSecond(double mbit) { return static_cast<uint64_t>(std::llround(mbit * 1e6)); }

}  // namespace

Schedule::Schedule(const std::vector<Incident>& incidents)
    : incidents_(incidents), begun_(incidents.size()) {
  for (uint32_t i = 0; i < incidents_.size(); ++i) {
    if (incidents_[i].trigger.at) Plan(*incidents_[i].trigger.at, i);
  }
}

void Schedule::Plan(Duration at, uint32_t incident) {
  begun_[incident] = true;
  planned_.push_back({at, {incident, true}});
  if (incidents_[incident].lasts) {
    planned_.push_back({at + *incidents_[incident].lasts, {incident, false}});
  }
  std::stable_sort(planned_.begin(), planned_.end(),
                   [](const Planned& a, const Planned& b) { return a.at < b.at; });
}

void Schedule::OnState(Duration now, uint64_t round, RoundState state) {
  for (uint32_t i = 0; i < incidents_.size(); ++i) {
    const Trigger& trigger = incidents_[i].trigger;
    if (!begun_[i] && !trigger.at && trigger.round == round && trigger.state == state) Plan(now, i);
  }
}

std::vector<Schedule::Step> Schedule::Take(Duration now) {
  std::vector<Step> out;
  auto end = planned_.begin();
  for (; end != planned_.end() && end->at <= now; ++end) out.push_back(end->step);
  planned_.erase(planned_.begin(), end);
  return out;
}

std::optional<Duration> Schedule::Next() const {
  if (planned_.empty()) return std::nullopt;
  return planned_.front().at;
}

void ApplyToNetwork(const Scenario& scenario, const Schedule::Step& step, Network& network) {
  const Incident& incident = scenario.incidents[step.incident];
  if (incident.action == Action::kKill) return;
  Link& up =
      incident.at_bottleneck ? network.outward(incident.target) : network.up(incident.target);
  Link& down =
      incident.at_bottleneck ? network.inward(incident.target) : network.down(incident.target);
  if (incident.action == Action::kOutage) {
    up.SetDown(step.begins);
    down.SetDown(step.begins);
    return;
  }
  const AccessLink& access = scenario.nodes[incident.at_bottleneck ? 0 : incident.target].access;
  const double usual = incident.at_bottleneck ? scenario.bottlenecks[incident.target].rate_mbit : 0;
  const auto rate = [&](double wanted, double usual_mbit) {
    return BitsPerSecond(step.begins && wanted > 0 ? wanted : usual_mbit);
  };
  if (incident.up_mbit > 0) {
    up.SetRate(rate(incident.up_mbit, incident.at_bottleneck ? usual : access.up_mbit));
  }
  if (incident.down_mbit > 0) {
    down.SetRate(rate(incident.down_mbit, incident.at_bottleneck ? usual : access.down_mbit));
  }
}

std::string DescribeStep(const Scenario& scenario, const Schedule::Step& step) {
  const Incident& incident = scenario.incidents[step.incident];
  const std::string name = incident.at_bottleneck ? scenario.bottlenecks[incident.target].name
                                                  : scenario.nodes[incident.target].name;
  const char* what = "";
  switch (incident.action) {
    case Action::kOutage:
      what = step.begins ? "link is down" : "link is up again";
      break;
    case Action::kRate:
      what = step.begins ? "link has another rate" : "link has its rate again";
      break;
    case Action::kKill:
      what = step.begins ? "killed with -9" : "starts again";
      break;
  }
  return absl::StrCat(name, ": ", what);
}

}  // namespace longhaul::wan
