// run.toml -> RunConfig. One table (ConfigKeys) describes every key once; parsing, range checks,
// printing, the starting template, environment names and help all come from it.
//
// A value is taken from the last of: default, preset (sync.preset, cli/presets.h), file,
// environment (LONGHAUL_SECTION_KEY), --set section.key=value. Pure but for LoadRunConfig, which
// reads one file. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/run_config.h"

namespace longhaul {

// ---- the table ----

using FieldRef = std::variant<bool*, uint32_t*, uint64_t*, double*, std::string*>;

// What a key accepts. Bounds are inclusive unless said otherwise.
struct AnyBool {};
struct WholeNumber {
  uint64_t min = 0;
  uint64_t max = 0;
};
struct RealNumber {
  double min = 0;
  double max = 0;
  bool above_min = false;  // min itself is refused
};
struct OneOf {
  std::vector<std::string> choices;
};
struct AnyText {
  size_t max_bytes = 4096;
};
struct PlainName {};  // 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot or dash
using ValueRule = std::variant<AnyBool, WholeNumber, RealNumber, OneOf, AnyText, PlainName>;

struct ConfigKey {
  std::string section;
  std::string name;
  FieldRef (*field)(RunConfig& config);
  ValueRule rule;
  bool common = false;  // live in InitTemplate; the others, and all that presets set, are comments
  std::string help;     // one line

  std::string FullName() const { return section + "." + name; }
  std::string EnvironmentName() const;  // LONGHAUL_SECTION_NAME
};

const std::vector<ConfigKey>& ConfigKeys();
const ConfigKey* FindConfigKey(std::string_view section, std::string_view name);  // or null
// "a whole number from 1 to 64", "one of adamw, sgd", ...
std::string DescribeRule(const ValueRule& rule);
// Every key with its type or range, default, environment name and help: `longhaul config --keys`.
std::string ConfigHelp();

// ---- reading ----

// Full key name -> where its value comes from ("run.toml:12", "LONGHAUL_RUN_SEED", "--set"). A key
// that is absent has its default.
using ConfigOrigins = std::map<std::string, std::string, std::less<>>;

struct LoadedConfig {
  RunConfig config;
  ConfigOrigins origins;
};

struct ConfigOverrides {
  std::vector<std::pair<std::string, std::string>> environment;  // from CollectEnvironment
  std::vector<std::string> sets;                                 // "section.key=value"
};

// The LONGHAUL_* variables of a C environment block (main's `environ`).
std::vector<std::pair<std::string, std::string>> CollectEnvironment(char** environment);

// Parses, applies overrides, validates. `file_name` is for messages. InvalidArgument lists every
// mistake, one line each: place, key, value, what is accepted, nearest valid name. Unknown
// environment variables are refused only when they start with LONGHAUL_<a section of ours>_.
absl::StatusOr<LoadedConfig> ParseRunConfig(std::string_view toml, const std::string& file_name,
                                            const ConfigOverrides& overrides);

// The same for a file; "" = defaults and overrides only. NotFound when it cannot be read,
// InvalidArgument when it is larger than 1 MiB.
absl::StatusOr<LoadedConfig> LoadRunConfig(const std::string& path,
                                           const ConfigOverrides& overrides);

// Range of every key, then the conditions that tie several keys together. InvalidArgument lists
// every violation. A config that passes satisfies SamplesPerStep's promise.
absl::Status ValidateRunConfig(const RunConfig& config, const ConfigOrigins& origins = {});

// ---- writing ----

// A complete commented file that parses back to the same config; with origins, each comment ends
// with the place the value came from.
std::string ResolvedToml(const RunConfig& config, const ConfigOrigins& origins = {});

// A starting file for a user: common keys live, the others as comments. Passes ValidateRunConfig.
// InvalidArgument when `name` is not a valid run name.
absl::StatusOr<std::string> InitTemplate(const std::string& name);

// ---- shared by the files of this module ----

struct HostPort {
  std::string host;
  uint16_t port = 0;
};
// "host:port" or "[v6]:port".
absl::StatusOr<HostPort> SplitAddress(const std::string& text);

using ConfigValue = std::variant<bool, int64_t, double, std::string>;
// "" when `value` is acceptable for `key`, else what is wrong ("must be ...").
std::string ValueProblem(const ConfigKey& key, const ConfigValue& value);
// As it stands in a TOML file.
std::string ValueToToml(const ConfigValue& value);
ConfigValue GetConfigValue(const ConfigKey& key, const RunConfig& config);
// The value must have passed ValueProblem.
void SetConfigValue(const ConfigKey& key, const ConfigValue& value, RunConfig& config);
// "run.toml:12: train.learning_rate = -1" or, for a default, "train.learning_rate = -1".
std::string PlaceAndValue(const ConfigKey& key, const ConfigValue& value,
                          const ConfigOrigins& origins);

}  // namespace longhaul
