// The worker's own file: who it is and what it may use. It belongs to the person who lends the
// machine; a run can never change or read it. TOML, optional:
//
//   name = "kitchen-pc"
//   identity = "~/.config/longhaul/worker.key"
//   data = ["/srv/corpus"]      # folders where training data may be found
//   [limits]
//   up_mbit = 20                # 0 = no limit
//   threads = 4                 # 0 = all
//   memory_gb = 8
//   disk_gb = 50
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul {

struct WorkerSettings {
  std::string name;               // "" = the host's name
  std::string identity;           // path of the key file
  std::vector<std::string> data;  // folders
  double up_mbit = 0;             // 0 = no limit, here and below
  uint32_t threads = 0;           // 0 = all
  double memory_gb = 0;
  double disk_gb = 0;
  auto operator<=>(const WorkerSettings&) const = default;
};

// What the command line says; overrides the file. `data` replaces the file's list when not empty.
struct WorkerFlags {
  std::optional<std::string> name;
  std::optional<std::string> identity;
  std::vector<std::string> data;
  std::optional<double> up_mbit;
  std::optional<uint32_t> threads;
  std::optional<double> memory_gb;
  std::optional<double> disk_gb;
};

// Folder of worker.toml and worker.key: $XDG_CONFIG_HOME/longhaul, else <home>/.config/longhaul;
// main passes both variables ("" = not set).
std::string WorkerConfigFolder(const std::string& xdg_config_home, const std::string& home);

// Parses `toml`, fills defaults (identity = <config_folder>/worker.key), applies the flags, checks
// ranges. "~/" at the start of a path becomes `home`. InvalidArgument lists every mistake with its
// place and the nearest valid name.
absl::StatusOr<WorkerSettings> ParseWorkerFile(std::string_view toml, const std::string& file_name,
                                               const WorkerFlags& flags,
                                               const std::string& config_folder,
                                               const std::string& home);

// Reads `path`; when it is "", <config_folder>/worker.toml, which may be absent. NotFound when a
// path that was given cannot be read.
absl::StatusOr<WorkerSettings> LoadWorkerFile(const std::string& path, const WorkerFlags& flags,
                                              const std::string& config_folder,
                                              const std::string& home);

}  // namespace longhaul
