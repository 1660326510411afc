// Where to cut a chain of layers into blocks, given what each stage's machine can do.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace longhaul::pcn {

struct LayerCost {
  double work = 0;     // per micro-batch, any unit
  uint64_t bytes = 0;  // of parameters, gradient and optimizer state
};
struct StageMachine {
  double speed = 1;  // work per unit of time, above 0
  uint64_t memory_bytes = UINT64_MAX;
};

// The first layer of each stage's block: every stage gets at least one layer and fits its memory,
// and the slowest stage is as fast as it can be. None when there is no such cut.
std::optional<std::vector<size_t>> CutChain(std::span<const LayerCost> layers,
                                            std::span<const StageMachine> stages);

}  // namespace longhaul::pcn
