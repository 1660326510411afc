// `longhaul doctor`: can this machine take part, and if not, what helps?
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/config.h"
#include "cli/exit_codes.h"
#include "cli/gpu_probe.h"
#include "common/time.h"

namespace longhaul {

enum class CheckLevel { kOk, kWarn, kFail };

struct CheckResult {
  CheckLevel level = CheckLevel::kOk;
  std::string name;    // "memory"
  std::string detail;  // "15.2 GB free of 16.4 GB"
  std::string next;    // what to do; "" when nothing
};

// What a visit to the coordinator shows of the way to it.
struct LinkFacts {
  double round_trip_ms = 0;        // 0: not known
  std::string congestion_control;  // in force on our side; "" = not known
  double up_bytes_per_s = 0;       // payload, measured; 0: not known
  double down_bytes_per_s = 0;
  std::string problem;  // why the rates are not known
  std::string note;     // the run's settings (EncodeRunConfig), if the coordinator gave them
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
  std::function<absl::StatusOr<LinkFacts>(const HostPort& coordinator)> handshake;
  // Called with what the handshake found: what that means for a run.
  std::function<CheckResult(const LinkFacts&)> verdict;
  std::string proc = "/proc";  // where the kernel's files are
  std::string cgroup = "/sys/fs/cgroup";
  std::function<GpuFacts()> probe_gpu = [] { return ProbeGpu(); };
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
// Driver, compute capability, memory and NCCL, as far as the driver says them.
CheckResult CheckGpu(const std::string& proc, const GpuFacts& facts);
CheckResult CheckClock();
// Congestion control and what an idle connection forgets: they decide the rate of long paths.
CheckResult CheckTcp(const std::string& proc);
// Resolves, connects, then the handshake when there is one; what it found goes to `facts`.
CheckResult CheckCoordinator(const DoctorOptions& options, LinkFacts* facts);
// Rates both ways.
CheckResult CheckLink(const LinkFacts& facts);

}  // namespace longhaul
