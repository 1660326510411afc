// Inside of sections: what their encoder and decoder share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compression/section.h"

namespace longhaul {

inline constexpr uint8_t kModeMask = 7, kRowsFlag = 8;
LONGHAUL_SHARED constexpr uint8_t HeadByte(SectionMode mode, bool some_rows) {
  return static_cast<uint8_t>(static_cast<uint8_t>(mode) | (some_rows ? kRowsFlag : 0));
}

inline void Append(std::span<const uint8_t> bytes, std::vector<uint8_t>& out) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace longhaul
