// The coverage of a run as text. Pure; owned by one thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "coordinator/http_status.h"

namespace longhaul {

// `width` characters, each part's in proportion to its count, in order. What is there is seen: a
// part that is not 0 has at least one character, as far as there are enough. Empty when all are 0.
std::string Bar(const std::vector<std::pair<char, uint64_t>>& parts, size_t width);

// A row per fragment, then the quarantined ranges with the workers that failed there.
std::string CoverageText(const CoverageView& coverage);

}  // namespace longhaul
