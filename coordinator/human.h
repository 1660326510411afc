// Numbers as people read them. Pure. Decimal units (1 kB = 1000 bytes), three significant digits.
#pragma once

#include <cstdint>
#include <string>

#include "common/time.h"

namespace longhaul {

std::string HumanBytes(uint64_t bytes);  // "0 B", "999 B", "1.30 MB", "16.4 GB"
std::string HumanCount(uint64_t count);  // "999", "164k", "4.92M"
std::string HumanRate(
    double per_second);  // like HumanCount, "0.53" below 10; "-" when not finite or negative
std::string HumanDuration(Duration time);  // "0.8s", "1.9s", "42s", "3m10s", "2h05m", "3d04h"
std::string HumanPercent(double percent);  // "71%"; "-" when not finite
// "5.41"; "-" when not finite. Never more than 7 characters for |loss| < 1000.
std::string HumanLoss(double loss);
// Text of unknown origin for a terminal or a log: control characters and bytes that are not UTF-8
// become '?', line ends become spaces when `one_line`.
std::string PrintableText(const std::string& text, bool one_line);

}  // namespace longhaul
