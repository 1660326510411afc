// JSON from files that somebody else may have written: no exceptions, no duplicate keys, a bound on
// depth and size.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace longhaul {

inline constexpr int kMaxJsonDepth = 32;

// InvalidArgument, starting with `what`, for text that is not one JSON
// object, for a key given twice, and for nesting deeper than kMaxJsonDepth.
absl::StatusOr<nlohmann::json> ParseStrictJson(const std::string& text, const std::string& what);

// The value of a key that must be there and hold the right kind; InvalidArgument names the key.
absl::StatusOr<uint64_t> JsonUnsigned(const nlohmann::json& object, const char* key, uint64_t max);
absl::StatusOr<double> JsonNumber(const nlohmann::json& object, const char* key);
absl::StatusOr<std::string> JsonString(const nlohmann::json& object, const char* key);

}  // namespace longhaul
