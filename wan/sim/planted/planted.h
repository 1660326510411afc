// Which of the bugs of bugs.txt is switched on. Only longhaul-fuzz-planted has this, in the copies
// of sources that plant.py makes for it; the product has no such switch.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace longhaul::sim {

inline constexpr size_t kNoBug = SIZE_MAX;

// In the order of bugs.txt; a bug is named by its place there.
const std::vector<std::string>& PlantedNames();
// From now on, in this process and those it starts.
void Plant(size_t bug);
bool Planted(size_t bug);

}  // namespace longhaul::sim
