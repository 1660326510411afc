#include "wan/sim/checkers/said_early.h"

namespace longhaul::sim {

void SaidEarly::OnSaid(const Message& message, const State& durable) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    if (welcome->session > durable.last_session)
      Complain("session " + std::to_string(welcome->session.value) +
               " was welcomed before it was durable");
    return;
  }
  const auto* assignment = std::get_if<Assignment>(&message);
  if (!assignment) return;
  for (const LeaseRange& l : assignment->leases) {
    if (l.fence > durable.last_fence)
      Complain("fence " + std::to_string(l.fence.value) + " was said before it was durable");
  }
  for (const FragmentState& f : assignment->current) {
    if (f.version > durable.fragment(f.fragment).version)
      Complain("version " + std::to_string(f.version.value) + " was said before it was durable");
  }
  for (const RoundView& r : assignment->rounds) {
    if (r.round > durable.last_round)
      Complain("round " + std::to_string(r.round.value) + " was said before it was durable");
  }
}

}  // namespace longhaul::sim
