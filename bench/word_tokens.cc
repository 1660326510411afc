#include "bench/word_tokens.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace longhaul {
namespace {

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string_view FirstPiece(std::string_view text) {
  const size_t blank = text[0] == ' ' ? 1 : 0;
  size_t end = blank;
  while (end < text.size() && IsLetter(text[end])) ++end;
  return text.substr(0, end > blank ? end : 1);
}

}  // namespace

WordTokens MakeWordTokens(std::string_view text, size_t training_bytes, uint32_t vocab) {
  std::vector<std::string_view> pieces;
  WordTokens out;
  std::map<std::string_view, uint64_t> counts;
  for (size_t at = 0; at < text.size();) {
    pieces.push_back(FirstPiece(text.substr(at)));
    at += pieces.back().size();
    if (at > training_bytes) continue;
    ++counts[pieces.back()];
    out.training = pieces.size();
  }
  std::vector<std::pair<std::string_view, uint64_t>> ranked(counts.begin(), counts.end());
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::unordered_map<std::string_view, uint16_t> ids;
  for (size_t i = 0; i < ranked.size() && i + 1 < vocab; ++i) {
    ids[ranked[i].first] = static_cast<uint16_t>(i);
  }
  for (const std::string_view piece : pieces) {
    const auto it = ids.find(piece);
    out.ids.push_back(it == ids.end() ? static_cast<uint16_t>(vocab - 1) : it->second);
  }
  return out;
}

}  // namespace longhaul
