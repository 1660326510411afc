// How much of a healthy run's speed is left when workers fail all the time: one simulated run
// without faults, and one in which a share of the workers is killed in every round and comes back
// after some seconds, as new processes.
#pragma once

#include <cstdint>

#include "wan/sim/world.h"

namespace longhaul::sim {

struct GoodputOptions {
  uint32_t workers = 20;
  uint32_t failing_per_mille = 50;  // of the workers, in every round
  uint32_t rounds = 100;            // so long, about
  uint64_t seed = 1;
};

struct Goodput {
  double healthy_tokens_per_s = 0;  // committed, of simulated time
  double failing_tokens_per_s = 0;
  uint64_t kills = 0;
  WorldResult healthy;
  WorldResult failing;
  double ratio() const { return failing_tokens_per_s / healthy_tokens_per_s; }
};

// Two worlds, one after the other, in this process.
Goodput MeasureGoodput(const GoodputOptions& options);

}  // namespace longhaul::sim
