// RunConfig -> text.
#include "cli/config.h"
#include "cli/text_table.h"
#include "cli/toml_text.h"

namespace longhaul {
namespace {

constexpr size_t kCommentColumn = 40;

// "key = value      # help"
std::string Line(const std::string& assignment, const std::string& comment) {
  const size_t spaces =
      assignment.size() + 1 < kCommentColumn ? kCommentColumn - assignment.size() : 1;
  return assignment + std::string(spaces, ' ') + "# " + comment + "\n";
}

void StartSection(const ConfigKey& key, std::string& section, std::string& out) {
  if (key.section == section) return;
  out += (out.empty() ? "[" : "\n[") + key.section + "]\n";
  section = key.section;
}

std::string KeyType(const ConfigKey& key) {
  if (std::holds_alternative<PlainName>(key.rule)) return "a name";
  if (std::holds_alternative<AnyText>(key.rule)) return "text";
  return DescribeRule(key.rule);
}

}  // namespace

std::string ResolvedToml(const RunConfig& config, const ConfigOrigins& origins) {
  std::string out, section;
  for (const ConfigKey& key : ConfigKeys()) {
    StartSection(key, section, out);
    std::string comment = key.help;
    const auto origin = origins.find(key.FullName());
    if (origin != origins.end() && IsTomlText(origin->second)) {
      comment += " (from " + origin->second + ")";
    }
    out += Line(key.name + " = " + ValueToToml(GetConfigValue(key, config)), comment);
  }
  return out;
}

absl::StatusOr<std::string> InitTemplate(const std::string& name) {
  RunConfig config;
  config.run.name = name;
  config.data.train = "wheel";  // present wherever longhaul-worker is
  const ConfigKey& name_key = *FindConfigKey("run", "name");
  const std::string problem = ValueProblem(name_key, name);
  if (!problem.empty()) {
    return absl::InvalidArgumentError("run name \"" + name + "\": " + problem);
  }
  std::string out =
      "# One Longhaul run. Lines that start with '#' show defaults.\n"
      "# Check: longhaul config FILE      Start: longhaul coordinator FILE\n";
  std::string section;
  for (const ConfigKey& key : ConfigKeys()) {
    StartSection(key, section, out);
    const std::string mark = key.common ? "" : "# ";
    out += Line(mark + key.name + " = " + ValueToToml(GetConfigValue(key, config)), key.help);
  }
  return out;
}

std::string ConfigHelp() {
  const RunConfig defaults;
  TextTable table({"key", "default", "accepts", "environment", "meaning"});
  for (const ConfigKey& key : ConfigKeys()) {
    table.AddRow({key.FullName(), ValueToToml(GetConfigValue(key, defaults)), KeyType(key),
                  key.EnvironmentName(), key.help});
  }
  return table.ToString();
}

}  // namespace longhaul
