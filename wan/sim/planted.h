// Bugs that can be put into a simulated world on purpose, to see whether the checkers find them.
// Production code knows nothing of this: the simulator's shells and wrappers commit the bugs.
#pragma once

#include <cstdint>

namespace longhaul::sim {

enum class PlantedBug : uint8_t {
  kNone,
  kAcknowledgeBeforeSync,
};

}  // namespace longhaul::sim
