// A trainer whose every move is known beforehand: the sample at position p adds +kMove or -kMove to
// kMovesPerPosition elements of each fragment that depend on (seed, p, fragment) alone, whatever θ
// is. So a
// pseudo-gradient is a sum over positions, and one can tell from its values which positions are in
// it, and how often: the simulator's provenance checker does (checkers/provenance.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "common/ids.h"
#include "sync/fragments.h"
#include "worker/trainer.h"

namespace longhaul::sim {

inline constexpr float kMove = 0x1p-9f;
inline constexpr int kMovesPerPosition = 6;

struct Move {
  uint64_t element = 0;
  float change = 0;
};
// In one fragment of `elements` elements, in the fragment's own numbering.
std::array<Move, kMovesPerPosition> MovesOf(uint64_t seed, uint64_t position, FragmentId fragment,
                                            uint64_t elements);

std::unique_ptr<Trainer> MakeClosedFormTrainer(uint64_t seed, std::vector<FragmentLayout> layout);

}  // namespace longhaul::sim
