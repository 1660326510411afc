#include "model/strict_json.h"

#include <cmath>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace longhaul {
namespace {

using Json = nlohmann::json;

absl::Status KeyError(const char* key, const char* problem) {
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" ", problem));
}

}  // namespace

absl::StatusOr<Json> ParseStrictJson(const std::string& text, const std::string& what) {
  std::vector<std::set<std::string>> keys;  // of every object that is open, outermost first
  bool duplicate = false;
  bool too_deep = false;
  auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxJsonDepth) too_deep = true;
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty()) {
      duplicate |= !keys.back().insert(value.get<std::string>()).second;
    }
    return !too_deep;  // false drops the value, so that a deep file costs no memory
  };
  Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError(what + ": JSON is nested too deeply");
  if (json.is_discarded()) return absl::InvalidArgumentError(what + ": not valid JSON");
  if (duplicate) return absl::InvalidArgumentError(what + ": a key occurs twice");
  if (!json.is_object()) return absl::InvalidArgumentError(what + ": not a JSON object");
  return json;
}

absl::StatusOr<uint64_t> JsonUnsigned(const Json& object, const char* key, uint64_t max) {
  auto it = object.find(key);
  if (it == object.end()) return KeyError(key, "is missing");
  if (!it->is_number_unsigned()) return KeyError(key, "is not a whole number");
  const uint64_t value = it->get<uint64_t>();
  if (value > max) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\" is ", value, ", at most ", max, " is possible"));
  }
  return value;
}

absl::StatusOr<double> JsonNumber(const Json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end()) return KeyError(key, "is missing");
  if (!it->is_number()) return KeyError(key, "is not a number");
  const double value = it->get<double>();
  if (!std::isfinite(value)) return KeyError(key, "is not finite");
  return value;
}

absl::StatusOr<std::string> JsonString(const Json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end()) return KeyError(key, "is missing");
  if (!it->is_string()) return KeyError(key, "is not a text");
  return it->get<std::string>();
}

}  // namespace longhaul
