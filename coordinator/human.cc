#include "coordinator/human.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace longhaul {
namespace {

std::string Digits(double value, int decimals) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return buffer.data();
}

// Three significant digits of a value below 1000.
std::string ThreeDigits(double value) {
  return Digits(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

// value = mantissa * 1000^power with the mantissa's three digits below 1000.
struct Scaled {
  double mantissa;
  size_t power;
};
Scaled Scale(double value, size_t max_power) {
  Scaled out{value, 0};
  while (out.power < max_power && out.mantissa >= 999.5) {
    out.mantissa /= 1000;
    ++out.power;
  }
  return out;
}

std::string TwoDigits(int64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); }

// Length of the valid UTF-8 sequence at `at`; 0 when there is none. Overlong forms pass: a terminal
// shows them as a replacement sign itself.
size_t Utf8Length(const std::string& text, size_t at) {
  const auto lead = static_cast<uint8_t>(text[at]);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xC2 && lead < 0xE0 ? 2
                        : lead >= 0xE0 && lead < 0xF0 ? 3
                        : lead >= 0xF0 && lead < 0xF5 ? 4
                                                      : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((static_cast<uint8_t>(text[at + k]) & 0xC0) != 0x80) return 0;
  }
  // U+0080 to U+009F are control characters too.
  if (lead == 0xC2 && static_cast<uint8_t>(text[at + 1]) < 0xA0) return 0;
  return length;
}

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {" B", " kB", " MB", " GB", " TB", " PB"};
  if (bytes < 1000) return std::to_string(bytes) + kUnits[0];
  const Scaled scaled = Scale(static_cast<double>(bytes), kUnits.size() - 1);
  return ThreeDigits(scaled.mantissa) + kUnits[scaled.power];
}

std::string HumanCount(uint64_t count) {
  static constexpr std::array<const char*, 5> kUnits = {"", "k", "M", "B", "T"};
  if (count < 1000) return std::to_string(count);
  const Scaled scaled = Scale(static_cast<double>(count), kUnits.size() - 1);
  return ThreeDigits(scaled.mantissa) + kUnits[scaled.power];
}

std::string HumanRate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "-";
  if (per_second < 999.5) return ThreeDigits(per_second);
  return HumanCount(static_cast<uint64_t>(std::min(per_second, 1e18)));
}

std::string HumanDuration(Duration time) {
  const double seconds = std::max(0.0, std::chrono::duration<double>(time).count());
  if (seconds < 9.95) return Digits(seconds, 1) + "s";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return std::to_string(whole) + "s";
  if (whole < 3600) return std::to_string(whole / 60) + "m" + TwoDigits(whole % 60) + "s";
  const int64_t hours = whole / 3600;
  if (hours < 48) return std::to_string(hours) + "h" + TwoDigits(whole % 3600 / 60) + "m";
  return std::to_string(hours / 24) + "d" + TwoDigits(hours % 24) + "h";
}

std::string HumanPercent(double percent) {
  return std::isfinite(percent) ? Digits(percent, 0) + "%" : "-";
}

std::string HumanLoss(double loss) {
  if (!std::isfinite(loss)) return "-";
  return Digits(loss, std::abs(loss) < 0.0995 ? 4 : 2);
}

std::string PrintableText(const std::string& text, bool one_line) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const size_t length = Utf8Length(text, i);
    if (text[i] == '\n' || text[i] == '\t') {
      out += one_line ? ' ' : text[i];
    } else if (length == 0 || byte < 0x20 || byte == 0x7F) {
      out += '?';
    } else {
      out.append(text, i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace longhaul
