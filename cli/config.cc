#include "cli/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "cli/presets.h"
#include "cli/small_file.h"
#include "cli/suggest.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxProblems = 20;

std::vector<std::string> SectionNames() {
  std::vector<std::string> out;
  for (const ConfigKey& key : ConfigKeys()) {
    if (out.empty() || out.back() != key.section) out.push_back(key.section);
  }
  return out;
}

// Names that a mistyped key may have meant: those of its section, or all as section.name.
std::vector<std::string> KeyNames(std::string_view section) {
  std::vector<std::string> out;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.section == section) out.push_back(key.name);
  }
  return out;
}

std::string SameNameElsewhere(std::string_view name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.name == name) return key.FullName();
  }
  return "";
}

// "; did you mean ...?" for a key that is not in `section`.
std::string KeyHint(const std::string& section, const std::string& name) {
  const std::string elsewhere = SameNameElsewhere(name);
  if (!elsewhere.empty()) return "; it belongs to another section: " + elsewhere;
  return DidYouMean(name, KeyNames(section));
}

class Loader {
 public:
  explicit Loader(std::string file_name) : file_name_(std::move(file_name)) {}

  absl::Status File(std::string_view text);
  void Environment(const std::string& name, const std::string& value);
  void Set(const std::string& assignment);
  absl::StatusOr<LoadedConfig> Finish();

 private:
  void Section(const std::string& name, const toml::node& node);
  void Value(const std::string& section, const std::string& name, const toml::node& node,
             const std::string& place);
  void Assign(const ConfigKey& key, const ConfigValue& value, const std::string& place);
  void ApplyPreset();
  void FillDerived();
  bool Given(std::string_view full_name) const { return loaded_.origins.contains(full_name); }
  void Problem(std::string text) {
    if (problems_.size() < kMaxProblems) problems_.push_back(std::move(text));
  }
  std::string PlaceOf(const toml::source_region& source) const {
    return file_name_ + ":" + std::to_string(source.begin.line);
  }

  const std::string file_name_;
  LoadedConfig loaded_;
  std::vector<std::string> problems_;
};

absl::Status Loader::File(std::string_view text) {
  toml::table table;
  try {
    table = toml::parse(text, file_name_);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(PlaceOf(error.source()) +
                                      ": not valid TOML: " + std::string(error.description()));
  }
  for (const auto& [key, node] : table) Section(std::string(key.str()), node);
  return absl::OkStatus();
}

void Loader::Section(const std::string& name, const toml::node& node) {
  const std::vector<std::string> sections = SectionNames();
  const std::string place = PlaceOf(node.source());
  if (std::find(sections.begin(), sections.end(), name) == sections.end()) {
    const std::string elsewhere = SameNameElsewhere(name);
    Problem(place + ": unknown section \"" + name + "\"" +
            (elsewhere.empty() ? DidYouMean(name, sections) : "; the key is " + elsewhere));
    return;
  }
  const toml::table* table = node.as_table();
  if (!table) return Problem(place + ": \"" + name + "\" is a section: write [" + name + "]");
  for (const auto& [key, value] : *table) {
    Value(name, std::string(key.str()), value, PlaceOf(key.source()));
  }
}

void Loader::Value(const std::string& section, const std::string& name, const toml::node& node,
                   const std::string& place) {
  const ConfigKey* key = FindConfigKey(section, name);
  if (!key) {
    return Problem(place + ": unknown key \"" + section + "." + name + "\"" +
                   KeyHint(section, name));
  }
  if (const auto* v = node.as_boolean()) return Assign(*key, v->get(), place);
  if (const auto* v = node.as_string()) return Assign(*key, v->get(), place);
  if (const auto* v = node.as_floating_point()) return Assign(*key, v->get(), place);
  if (const auto* v = node.as_integer()) {
    // "patience = 2" is a fine way to write 2.0.
    if (std::holds_alternative<RealNumber>(key->rule)) {
      return Assign(*key, static_cast<double>(v->get()), place);
    }
    return Assign(*key, v->get(), place);
  }
  Problem(place + ": " + key->FullName() + ": must be " + DescribeRule(key->rule));
}

template <class Number>
std::optional<Number> ParseNumber(const std::string& text) {
  Number value{};
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

// Value of an override; text that does not fit the key's type stays text and is refused as such.
ConfigValue ValueFromText(const ConfigKey& key, const std::string& text) {
  if (std::holds_alternative<AnyBool>(key.rule)) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
  } else if (std::holds_alternative<WholeNumber>(key.rule)) {
    if (const auto number = ParseNumber<int64_t>(text)) return *number;
  } else if (std::holds_alternative<RealNumber>(key.rule)) {
    if (const auto number = ParseNumber<double>(text)) return *number;
  }
  return text;
}

void Loader::Assign(const ConfigKey& key, const ConfigValue& value, const std::string& place) {
  const std::string problem = ValueProblem(key, value);
  loaded_.origins[key.FullName()] = place;
  if (!problem.empty()) {
    return Problem(PlaceAndValue(key, value, loaded_.origins) + ": " + problem);
  }
  SetConfigValue(key, value, loaded_.config);
}

void Loader::Environment(const std::string& name, const std::string& value) {
  std::vector<std::string> names;
  for (const ConfigKey& key : ConfigKeys()) {
    names.push_back(key.EnvironmentName());
    if (names.back() == name) return Assign(key, ValueFromText(key, value), name);
  }
  // Others of our variables (LONGHAUL_TORCH_DIR, ...) are not about the run.
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string own = key.EnvironmentName();
    if (name.starts_with(own.substr(0, own.size() - key.name.size()))) {
      return Problem("environment variable " + name + ": no such key" + DidYouMean(name, names));
    }
  }
}

void Loader::Set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  const size_t dot = assignment.find('.');
  const std::string place = "--set " + assignment.substr(0, equals);
  if (equals == std::string::npos) {
    return Problem(place + ": must look like section.key=value");
  }
  const std::string full = assignment.substr(0, equals);
  const ConfigKey* key =
      dot < equals ? FindConfigKey(full.substr(0, dot), full.substr(dot + 1)) : nullptr;
  if (key) return Assign(*key, ValueFromText(*key, assignment.substr(equals + 1)), "--set");
  std::vector<std::string> names;
  for (const ConfigKey& k : ConfigKeys()) names.push_back(k.FullName());
  const std::string elsewhere = SameNameElsewhere(dot < equals ? full.substr(dot + 1) : full);
  Problem(place + ": no such key" +
          (elsewhere.empty() ? DidYouMean(full, names) : "; did you mean \"" + elsewhere + "\"?"));
}

// A preset is older than everything that was given.
void Loader::ApplyPreset() {
  const std::string name = loaded_.config.sync.preset;
  for (const SyncPreset& preset : SyncPresets()) {
    if (preset.name != name) continue;
    const toml::table table = toml::parse(preset.toml);
    for (const auto& [section, node] : table) {
      for (const auto& [key, value] : *node.as_table()) {
        const std::string full = std::string(section.str()) + "." + std::string(key.str());
        if (Given(full)) continue;
        Value(std::string(section.str()), std::string(key.str()), value, "preset " + name);
      }
    }
  }
}

// Values that follow from what was given and from what was not.
void Loader::FillDerived() {
  ModelSection& model = loaded_.config.model;
  const bool sizes = Given("model.hidden_size") || Given("model.num_hidden_layers") ||
                     Given("model.intermediate_size") || Given("model.num_attention_heads") ||
                     Given("model.num_key_value_heads");
  if ((sizes || !model.init_from.empty()) && !Given("model.preset")) model.preset.clear();
  if (sizes && !Given("model.num_key_value_heads")) {
    model.num_key_value_heads = model.num_attention_heads;
  }
}

absl::StatusOr<LoadedConfig> Loader::Finish() {
  ApplyPreset();
  if (!problems_.empty()) {
    std::string text;
    for (const std::string& problem : problems_) text += (text.empty() ? "" : "\n") + problem;
    return absl::InvalidArgumentError(text);
  }
  FillDerived();
  RETURN_IF_ERROR(ValidateRunConfig(loaded_.config, loaded_.origins));
  return std::move(loaded_);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> CollectEnvironment(char** environment) {
  std::vector<std::pair<std::string, std::string>> out;
  for (char** entry = environment; entry && *entry; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (!text.starts_with("LONGHAUL_") || equals == std::string_view::npos) continue;
    out.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

absl::StatusOr<LoadedConfig> ParseRunConfig(std::string_view toml, const std::string& file_name,
                                            const ConfigOverrides& overrides) {
  Loader loader(file_name);
  RETURN_IF_ERROR(loader.File(toml));
  for (const auto& [name, value] : overrides.environment) loader.Environment(name, value);
  for (const std::string& assignment : overrides.sets) loader.Set(assignment);
  return loader.Finish();
}

absl::StatusOr<LoadedConfig> LoadRunConfig(const std::string& path,
                                           const ConfigOverrides& overrides) {
  if (path.empty()) return ParseRunConfig("", "", overrides);
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxFileBytes));
  return ParseRunConfig(text, path, overrides);
}

}  // namespace longhaul
