// TOML -> Scenario. Every mistake is collected with its line; nothing is guessed.
#include <fnmatch.h>
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "cli/config.h"
#include "cli/suggest.h"
#include "cli/toml_text.h"
#include "wan/scenario.h"

namespace longhaul::wan {
namespace {

constexpr double kMaxMbit = 100'000;
constexpr double kMaxMs = 60'000;
constexpr double kMaxSeconds = 24 * 3600;
constexpr size_t kMaxIncidents = 1000;

// The mistakes of one file.
class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}
  std::string PlaceOf(const toml::source_region& source) const {
    return absl::StrCat(file_, ":", source.begin.line);
  }
  void Add(const toml::source_region& source, const std::string& what) {
    lines_.push_back(PlaceOf(source) + ": " + what);
  }
  void Add(const std::string& what) { lines_.push_back(file_ + ": " + what); }
  bool none() const { return lines_.empty(); }
  absl::Status status() const {
    std::string text;
    for (const std::string& line : lines_) absl::StrAppend(&text, text.empty() ? "" : "\n", line);
    return absl::InvalidArgumentError(text);
  }

 private:
  std::string file_;
  std::vector<std::string> lines_;
};

// One table: each key is asked for once, and what nobody asked for is a mistake.
class Reader {
 public:
  Reader(const toml::table& table, std::string name, Problems& problems)
      : table_(table), name_(std::move(name)), problems_(problems) {}

  const toml::node* Find(const char* key) {
    known_.push_back(key);
    return table_.get(key);
  }
  bool Has(const char* key) const { return table_.contains(key); }

  // Leaves `out` alone when the key is absent or wrong.
  void Number(const char* key, double min, double max, double* out) {
    const toml::node* node = Find(key);
    if (!node) return;
    const auto value = node->value<double>();
    if (node->is_number() && value && *value >= min && *value <= max) {
      *out = *value;
      return;
    }
    Wrong(*node, key, "must be a number from " + ShortReal(min) + " to " + ShortReal(max));
  }
  std::optional<double> OptionalNumber(const char* key, double min, double max) {
    double value = std::numeric_limits<double>::quiet_NaN();
    Number(key, min, max, &value);
    return std::isnan(value) ? std::nullopt : std::optional(value);
  }
  void Whole(const char* key, uint64_t min, uint64_t max, uint64_t* out) {
    const toml::node* node = Find(key);
    if (!node) return;
    const auto value = node->value_exact<int64_t>();
    if (value && *value >= 0 && static_cast<uint64_t>(*value) >= min &&
        static_cast<uint64_t>(*value) <= max) {
      *out = static_cast<uint64_t>(*value);
      return;
    }
    Wrong(*node, key, absl::StrCat("must be a whole number from ", min, " to ", max));
  }
  void Time(const char* key, double max, double unit_s, Duration* out) {
    if (const auto value = OptionalNumber(key, 0, max)) *out = FromSeconds(*value * unit_s);
  }
  void Flag(const char* key, bool* out) {
    const toml::node* node = Find(key);
    if (!node) return;
    if (const auto value = node->value_exact<bool>()) {
      *out = *value;
    } else {
      Wrong(*node, key, "must be true or false");
    }
  }
  void Text(const char* key, std::string* out) {
    const toml::node* node = Find(key);
    if (!node) return;
    const auto value = node->value_exact<std::string>();
    if (value && IsTomlText(*value)) {
      *out = *value;
    } else {
      Wrong(*node, key, "must be text on one line");
    }
  }
  // The index of the chosen name.
  std::optional<size_t> Choice(const char* key, const std::vector<std::string>& choices) {
    const toml::node* node = Find(key);
    if (!node) return std::nullopt;
    const auto value = node->value_exact<std::string>();
    for (size_t i = 0; value && i < choices.size(); ++i) {
      if (choices[i] == *value) return i;
    }
    std::string list;
    for (const std::string& c : choices) absl::StrAppend(&list, list.empty() ? "" : ", ", c);
    Wrong(*node, key, "must be one of " + list + DidYouMean(value.value_or(""), choices));
    return std::nullopt;
  }
  const toml::table* Table(const char* key) {
    const toml::node* node = Find(key);
    if (node && !node->is_table()) Wrong(*node, key, absl::StrCat("must be a table: [", key, "]"));
    return node ? node->as_table() : nullptr;
  }
  // The tables of [[key]].
  std::vector<const toml::table*> Tables(const char* key) {
    std::vector<const toml::table*> out;
    const toml::node* node = Find(key);
    if (!node) return out;
    if (const toml::array* array = node->as_array()) {
      for (const toml::node& element : *array) {
        if (element.is_table()) out.push_back(element.as_table());
      }
      if (out.size() == array->size()) return out;
    }
    Wrong(*node, key, absl::StrCat("must be tables: [[", key, "]]"));
    return {};
  }

  void Wrong(const toml::node& node, const std::string& key, const std::string& what) {
    problems_.Add(node.source(), name_ + key + " " + what);
  }
  void Wrong(const std::string& what) { problems_.Add(table_.source(), what); }
  // After all keys were asked for.
  void RefuseOthers() {
    for (const auto& [key, node] : table_) {
      const std::string name(key.str());
      if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
      problems_.Add(key.source(),
                    "there is no key \"" + name_ + name + "\"" + DidYouMean(name, known_));
    }
  }
  static Duration FromSeconds(double s) { return Duration(std::llround(s * 1e9)); }

 private:
  const toml::table& table_;
  std::string name_;  // in messages, before the key
  Problems& problems_;
  std::vector<std::string> known_;
};

class Parser {
 public:
  Parser(const toml::table& root, const std::string& file) : root_(root), problems_(file) {
    scenario_.file = file;
  }
  absl::StatusOr<Scenario> Parse();

 private:
  void ReadNode(const toml::table& table);
  void ReadAccess(Reader& reader, AccessLink* access);
  void ReadBottleneck(const toml::table& table);
  void ReadEvent(const toml::table& table);
  void ReadTrigger(Reader& reader, Trigger* trigger);
  void ReadTarget(Reader& reader, Incident* incident);
  void ReadRun(const toml::table& table);
  void ReadConfig(const toml::table& table);
  void ReadConfigSection(const std::string& section, const toml::table& table);
  void ReadAssert(const toml::table& table);
  void ReadAssertion(const std::string& metric, const toml::node& node);
  bool IsFree(const std::string& name) const;
  std::vector<std::string> NodeNames() const;
  std::vector<std::string> AllNames() const;

  const toml::table& root_;
  Problems problems_;
  Scenario scenario_;
};

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 32 && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

absl::StatusOr<Scenario> Parser::Parse() {
  Reader reader(root_, "", problems_);
  double limit_s = 300;
  reader.Text("description", &scenario_.description);
  reader.Whole("seed", 0, INT64_MAX, &scenario_.seed);
  reader.Number("time_limit_s", 1, kMaxSeconds, &limit_s);
  scenario_.time_limit = Reader::FromSeconds(limit_s);
  for (const toml::table* table : reader.Tables("node")) ReadNode(*table);
  for (const toml::table* table : reader.Tables("bottleneck")) ReadBottleneck(*table);
  for (const toml::table* table : reader.Tables("event")) ReadEvent(*table);
  if (const toml::table* table = reader.Table("run")) ReadRun(*table);
  if (const toml::table* table = reader.Table("assert")) ReadAssert(*table);
  reader.RefuseOthers();
  if (scenario_.nodes.size() < 2) problems_.Add("a network needs two nodes: [[node]] twice");
  if (scenario_.nodes.size() > kMaxHosts) {
    problems_.Add(absl::StrCat("more than ", kMaxHosts, " nodes"));
  }
  if (scenario_.incidents.size() > kMaxIncidents) {
    problems_.Add(absl::StrCat("more than ", kMaxIncidents, " events"));
  }
  if (!problems_.none()) return problems_.status();
  return std::move(scenario_);
}

std::vector<std::string> Parser::NodeNames() const {
  std::vector<std::string> names;
  for (const Node& node : scenario_.nodes) names.push_back(node.name);
  return names;
}

std::vector<std::string> Parser::AllNames() const {
  std::vector<std::string> names = NodeNames();
  for (const Bottleneck& b : scenario_.bottlenecks) names.push_back(b.name);
  return names;
}

bool Parser::IsFree(const std::string& name) const {
  const std::vector<std::string> names = AllNames();
  return std::find(names.begin(), names.end(), name) == names.end();
}

void Parser::ReadAccess(Reader& reader, AccessLink* access) {
  reader.Time("rtt_ms", kMaxMs, 1e-3, &access->round_trip);
  reader.Time("jitter_ms", kMaxMs, 1e-3, &access->jitter);
  reader.Number("loss_percent", 0, 99, &access->loss_percent);
  reader.Number("loss_burst", 1, 10'000, &access->loss_burst);
  reader.Time("queue_ms", kMaxMs, 1e-3, &access->queue);
  reader.Flag("half_duplex", &access->half_duplex);
}

void Parser::ReadNode(const toml::table& table) {
  Reader reader(table, "node.", problems_);
  Node node;
  reader.Text("name", &node.name);
  if (!IsName(node.name)) {
    reader.Wrong("a node needs a name of at most 32 small letters, digits and \"-\"");
  }
  std::vector<std::string> presets;
  for (const Preset& preset : Presets()) presets.push_back(preset.name);
  if (const auto chosen = reader.Choice("preset", presets)) {
    node.preset = presets[*chosen];
    node.access = Presets()[*chosen].access;
  }
  reader.Number("up_mbit", 0.01, kMaxMbit, &node.access.up_mbit);
  reader.Number("down_mbit", 0.01, kMaxMbit, &node.access.down_mbit);
  ReadAccess(reader, &node.access);
  if (reader.Choice("kernel", {"tuned", "stock"}) == size_t{1}) node.kernel = HostKernel::kStock;
  uint64_t count = 0, step_ms = 0;
  reader.Whole("count", 1, kMaxHosts, &count);
  reader.Whole("step_ms", 1, 600'000, &step_ms);
  if (step_ms > 0) node.step_ms = static_cast<uint32_t>(step_ms);
  reader.RefuseOthers();
  const std::string base = node.name;
  for (uint64_t i = 1; i <= std::max<uint64_t>(1, count); ++i) {
    if (count > 0) node.name = absl::StrCat(base, i);
    if (!IsFree(node.name)) reader.Wrong("a second node \"" + node.name + "\"");
    scenario_.nodes.push_back(node);
  }
}

void Parser::ReadBottleneck(const toml::table& table) {
  Reader reader(table, "bottleneck.", problems_);
  Bottleneck out;
  out.link.round_trip = Duration(0);
  reader.Text("name", &out.name);
  if (!IsName(out.name) || !IsFree(out.name)) {
    reader.Wrong("a bottleneck needs a name that nothing else has");
  }
  reader.Number("rate_mbit", 0.01, kMaxMbit, &out.rate_mbit);
  ReadAccess(reader, &out.link);
  const toml::node* nodes = reader.Find("nodes");
  std::set<uint32_t> members;
  for (size_t i = 0; nodes && nodes->is_array() && i < nodes->as_array()->size(); ++i) {
    const toml::node& element = *nodes->as_array()->get(i);
    const std::string pattern = element.value_or(std::string());
    const size_t before = members.size();
    for (uint32_t n = 0; n < scenario_.nodes.size(); ++n) {
      if (::fnmatch(pattern.c_str(), scenario_.nodes[n].name.c_str(), 0) == 0) members.insert(n);
    }
    if (members.size() == before) {
      problems_.Add(element.source(),
                    "no node is named \"" + pattern + "\"" + DidYouMean(pattern, NodeNames()));
    }
  }
  if (!nodes || !nodes->is_array()) {
    reader.Wrong("a bottleneck needs the nodes behind it: nodes = [\"eu*\", ...]");
  }
  out.nodes.assign(members.begin(), members.end());
  reader.RefuseOthers();
  scenario_.bottlenecks.push_back(std::move(out));
}

void Parser::ReadTrigger(Reader& reader, Trigger* trigger) {
  const auto at = reader.OptionalNumber("at_s", 0, kMaxSeconds);
  if (at) trigger->at = Reader::FromSeconds(*at);
  reader.Whole("at_round", 1, UINT32_MAX, &trigger->round);
  const auto state =
      reader.Choice("at_state", {"opened", "offered", "held", "closed", "committed"});
  if (state) trigger->state = static_cast<RoundState>(*state);
  if (at.has_value() == (trigger->round > 0) || (state && at)) {
    reader.Wrong("an event needs at_s, or at_round and at_state");
  }
}

void Parser::ReadTarget(Reader& reader, Incident* incident) {
  std::string target;
  reader.Text("target", &target);
  if (const auto node = scenario_.FindNode(target)) {
    incident->target = *node;
    return;
  }
  for (uint32_t b = 0; b < scenario_.bottlenecks.size(); ++b) {
    if (scenario_.bottlenecks[b].name != target) continue;
    incident->target = b;
    incident->at_bottleneck = true;
    if (incident->action != Action::kKill) return;
  }
  const std::vector<std::string> names =
      incident->action == Action::kKill ? NodeNames() : AllNames();
  reader.Wrong("an event needs a target; there is no \"" + target + "\"" +
               DidYouMean(target, names));
}

void Parser::ReadEvent(const toml::table& table) {
  Reader reader(table, "event.", problems_);
  Incident out;
  const auto action = reader.Choice("action", {"outage", "rate", "kill"});
  if (action) {
    out.action = static_cast<Action>(*action);
  } else if (!reader.Has("action")) {
    reader.Wrong("an event needs an action: outage, rate or kill");
  }
  ReadTrigger(reader, &out.trigger);
  ReadTarget(reader, &out);
  const char* lasts = out.action == Action::kKill ? "restart_after_s" : "for_s";
  if (const auto s = reader.OptionalNumber(lasts, 0, kMaxSeconds)) {
    out.lasts = Reader::FromSeconds(*s);
  }
  if (out.action == Action::kOutage && !out.lasts) reader.Wrong("an outage needs for_s");
  if (out.action == Action::kRate) {
    reader.Number("up_mbit", 0.01, kMaxMbit, &out.up_mbit);
    reader.Number("down_mbit", 0.01, kMaxMbit, &out.down_mbit);
    if (out.up_mbit == 0 && out.down_mbit == 0) reader.Wrong("no rate: up_mbit, down_mbit");
  }
  reader.RefuseOthers();
  scenario_.incidents.push_back(out);
}

void Parser::ReadRun(const toml::table& table) {
  Reader reader(table, "run.", problems_);
  std::string coordinator;
  reader.Text("coordinator", &coordinator);
  if (!coordinator.empty()) {
    const auto node = scenario_.FindNode(coordinator);
    if (node) scenario_.coordinator = *node;
    if (!node) {
      reader.Wrong("there is no node \"" + coordinator + "\"" +
                   DidYouMean(coordinator, NodeNames()));
    }
  }
  if (const toml::table* config = reader.Table("config")) ReadConfig(*config);
  reader.RefuseOthers();
}

// The lab decides about addresses and folders; everything else is as in run.toml.
void Parser::ReadConfig(const toml::table& table) {
  for (const auto& [section, node] : table) {
    if (const toml::table* keys = node.as_table()) {
      ReadConfigSection(std::string(section.str()), *keys);
    } else {
      problems_.Add(section.source(), "must be a table: [run.config.SECTION]");
    }
  }
}

std::optional<ConfigValue> ConfigValueOf(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (const auto number = node.value_exact<int64_t>()) return *number;
  if (const auto number = node.value_exact<double>()) return *number;
  if (const auto flag = node.value_exact<bool>()) return *flag;
  return std::nullopt;
}

std::string PlainText(const ConfigValue& value) {
  const auto* text = std::get_if<std::string>(&value);
  return text ? *text : ValueToToml(value);
}

void Parser::ReadConfigSection(const std::string& section, const toml::table& table) {
  std::vector<std::string> names;
  for (const ConfigKey& key : ConfigKeys()) names.push_back(key.FullName());
  for (const auto& [name, node] : table) {
    const std::string full = absl::StrCat(section, ".", std::string(name.str()));
    const ConfigKey* key = FindConfigKey(section, name.str());
    std::optional<ConfigValue> value = ConfigValueOf(node);
    if (key && value && std::holds_alternative<RealNumber>(key->rule)) {
      if (const auto* whole = std::get_if<int64_t>(&*value)) value = static_cast<double>(*whole);
    }
    if (!key) {
      problems_.Add(name.source(), "there is no key \"" + full + "\"" + DidYouMean(full, names));
    } else if (section == "network" || full == "run.output_dir") {
      problems_.Add(name.source(), full + " is set by the lab");
    } else if (!value || !ValueProblem(*key, *value).empty()) {
      problems_.Add(node.source(), full + " must be " + DescribeRule(key->rule));
    } else {
      scenario_.run_config.emplace_back(full, PlainText(*value));
    }
  }
}

void Parser::ReadAssert(const toml::table& table) {
  std::vector<std::string> names;
  for (const Metric& metric : Metrics()) names.push_back(metric.name);
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      problems_.Add(key.source(), "there is no metric \"" + name + "\"" + DidYouMean(name, names));
    } else if (const toml::array* array = node.as_array()) {
      for (const toml::node& element : *array) ReadAssertion(name, element);
    } else {
      ReadAssertion(name, node);
    }
  }
}

void Parser::ReadAssertion(const std::string& metric, const toml::node& node) {
  constexpr std::pair<const char*, Comparison> kComparisons[] = {{"<=", Comparison::kAtMost},
                                                                 {">=", Comparison::kAtLeast},
                                                                 {"==", Comparison::kEqual},
                                                                 {"<", Comparison::kLess},
                                                                 {">", Comparison::kGreater}};
  const std::string text = node.value_or(std::string());
  for (const auto& [sign, comparison] : kComparisons) {
    if (text.rfind(sign, 0) != 0) continue;
    const char* begin = text.data() + std::string_view(sign).size();
    while (*begin == ' ') ++begin;
    double bound = 0;
    const auto end = std::from_chars(begin, text.data() + text.size(), bound);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size()) break;
    scenario_.assertions.push_back(
        {metric, comparison, bound, metric + " " + text, problems_.PlaceOf(node.source())});
    return;
  }
  problems_.Add(node.source(), metric + " must be a comparison with a number, such as \"<= 2.5\"");
}

}  // namespace

absl::StatusOr<Scenario> ParseScenario(std::string_view text, const std::string& file) {
  try {
    const toml::table root = toml::parse(text, file);
    return Parser(root, file).Parse();
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", error.source().begin.line, ": ", std::string(error.description())));
  }
}

}  // namespace longhaul::wan
