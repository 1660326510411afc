// `longhaul doctor`: can this machine take part, and if not, what helps?
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/config.h"
#include "cli/exit_codes.h"
#include "common/time.h"

namespace longhaul {

enum class CheckLevel { kOk, kWarn, kFail };

struct CheckResult {
  CheckLevel level = CheckLevel::kOk;
  std::string name;    // "memory"
  std::string detail;  // "15.2 GB free of 16.4 GB"
  std::string next;    // what to do; "" when nothing
};

struct DoctorOptions {
  std::string version;           // of this program
  std::string program_folder;    // where longhaul-worker is expected
  std::string run_folder = ".";  // need not exist yet
  bool training = true;          // false: this machine only coordinates, a missing worker is fine
  Duration worker_timeout = Seconds(60);  // cold start of LibTorch from a slow disk
  Duration connect_timeout = Seconds(5);
  std::optional<HostPort> coordinator;  // from an invitation
  // Called when the coordinator's port answers: a handshake, or nothing.
  std::function<absl::Status(const HostPort& coordinator)> handshake;
  std::string proc = "/proc";  // where the kernel's files are
  std::string cgroup = "/sys/fs/cgroup";
};

// Runs every check, one after the other; takes seconds at most, unless a name server is slow.
std::vector<CheckResult> RunDoctor(const DoctorOptions& options);

// A table, then what to do about each finding.
std::string FormatDoctor(const std::vector<CheckResult>& results);
// {"ok": bool, "checks": [{"level", "name", "detail", "next"}]}, one line.
std::string DoctorJson(const std::vector<CheckResult>& results);
// Ok when nothing failed; unreachable when only the coordinator did; else failure.
ExitCode DoctorExitCode(const std::vector<CheckResult>& results);

// ---- single checks ----

CheckResult CheckWorkerProgram(const DoctorOptions& options);
CheckResult CheckThreads();
CheckResult CheckMemory(const std::string& proc, const std::string& cgroup);
CheckResult CheckDisk(const std::string& run_folder);
CheckResult CheckDescriptors();
CheckResult CheckGpu(const std::string& proc);
CheckResult CheckClock();
// Resolves, connects, then the handshake when there is one.
CheckResult CheckCoordinator(const DoctorOptions& options);

}  // namespace longhaul
