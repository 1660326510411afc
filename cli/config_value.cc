// One value: its rule, its text, its place in the struct.
#include <algorithm>

#include "cli/config.h"
#include "cli/suggest.h"
#include "cli/toml_text.h"

namespace longhaul {
namespace {

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

bool IsPlainName(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= 64 && text[0] != '.' && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), plain);
}

bool Accepts(const ValueRule& rule, const ConfigValue& value) {
  const auto* number = std::get_if<int64_t>(&value);
  const auto* text = std::get_if<std::string>(&value);
  return std::visit(Overloaded{[&](const AnyBool&) { return std::holds_alternative<bool>(value); },
                               [&](const WholeNumber& r) {
                                 return number && *number >= 0 &&
                                        static_cast<uint64_t>(*number) >= r.min &&
                                        static_cast<uint64_t>(*number) <= r.max;
                               },
                               [&](const RealNumber& r) {
                                 const auto* real = std::get_if<double>(&value);
                                 if (!real) return false;
                                 return (r.above_min ? *real > r.min : *real >= r.min) &&
                                        *real <= r.max;  // NaN: false
                               },
                               [&](const OneOf& r) {
                                 return text && std::find(r.choices.begin(), r.choices.end(),
                                                          *text) != r.choices.end();
                               },
                               [&](const AnyText& r) {
                                 return text && text->size() <= r.max_bytes && IsTomlText(*text);
                               },
                               [&](const PlainName&) { return text && IsPlainName(*text); }},
                    rule);
}

std::string JoinChoices(const std::vector<std::string>& choices) {
  if (choices.size() == 1) return "\"" + choices[0] + "\" (the only choice so far)";
  std::string out = "one of ";
  for (size_t i = 0; i < choices.size(); ++i) out += (i ? ", " : "") + choices[i];
  return out;
}

}  // namespace

std::string ConfigKey::EnvironmentName() const {
  std::string out = "LONGHAUL_" + section + "_" + name;
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

const ConfigKey* FindConfigKey(std::string_view section, std::string_view name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.section == section && key.name == name) return &key;
  }
  return nullptr;
}

std::string DescribeRule(const ValueRule& rule) {
  return std::visit(Overloaded{[](const AnyBool&) -> std::string { return "true or false"; },
                               [](const WholeNumber& r) {
                                 return "a whole number from " + std::to_string(r.min) + " to " +
                                        std::to_string(r.max);
                               },
                               [](const RealNumber& r) {
                                 return (r.above_min
                                             ? "a number above " + ShortReal(r.min) + ", at most "
                                             : "a number from " + ShortReal(r.min) + " to ") +
                                        ShortReal(r.max);
                               },
                               [](const OneOf& r) { return JoinChoices(r.choices); },
                               [](const AnyText& r) {
                                 return "text of at most " + std::to_string(r.max_bytes) + " bytes";
                               },
                               [](const PlainName&) -> std::string {
                                 return "a name of at most 64 letters, digits, '.', '_', '-'";
                               }},
                    rule);
}

std::string ValueProblem(const ConfigKey& key, const ConfigValue& value) {
  if (Accepts(key.rule, value)) return "";
  std::string problem = "must be " + DescribeRule(key.rule);
  const auto* text = std::get_if<std::string>(&value);
  const auto* one_of = std::get_if<OneOf>(&key.rule);
  if (text && one_of) problem += DidYouMean(*text, one_of->choices);
  return problem;
}

std::string ValueToToml(const ConfigValue& value) {
  return std::visit(
      Overloaded{[](bool v) -> std::string { return v ? "true" : "false"; },
                 [](int64_t v) { return std::to_string(v); }, [](double v) { return TomlReal(v); },
                 [](const std::string& v) { return TomlString(v); }},
      value);
}

ConfigValue GetConfigValue(const ConfigKey& key, const RunConfig& config) {
  // The accessors only form a pointer; nothing is written through it here.
  const FieldRef field = key.field(const_cast<RunConfig&>(config));
  return std::visit(Overloaded{[](bool* v) -> ConfigValue { return *v; },
                               [](uint32_t* v) -> ConfigValue { return int64_t{*v}; },
                               [](uint64_t* v) -> ConfigValue { return static_cast<int64_t>(*v); },
                               [](double* v) -> ConfigValue { return *v; },
                               [](std::string* v) -> ConfigValue { return *v; }},
                    field);
}

void SetConfigValue(const ConfigKey& key, const ConfigValue& value, RunConfig& config) {
  std::visit(Overloaded{[&](bool* v) { *v = std::get<bool>(value); },
                        [&](uint32_t* v) { *v = static_cast<uint32_t>(std::get<int64_t>(value)); },
                        [&](uint64_t* v) { *v = static_cast<uint64_t>(std::get<int64_t>(value)); },
                        [&](double* v) { *v = std::get<double>(value); },
                        [&](std::string* v) { *v = std::get<std::string>(value); }},
             key.field(config));
}

std::string PlaceAndValue(const ConfigKey& key, const ConfigValue& value,
                          const ConfigOrigins& origins) {
  const auto origin = origins.find(key.FullName());
  const std::string place = origin == origins.end() ? "" : origin->second + ": ";
  return place + key.FullName() + " = " + ValueToToml(value);
}

}  // namespace longhaul
