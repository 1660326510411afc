// What a broken or lying member may say: every falsification here is one that must be refused, or
// must make no difference.
#pragma once

#include <string>

#include "proto/messages.h"
#include "wan/sim/faults.h"

namespace longhaul::sim {

// Wrong generation, session, round, fence, size, order, base, or a loss that is no number.
void Falsify(Envelope& envelope, Faults& faults);
// Content other than announced, with a checksum that fits.
void FalsifyChunk(std::string& payload, Faults& faults);

}  // namespace longhaul::sim
