#include "cli/worker_file.h"

#include <toml++/toml.h>

#include "cli/small_file.h"
#include "cli/suggest.h"
#include "cli/toml_text.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr size_t kMaxFileBytes = 64 * 1024;
constexpr size_t kMaxDataFolders = 64;
constexpr size_t kMaxNameBytes = 64;
constexpr double kMaxLimit = 1e6;  // Mbit/s, GB: beyond any machine
constexpr uint32_t kMaxThreads = 4096;

std::vector<std::string> TopKeys() { return {"name", "identity", "data", "limits"}; }
std::vector<std::string> LimitKeys() { return {"up_mbit", "threads", "memory_gb", "disk_gb"}; }

class Reader {
 public:
  explicit Reader(std::string file_name) : file_name_(std::move(file_name)) {}

  absl::StatusOr<WorkerSettings> Read(std::string_view text) {
    toml::table table;
    try {
      table = toml::parse(text, file_name_);
    } catch (const toml::parse_error& error) {
      return absl::InvalidArgumentError(Place(error.source()) +
                                        "not valid TOML: " + std::string(error.description()));
    }
    for (const auto& [key, node] : table) Top(std::string(key.str()), node, Place(key.source()));
    if (!problems_.empty()) return absl::InvalidArgumentError(problems_);
    return std::move(settings_);
  }

 private:
  void Top(const std::string& key, const toml::node& node, const std::string& place) {
    if (key == "name") return Text(node, place + key, settings_.name);
    if (key == "identity") return Text(node, place + key, settings_.identity);
    if (key == "data") return Folders(node, place + key);
    if (key != "limits") {
      return Problem(place + "unknown key \"" + key + "\"" + Hint(key));
    }
    const toml::table* limits = node.as_table();
    if (!limits) return Problem(place + "\"limits\" is a section: write [limits]");
    for (const auto& [name, value] : *limits) {
      Limit(std::string(name.str()), value, Place(name.source()));
    }
  }

  static std::string Hint(const std::string& key) {
    for (const std::string& limit : LimitKeys()) {
      if (limit == key) return "; it belongs to [limits]";
    }
    return DidYouMean(key, TopKeys());
  }

  void Limit(const std::string& key, const toml::node& node, const std::string& place) {
    if (key == "up_mbit") return Number(node, place + "limits." + key, settings_.up_mbit);
    if (key == "memory_gb") return Number(node, place + "limits." + key, settings_.memory_gb);
    if (key == "disk_gb") return Number(node, place + "limits." + key, settings_.disk_gb);
    if (key != "threads") {
      return Problem(place + "unknown key \"limits." + key + "\"" + DidYouMean(key, LimitKeys()));
    }
    const auto value = node.as_integer();
    if (!value || value->get() < 0 || value->get() > kMaxThreads) {
      return Problem(place + "limits.threads must be a whole number from 0 to " +
                     std::to_string(kMaxThreads));
    }
    settings_.threads = static_cast<uint32_t>(value->get());
  }

  void Text(const toml::node& node, const std::string& what, std::string& out) {
    if (!node.is_string()) return Problem(what + " must be text");
    out = node.as_string()->get();
  }
  void Number(const toml::node& node, const std::string& what, double& out) {
    if (!node.is_number()) return Problem(what + " must be a number");
    out = *node.value<double>();
  }
  void Folders(const toml::node& node, const std::string& what) {
    const toml::array* list = node.as_array();
    if (!list || (!list->empty() && !list->is_homogeneous(toml::node_type::string))) {
      return Problem(what + " must be a list of folders, like [\"/srv/corpus\"]");
    }
    for (const toml::node& entry : *list) settings_.data.push_back(entry.as_string()->get());
  }

  void Problem(const std::string& text) {
    if (!problems_.empty()) problems_ += '\n';
    problems_ += text;
  }
  std::string Place(const toml::source_region& source) const {
    return file_name_ + ":" + std::to_string(source.begin.line) + ": ";
  }

  const std::string file_name_;
  WorkerSettings settings_;
  std::string problems_;
};

void ApplyFlags(const WorkerFlags& flags, WorkerSettings& settings) {
  if (flags.name) settings.name = *flags.name;
  if (flags.identity) settings.identity = *flags.identity;
  if (!flags.data.empty()) settings.data = flags.data;
  if (flags.up_mbit) settings.up_mbit = *flags.up_mbit;
  if (flags.threads) settings.threads = *flags.threads;
  if (flags.memory_gb) settings.memory_gb = *flags.memory_gb;
  if (flags.disk_gb) settings.disk_gb = *flags.disk_gb;
}

void ExpandHome(std::string& path, const std::string& home) {
  if (path.starts_with("~/") && !home.empty()) path = home + path.substr(1);
}

absl::Status Check(const WorkerSettings& s) {
  const struct {
    const char* name;
    double value;
  } limits[] = {{"up_mbit", s.up_mbit}, {"memory_gb", s.memory_gb}, {"disk_gb", s.disk_gb}};
  for (const auto& limit : limits) {
    if (!(limit.value >= 0 && limit.value <= kMaxLimit)) {
      return absl::InvalidArgumentError(std::string(limit.name) + " = " + ShortReal(limit.value) +
                                        ": must be a number from 0 (no limit) to " +
                                        ShortReal(kMaxLimit));
    }
  }
  if (s.threads > kMaxThreads) {
    return absl::InvalidArgumentError("threads = " + std::to_string(s.threads) + ": at most " +
                                      std::to_string(kMaxThreads));
  }
  if (s.name.size() > kMaxNameBytes || !IsTomlText(s.name)) {
    return absl::InvalidArgumentError("name: text of at most " + std::to_string(kMaxNameBytes) +
                                      " bytes, without control characters");
  }
  if (s.data.size() > kMaxDataFolders) {
    return absl::InvalidArgumentError("data: at most " + std::to_string(kMaxDataFolders) +
                                      " folders");
  }
  return absl::OkStatus();
}

}  // namespace

std::string WorkerConfigFolder(const std::string& xdg_config_home, const std::string& home) {
  return (xdg_config_home.empty() ? home + "/.config" : xdg_config_home) + "/longhaul";
}

absl::StatusOr<WorkerSettings> ParseWorkerFile(std::string_view toml, const std::string& file_name,
                                               const WorkerFlags& flags,
                                               const std::string& config_folder,
                                               const std::string& home) {
  ASSIGN_OR_RETURN(WorkerSettings settings, Reader(file_name).Read(toml));
  ApplyFlags(flags, settings);
  if (settings.identity.empty()) settings.identity = config_folder + "/worker.key";
  ExpandHome(settings.identity, home);
  for (std::string& folder : settings.data) ExpandHome(folder, home);
  RETURN_IF_ERROR(Check(settings));
  return settings;
}

absl::StatusOr<WorkerSettings> LoadWorkerFile(const std::string& path, const WorkerFlags& flags,
                                              const std::string& config_folder,
                                              const std::string& home) {
  const std::string file = path.empty() ? config_folder + "/worker.toml" : path;
  absl::StatusOr<std::string> text = ReadSmallFile(file, kMaxFileBytes);
  if (path.empty() && absl::IsNotFound(text.status())) text = "";
  RETURN_IF_ERROR(text.status());
  return ParseWorkerFile(*text, file, flags, config_folder, home);
}

}  // namespace longhaul
