#include "data/splitter.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <string>
#include <utility>

namespace longhaul {
namespace {

constexpr uint32_t kCodePoints = 0x110000;
constexpr uint32_t kLongS = 0x17F;  // the same letter as s when case does not matter

bool IsLineEnd(uint32_t code) { return code == '\n' || code == '\r'; }

uint32_t LowerAscii(uint32_t code) {
  if (code == kLongS) return 's';
  return code >= 'A' && code <= 'Z' ? code + 32 : code;
}

}  // namespace

std::optional<SplitRule> SplitRuleOf(std::string_view expression) {
  constexpr std::string_view kContractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|)";
  constexpr std::string_view kLetters = R"([^\r\n\p{L}\p{N}]?\p{L}+|)";
  constexpr std::string_view kRest = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string words = std::string(kContractions) + std::string(kLetters);
  const std::pair<std::string, SplitRule> rules[] = {
      {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
       SplitRule::kGpt2},
      {words + R"(\p{N}{1,3})" + std::string(kRest), SplitRule::kLlama3},
      {words + R"(\p{N})" + std::string(kRest), SplitRule::kQwen2},
  };
  for (const auto& [text, rule] : rules) {
    if (expression == text) return rule;
  }
  return std::nullopt;
}

Splitter::Splitter(SplitRule rule) : rule_(rule) {
  auto classes = std::make_shared<std::vector<Class>>(kCodePoints, kOther);
  for (uint32_t code = 0; code < kCodePoints; ++code) {
    const uint32_t category = U_GET_GC_MASK(static_cast<UChar32>(code));
    if (category & U_GC_L_MASK) (*classes)[code] = kLetter;
    if (category & U_GC_N_MASK) (*classes)[code] = kNumber;
    if (u_isUWhiteSpace(static_cast<UChar32>(code))) (*classes)[code] = kSpace;
  }
  std::copy_n(classes->begin(), ascii_.size(), ascii_.begin());
  classes_ = std::move(classes);
}

Splitter::Char Splitter::At(std::string_view text, size_t at) const {
  if (at >= text.size()) return {};
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  const uint32_t first = byte(at);
  if (first < 0x80) return {first, 1, ascii_[first]};
  Char c{.code = first, .bytes = 1};
  if (first >= 0xF0) {
    c = {(first & 7) << 18 | (byte(at + 1) & 63) << 12 | (byte(at + 2) & 63) << 6 |
             (byte(at + 3) & 63),
         4};
  } else if (first >= 0xE0) {
    c = {(first & 15) << 12 | (byte(at + 1) & 63) << 6 | (byte(at + 2) & 63), 3};
  } else if (first >= 0xC0) {
    c = {(first & 31) << 6 | (byte(at + 1) & 63), 2};
  }
  c.kind = c.code < kCodePoints ? (*classes_)[c.code] : kOther;  // SafeCut sees any bytes
  return c;
}

Splitter::Char Splitter::Before(std::string_view text, size_t at) const {
  if (at == 0) return {};
  size_t start = at - 1;
  while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
  return At(text, start);
}

size_t Splitter::RunEnd(std::string_view text, size_t at, Class kind) const {
  while (true) {
    while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) {
      if (ascii_[static_cast<uint8_t>(text[at])] != kind) return at;
      ++at;
    }
    const Char c = At(text, at);
    if (c.bytes == 0 || c.kind != kind) return at;
    at += c.bytes;
  }
}

size_t Splitter::Contraction(std::string_view text, size_t at) const {
  if (text[at] != '\'') return 0;
  const bool any_case = rule_ != SplitRule::kGpt2;
  const auto letter = [&](const Char& c) { return any_case ? LowerAscii(c.code) : c.code; };
  const Char a = At(text, at + 1);
  if (a.bytes == 0) return 0;
  const uint32_t first = letter(a);
  const size_t end = at + 1 + a.bytes;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return end;
  const Char b = At(text, end);
  if (b.bytes == 0) return 0;
  const uint32_t second = letter(b);
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? end + b.bytes : 0;
}

// \s+(?!\S)|\s+ : all of the run at the end of the text, else all but its last character, which
// belongs to the word that follows; a run of one stays.
size_t Splitter::SpacesEnd(std::string_view text, size_t at) const {
  const size_t end = RunEnd(text, at, kSpace);
  if (end == text.size()) return end;
  const size_t last = end - Before(text, end).bytes;
  return last > at ? last : end;
}

size_t Splitter::Gpt2End(std::string_view text, size_t at) const {
  if (const size_t end = Contraction(text, at)) return end;
  const size_t word = text[at] == ' ' ? at + 1 : at;
  const Char c = At(text, word);
  if (c.bytes == 0 || c.kind == kSpace) return SpacesEnd(text, at);
  return RunEnd(text, word, c.kind);
}

size_t Splitter::LlamaEnd(std::string_view text, size_t at) const {
  if (const size_t end = Contraction(text, at)) return end;
  const Char c = At(text, at);
  if (c.kind == kLetter) return RunEnd(text, at, kLetter);
  const Char next = At(text, at + c.bytes);
  if (c.kind != kNumber && !IsLineEnd(c.code) && next.bytes && next.kind == kLetter) {
    return RunEnd(text, at + c.bytes, kLetter);
  }
  if (c.kind == kNumber) {
    size_t end = at + c.bytes;
    for (int more = rule_ == SplitRule::kLlama3 ? 2 : 0; more > 0; --more) {
      const Char digit = At(text, end);
      if (digit.bytes && digit.kind == kNumber) end += digit.bytes;
    }
    return end;
  }
  const size_t word = text[at] == ' ' ? at + 1 : at;
  if (const Char mark = At(text, word); mark.bytes && mark.kind == kOther) {
    size_t end = RunEnd(text, word, kOther);
    while (end < text.size() && IsLineEnd(static_cast<uint8_t>(text[end]))) ++end;
    return end;
  }
  // \s*[\r\n]+ : up to the last line end of the run of spaces.
  const size_t end = RunEnd(text, at, kSpace);
  for (size_t i = end; i > at; --i) {
    if (IsLineEnd(static_cast<uint8_t>(text[i - 1]))) return i;
  }
  return SpacesEnd(text, at);
}

size_t Splitter::WordEnd(std::string_view text, size_t at) const {
  return rule_ == SplitRule::kGpt2 ? Gpt2End(text, at) : LlamaEnd(text, at);
}

// No word of any rule has a space (U+0020) after something that is not white space.
bool Splitter::CutBeforeSpace(std::string_view text, size_t at) const {
  return text[at] == ' ' && Before(text, at).bytes && Before(text, at).kind != kSpace;
}

// A single line end between two characters that are not white space ends a word in every rule, and
// is never joined to what follows.
bool Splitter::CutAfterLine(std::string_view text, size_t at) const {
  if (text[at - 1] != '\n' || (text[at] & 0xC0) == 0x80) return false;
  const Char before = Before(text, at - 1);
  return before.bytes && before.kind != kSpace && At(text, at).kind != kSpace;
}

size_t Splitter::SafeCut(std::string_view text) const {
  // The last character may be incomplete: stay away from it.
  constexpr size_t kLongestChar = 4;
  if (text.size() <= kLongestChar) return 0;
  const size_t from = text.size() - kLongestChar;
  const size_t to = text.size() - std::min(text.size(), kCutWindow);
  for (size_t at = from; at > to; --at) {
    if (CutBeforeSpace(text, at) || CutAfterLine(text, at)) return at;
  }
  return 0;
}

}  // namespace longhaul
