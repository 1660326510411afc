#include "cli/doctor.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/reach.h"
#include "cli/run_program.h"
#include "cli/small_file.h"
#include "cli/text_table.h"
#include "coordinator/human.h"

namespace longhaul {
namespace {

constexpr uint64_t kGb = 1'000'000'000;
constexpr uint64_t kMemoryFailBytes = kGb / 2;  // the worker alone needs 117 MB, then the model
constexpr uint64_t kMemoryWarnBytes = 2 * kGb;
constexpr uint64_t kDiskFailBytes = kGb / 2;
constexpr uint64_t kDiskWarnBytes = 5 * kGb;
constexpr rlim_t kDescriptorsWanted = 1024;
constexpr int kOldestDriver = 580;  // CUDA 13
constexpr int kCudaVersion = 13000;
constexpr int kOldestCapability = 75;           // 7.5
constexpr time_t kEarliestNow = 1'767'225'600;  // 2026-01-01: an earlier clock is not set
constexpr size_t kKernelFileBytes = 256 * 1024;
constexpr const char* kCoordinatorCheck = "coordinator";

std::string FirstLine(const std::string& text) {
  return PrintableText(text.substr(0, text.find('\n')), /*one_line=*/true);
}

// Value of "Name:   123 kB" in bytes; 0 when absent.
uint64_t MeminfoBytes(const std::string& meminfo, const std::string& name) {
  size_t at = meminfo.find(name + ":");
  if (at == std::string::npos) return 0;
  at = meminfo.find_first_of("0123456789", at);
  if (at == std::string::npos) return 0;
  uint64_t kib = 0;
  std::from_chars(meminfo.data() + at, meminfo.data() + meminfo.size(), kib);
  return kib * 1024;
}

// A cgroup file's number; nothing when there is none ("max", no file).
std::optional<uint64_t> CgroupBytes(const std::string& path) {
  const auto text = ReadSmallFile(path, kKernelFileBytes);
  uint64_t value = 0;
  if (!text.ok()) return std::nullopt;
  const auto result = std::from_chars(text->data(), text->data() + text->size(), value);
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

// The folder itself or its nearest parent that exists.
std::string NearestFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(folder, error);
  while (!std::filesystem::is_directory(path, error) && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path.string();
}

const char* LevelName(CheckLevel level) {
  return level == CheckLevel::kOk ? "ok" : level == CheckLevel::kWarn ? "warn" : "FAIL";
}

}  // namespace

CheckResult CheckWorkerProgram(const DoctorOptions& options) {
  const CheckLevel level = options.training ? CheckLevel::kFail : CheckLevel::kWarn;
  const std::string path = options.program_folder + "/longhaul-worker";
  const std::string name = "longhaul-worker";
  if (::access(path.c_str(), X_OK) != 0) {
    return {level, name, "not found beside this program",
            "run ./setup.sh, then build again: only coordinating works without it"};
  }
  const auto output = RunProgram(path, {"--version"}, options.worker_timeout);
  if (!output.ok()) return {level, name, std::string(output.status().message()), ""};
  if (output->exit_code != 0) {
    return {level, name,
            "ends with code " + std::to_string(output->exit_code) + ": " + FirstLine(output->text),
            "LibTorch may be missing: run ./setup.sh and build again"};
  }
  return {CheckLevel::kOk, name, FirstLine(output->text), ""};
}

CheckResult CheckThreads() {
  cpu_set_t set;
  const int count = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (count > 1) return {CheckLevel::kOk, "threads", std::to_string(count), ""};
  return {CheckLevel::kWarn, "threads", "1",
          "training and sending share one core; rounds will be slow"};
}

CheckResult CheckMemory(const std::string& proc, const std::string& cgroup) {
  const auto meminfo = ReadSmallFile(proc + "/meminfo", kKernelFileBytes);
  if (!meminfo.ok()) return {CheckLevel::kWarn, "memory", "unknown: no " + proc + "/meminfo", ""};
  uint64_t total = MeminfoBytes(*meminfo, "MemTotal");
  uint64_t free = MeminfoBytes(*meminfo, "MemAvailable");
  std::string limited;
  const auto limit = CgroupBytes(cgroup + "/memory.max");
  if (limit && *limit < total) {
    const uint64_t used = CgroupBytes(cgroup + "/memory.current").value_or(0);
    total = *limit;
    free = std::min(free, *limit - std::min(used, *limit));
    limited = " (limit of this container)";
  }
  const std::string detail = HumanBytes(free) + " free of " + HumanBytes(total) + limited;
  if (free < kMemoryFailBytes) {
    return {CheckLevel::kFail, "memory", detail,
            "at least " + HumanBytes(kMemoryFailBytes) + " must be free; close other programs"};
  }
  if (free < kMemoryWarnBytes) {
    return {CheckLevel::kWarn, "memory", detail, "enough for small models only"};
  }
  return {CheckLevel::kOk, "memory", detail, ""};
}

CheckResult CheckDisk(const std::string& run_folder) {
  const std::string folder = NearestFolder(run_folder);
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) {
    return {CheckLevel::kFail, "disk", folder + ": " + strerror(errno), "choose another folder"};
  }
  const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
  const std::string detail = HumanBytes(free) + " free at " + folder;
  if (::access(folder.c_str(), W_OK) != 0) {
    return {CheckLevel::kFail, "disk", folder + " is not writable",
            "choose another folder (run.output_dir) or change its owner"};
  }
  if (free < kDiskFailBytes) {
    return {CheckLevel::kFail, "disk", detail, "free some space or choose another folder"};
  }
  if (free < kDiskWarnBytes) {
    return {CheckLevel::kWarn, "disk", detail, "checkpoints of large models may not fit"};
  }
  return {CheckLevel::kOk, "disk", detail, ""};
}

CheckResult CheckDescriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return {CheckLevel::kWarn, "open files", strerror(errno), ""};
  }
  const std::string detail =
      limit.rlim_cur == RLIM_INFINITY ? "no limit" : "at most " + std::to_string(limit.rlim_cur);
  if (limit.rlim_cur >= kDescriptorsWanted) return {CheckLevel::kOk, "open files", detail, ""};
  return {CheckLevel::kWarn, "open files", detail,
          "a coordinator with many workers needs more: ulimit -n " +
              std::to_string(kDescriptorsWanted)};
}

namespace {

// "580.65.06" of the kernel's "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  ...": the
// first word with a dot that starts with a digit. `major`: 0 when there is none.
std::string DriverVersion(const std::string& line, int& major) {
  for (size_t at = 0; at < line.size();) {
    const size_t end = std::min(line.find(' ', at), line.size());
    const std::string word = line.substr(at, end - at);
    const auto result = std::from_chars(word.data(), word.data() + word.size(), major);
    if (result.ec == std::errc() && result.ptr != word.data() + word.size() && *result.ptr == '.') {
      return word;
    }
    at = end + 1;
  }
  major = 0;
  return "";
}

std::string Dotted(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

// Of the GPUs themselves, below a driver that is good enough.
CheckResult JudgeGpus(const std::string& driver, const GpuFacts& facts) {
  if (!facts.problem.empty()) {
    return {CheckLevel::kWarn, "GPU", driver + ", but CUDA does not start: " + facts.problem,
            "in a container it must be given the GPU; until then the CPU is used"};
  }
  if (facts.gpus.empty()) {
    return {CheckLevel::kWarn, "GPU", driver + ", and no GPU",
            "does nvidia-smi show one? until then the CPU is used"};
  }
  std::string detail = driver;
  bool old = false;
  for (const GpuFacts::Gpu& gpu : facts.gpus) {
    detail += "; " + gpu.name + " (compute capability " + Dotted(gpu.major, gpu.minor) + ", " +
              HumanBytes(gpu.memory_bytes) + ")";
    old = old || gpu.major * 10 + gpu.minor < kOldestCapability;
  }
  detail += facts.nccl.empty() ? "; no NCCL found" : "; NCCL " + facts.nccl;
  if (old) {
    return {CheckLevel::kWarn, "GPU", detail,
            "CUDA 13 needs compute capability " +
                Dotted(kOldestCapability / 10, kOldestCapability % 10) +
                " (Turing, 2018) or newer; an older GPU is not used"};
  }
  if (facts.nccl.empty() && facts.gpus.size() > 1) {
    return {CheckLevel::kWarn, "GPU", detail,
            "./setup.sh --gpu installs NCCL, which joins several GPUs to one worker"};
  }
  return {CheckLevel::kOk, "GPU", detail, ""};
}

}  // namespace

CheckResult CheckGpu(const std::string& proc, const GpuFacts& facts) {
  const auto text = ReadSmallFile(proc + "/driver/nvidia/version", kKernelFileBytes);
  if (!text.ok() && !facts.driver) {
    return {CheckLevel::kOk, "GPU", "no NVIDIA driver: training uses the CPU", ""};
  }
  const std::string line = text.ok() ? FirstLine(*text) : "";
  int major = 0;
  const std::string version = DriverVersion(line, major);
  if (version.empty() && facts.cuda_version < kCudaVersion) {
    return {CheckLevel::kWarn, "GPU", "NVIDIA driver of unknown version: " + line, ""};
  }
  const std::string driver = "NVIDIA driver " + (version.empty() ? "for CUDA 13" : version);
  if (!version.empty() && major < kOldestDriver) {
    return {CheckLevel::kWarn, "GPU", driver,
            "the GPU needs driver " + std::to_string(kOldestDriver) +
                " or newer (CUDA 13); until then the CPU is used"};
  }
  if (!facts.driver) {
    return {CheckLevel::kWarn, "GPU", driver + ", but no libcuda.so.1",
            "install the driver's user-space library (libcuda1 on Debian)"};
  }
  return JudgeGpus(driver, facts);
}

CheckResult CheckClock() {
  const time_t now = ::time(nullptr);
  char text[64] = "";
  tm parts{};
  if (::gmtime_r(&now, &parts)) std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  if (now < kEarliestNow) {
    return {CheckLevel::kFail, "clock", text, "set the clock: invitations expire by it"};
  }
  timex state{};
  if (::adjtimex(&state) == TIME_ERROR) {
    return {CheckLevel::kOk, "clock", std::string(text) + ", not synchronised by the kernel", ""};
  }
  return {CheckLevel::kOk, "clock", text, ""};
}

CheckResult CheckTcp(const std::string& proc) {
  const auto read = [&](const char* name) {
    const auto text = ReadSmallFile(proc + "/sys/net/ipv4/" + name, kKernelFileBytes);
    return text.ok() ? FirstLine(*text) : std::string();
  };
  const std::string chosen = read("tcp_congestion_control");
  if (chosen.empty()) return {CheckLevel::kOk, "TCP", "unknown: no " + proc + "/sys/net", ""};
  const std::string allowed = " " + read("tcp_allowed_congestion_control") + " ";
  const bool bbr = chosen == "bbr" || allowed.find(" bbr ") != std::string::npos;
  const bool forgets = read("tcp_slow_start_after_idle") == "1";
  if (bbr)
    return {CheckLevel::kOk, "TCP", "BBR may be used (the system's own: " + chosen + ")", ""};
  return {CheckLevel::kWarn, "TCP",
          chosen + ", BBR is not allowed" + (forgets ? ", slow start after every pause" : ""),
          "on long or lossy paths this is many times slower: sudo sysctl -w "
          "net.ipv4.tcp_congestion_control=bbr net.ipv4.tcp_slow_start_after_idle=0"};
}

CheckResult CheckCoordinator(const DoctorOptions& options, LinkFacts* facts) {
  const HostPort& target = *options.coordinator;
  const std::string address = target.host + ":" + std::to_string(target.port);
  const absl::StatusOr<std::string> peer = TryConnect(target, options.connect_timeout);
  if (!peer.ok()) {
    return {CheckLevel::kFail, kCoordinatorCheck,
            address + ": " + std::string(peer.status().message()),
            absl::IsNotFound(peer.status())
                ? "check the address, and this machine's name service"
                : "is the coordinator running? does a firewall block outbound TCP to port " +
                      std::to_string(target.port) + "?"};
  }
  const absl::StatusOr<LinkFacts> link =
      options.handshake ? options.handshake(target) : LinkFacts{};
  if (!link.ok()) {
    return {CheckLevel::kFail, kCoordinatorCheck,
            address + " is open, but: " + std::string(link.status().message()),
            "ask the run's operator for a new invitation"};
  }
  std::string detail = address + " answers (" + *peer + ")";
  if (link->round_trip_ms > 0) {
    char text[64];
    std::snprintf(text, sizeof text, ", round trip %.1f ms", link->round_trip_ms);
    detail += text;
  }
  if (!link->congestion_control.empty()) detail += ", " + link->congestion_control;
  *facts = *link;
  return {CheckLevel::kOk, kCoordinatorCheck, detail, ""};
}

CheckResult CheckLink(const LinkFacts& facts) {
  if (facts.up_bytes_per_s <= 0 || facts.down_bytes_per_s <= 0) {
    return {CheckLevel::kWarn, "link", "not measured: " + facts.problem, ""};
  }
  char text[128];
  std::snprintf(text, sizeof text, "%.4g Mbit/s up, %.4g Mbit/s down", facts.up_bytes_per_s * 8e-6,
                facts.down_bytes_per_s * 8e-6);
  return {CheckLevel::kOk, "link", text, ""};
}

std::vector<CheckResult> RunDoctor(const DoctorOptions& options) {
  std::vector<CheckResult> out = {{CheckLevel::kOk, "longhaul", options.version, ""},
                                  CheckWorkerProgram(options),
                                  CheckThreads(),
                                  CheckMemory(options.proc, options.cgroup),
                                  CheckDisk(options.run_folder),
                                  CheckDescriptors(),
                                  CheckGpu(options.proc, options.probe_gpu()),
                                  CheckTcp(options.proc),
                                  CheckClock()};
  if (options.coordinator) {
    LinkFacts link;
    out.push_back(CheckCoordinator(options, &link));
    const bool connected = out.back().level != CheckLevel::kFail;
    if (connected && options.handshake) out.push_back(CheckLink(link));
    if (connected && options.verdict) out.push_back(options.verdict(link));
  }
  return out;
}

std::string FormatDoctor(const std::vector<CheckResult>& results) {
  TextTable table({"check", "", "found"});
  std::string steps;
  for (const CheckResult& r : results) {
    table.AddRow({r.name, LevelName(r.level), r.detail});
    if (!r.next.empty()) steps += "  " + r.name + ": " + r.next + "\n";
  }
  return table.ToString() + (steps.empty() ? "" : "\nnext:\n" + steps);
}

std::string DoctorJson(const std::vector<CheckResult>& results) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const CheckResult& r : results) {
    checks.push_back(
        {{"level", LevelName(r.level)}, {"name", r.name}, {"detail", r.detail}, {"next", r.next}});
  }
  const nlohmann::ordered_json json{{"ok", DoctorExitCode(results) == kExitOk},
                                    {"checks", std::move(checks)}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

ExitCode DoctorExitCode(const std::vector<CheckResult>& results) {
  ExitCode code = kExitOk;
  for (const CheckResult& r : results) {
    if (r.level != CheckLevel::kFail) continue;
    if (r.name != kCoordinatorCheck) return kExitFailure;
    code = kExitUnreachable;
  }
  return code;
}

}  // namespace longhaul
