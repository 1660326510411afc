// What the files of `longhaul data` share.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "data/manifest.h"

namespace longhaul {

void AddDataPrepare(CLI::App& data, Command& command);
void AddDataInspect(CLI::App& data, Command& command);
void AddDataVerify(CLI::App& data, Command& command);

// Of commands that read training data: what is missing, damaged or cannot be used is 6, a full disk
// 7, Ctrl-C 130.
inline ExitCode DataExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnauthenticated:
      return ExitCodeFor(status);
    default:
      return kExitData;
  }
}
// Says what is wrong on stderr.
int DataFailure(const absl::Status& status);

nlohmann::ordered_json ManifestJson(const Manifest& manifest);
void PrintManifest(const Manifest& manifest);

}  // namespace longhaul
