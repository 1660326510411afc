// Nothing is said before it is durable: every session, lease, round and commit that a message
// names is in the records that the journal has acknowledged.
#pragma once

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class SaidEarly : public Watcher {
 public:
  const char* name() const override { return "said early"; }
  void OnSaid(const Message& message, const State& durable) override;
};

}  // namespace longhaul::sim
