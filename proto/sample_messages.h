// One envelope of every kind with a non-default value in every field. For tests and fuzzing seeds.
#pragma once

#include <vector>

#include "proto/messages.h"

namespace longhaul {

RunConfig SampleRunConfig();
std::vector<Envelope> SampleEnvelopes();

}  // namespace longhaul
