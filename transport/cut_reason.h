// Why a server cut a connection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace longhaul {

enum class CutReason : uint8_t {
  kTooMany,         // connections
  kSilent,          // too many that had not delivered a message
  kEndlessMessage,  // bytes without a complete message
  kCreditOverrun,   // payload beyond what was granted
};
inline constexpr size_t kCutReasons = 4;

using CutCounts = std::array<uint64_t, kCutReasons>;

}  // namespace longhaul
