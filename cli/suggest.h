// "Did you mean ...?": the name nearest to a mistyped one. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace longhaul {

// Number of single-character insertions, deletions, replacements and swaps of neighbours that turn
// `a` into `b` (optimal string alignment distance; letters compare without case). Cost
// O(|a| * |b|): meant for names.
size_t EditDistance(std::string_view a, std::string_view b);

// The candidate with the smallest distance to `name` (the first one of equals), or "" when every
// candidate differs by more than a third of the longer name, and by more than one character.
std::string NearestName(std::string_view name, std::span<const std::string> candidates);

// "; did you mean "x"?" or "".
std::string DidYouMean(std::string_view name, std::span<const std::string> candidates);

}  // namespace longhaul
