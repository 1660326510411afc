#include "bench/wan_lab.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "wan/emulate/host_process.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;
using wan::HostCommand;
using wan::HostProcess;

constexpr double kTcpShare = 1448.0 / 1500;
constexpr double kExchangeLimitS = 180;
constexpr double kServerStartS = 3;

void Pause() { ::poll(nullptr, 0, 20); }

double Least(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double Sum(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Whole objects, one a line; anything else is passed over.
std::vector<json> JsonLines(const std::string& text) {
  std::vector<json> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object()) out.push_back(std::move(object));
  }
  return out;
}

}  // namespace

wan::Scenario ScenarioOf(const WanPath& path) {
  wan::Scenario out;
  out.file = "bench";
  for (size_t i = 0; i < path.mbit.size(); ++i) {
    wan::Node node;
    node.name = absl::StrCat("h", i);
    node.access.up_mbit = node.access.down_mbit = path.mbit[i];
    // Half of the way belongs to either end, and half of the losses.
    node.access.round_trip = Duration(static_cast<int64_t>(path.round_trip_ms * 0.5e6));
    node.access.loss_percent = path.loss_percent / 2;
    node.kernel = path.stock ? wan::HostKernel::kStock : wan::HostKernel::kTuned;
    out.nodes.push_back(node);
  }
  return out;
}

double ExchangeBoundS(const WanPath& path, uint64_t bytes) {
  const double bits = static_cast<double>(bytes) * 8 / kTcpShare;
  const auto peers = static_cast<double>(path.mbit.size());
  const double transfer =
      std::max(bits / (Least(path.mbit) * 1e6), 2 * (peers - 1) * bits / (Sum(path.mbit) * 1e6));
  return transfer + path.round_trip_ms / 1000;
}

std::vector<double> ExchangeWeights(const WanPath& path, uint64_t bytes) {
  const double bits = static_cast<double>(bytes) * 8 / kTcpShare;
  const double transfer = ExchangeBoundS(path, bytes) - path.round_trip_ms / 1000;
  std::vector<double> out;
  for (double mbit : path.mbit) out.push_back(std::max(0.0, transfer * mbit * 1e6 / bits - 1));
  if (Sum(out) <= 0) out.assign(out.size(), 1);  // two equal hosts: any slices do
  return out;
}

absl::StatusOr<std::unique_ptr<WanBenchLab>> WanBenchLab::Create(const WanPath& path,
                                                                 const std::string& program_folder,
                                                                 const std::string& work_folder) {
  auto out = std::unique_ptr<WanBenchLab>(new WanBenchLab());
  out->path_ = path;
  out->program_folder_ = program_folder;
  out->work_folder_ = work_folder;
  ASSIGN_OR_RETURN(out->lab_, wan::TunLab::Create(ScenarioOf(path)));
  return out;
}

std::string WanBenchLab::OutputOf(uint32_t host) const {
  return absl::StrCat(work_folder_, "/", run_, "-", host, ".out");
}

// One program per host; fails when any does.
absl::Status WanBenchLab::RunAll(const std::vector<std::vector<std::string>>& argv,
                                 double limit_s) {
  ++run_;
  std::vector<std::unique_ptr<HostProcess>> processes;
  for (uint32_t host = 0; host < argv.size(); ++host) {
    HostCommand command;
    command.argv = argv[host];
    command.output_file = OutputOf(host);
    ASSIGN_OR_RETURN(auto process, HostProcess::Start(&lab_->host(host), command));
    processes.push_back(std::move(process));
  }
  const auto until = Clock::now() + std::chrono::duration<double>(limit_s);
  for (uint32_t host = 0; host < processes.size(); ++host) {
    while (!processes[host]->Poll() && Clock::now() < until) Pause();
    const std::optional<int> code = processes[host]->Poll();
    if (code == 0) continue;
    const std::string text = ReadFile(OutputOf(host));
    return absl::InternalError(
        absl::StrCat(argv[host][0], " on h", host,
                     code ? " failed: " : " took too long: ", text.substr(0, 300)));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExchangeResult> WanBenchLab::Exchange(const ExchangeSpec& spec) {
  std::vector<std::string> hosts;
  for (uint32_t i = 0; i < path_.mbit.size(); ++i) hosts.push_back(lab_->host(i).address());
  std::vector<std::vector<std::string>> argv;
  for (size_t rank = 0; rank < hosts.size(); ++rank) {
    std::vector<std::string> words = {program_folder_ + "/longhaul-bench", "wan-peer"};
    const auto add = [&](const char* option, const std::string& value) {
      words.insert(words.end(), {option, value});
    };
    add("--rank", std::to_string(rank));
    add("--hosts", absl::StrJoin(hosts, ","));
    add("--bytes", std::to_string(spec.bytes / 4 * 4));
    add("--rounds", std::to_string(spec.rounds));
    add("--idle", std::to_string(spec.idle_s));
    add("--window", std::to_string(spec.window_bytes));
    add("--stripes", std::to_string(spec.stripes));
    // Two milliseconds of the slowest link, as DESIGN section 7 bounds it.
    const double chunk = std::clamp(Least(path_.mbit) * 1e6 / 8 * 0.002, 65'536.0, 1048'576.0);
    add("--chunk", std::to_string(static_cast<uint64_t>(chunk) / 4096 * 4096));
    if (spec.heartbeats) words.push_back("--heartbeats");
    if (spec.weighted) {
      add("--weights", absl::StrJoin(ExchangeWeights(path_, spec.bytes), ","));
    }
    argv.push_back(std::move(words));
  }
  RETURN_IF_ERROR(RunAll(argv, kExchangeLimitS));
  ExchangeResult out;
  double cpu_s = 0;
  for (uint32_t host = 0; host < hosts.size(); ++host) {
    for (const json& round : JsonLines(ReadFile(OutputOf(host)))) {
      if (!round.value("correct", false)) return absl::InternalError("a sum is wrong");
      cpu_s += round.value("cpu_seconds", 0.0);
      for (double ms : round.value("heartbeat_ms", std::vector<double>())) {
        out.heartbeat_ms.push_back(ms);
      }
      if (host > 0) continue;
      out.seconds.push_back(round.value("seconds", 0.0));
      out.stripes = round.value("stripes", 0u);
      out.window_bytes = round.value("window_bytes", uint64_t{0});
      out.congestion_control = round.value("congestion_control", "");
    }
  }
  const double peers = static_cast<double>(hosts.size());
  const double gbit = static_cast<double>(spec.bytes) * 8e-9 * 2 * (peers - 1) / peers;
  if (out.seconds.empty()) return absl::InternalError("no rounds were measured");
  out.cpu_s_per_gbit = cpu_s / (gbit * static_cast<double>(out.seconds.size()));
  return out;
}

absl::StatusOr<std::vector<double>> WanBenchLab::Gloo(uint64_t bytes, uint32_t rounds) {
  const std::string program = program_folder_ + "/longhaul-gloo-peer";
  if (::access(program.c_str(), X_OK) != 0) {
    return absl::NotFoundError("gloo was not found when this was built (libgloo-dev)");
  }
  const std::string store = absl::StrCat(work_folder_, "/gloo", run_);
  std::filesystem::create_directories(store);
  std::vector<std::vector<std::string>> argv;
  const size_t size = path_.mbit.size();
  for (size_t rank = 0; rank < size; ++rank) {
    argv.push_back({program, std::to_string(rank), std::to_string(size),
                    lab_->host(static_cast<uint32_t>(rank)).address(), std::to_string(bytes),
                    std::to_string(rounds), store});
  }
  RETURN_IF_ERROR(RunAll(argv, kExchangeLimitS));
  std::vector<double> out;
  for (const json& round : JsonLines(ReadFile(OutputOf(0)))) {
    out.push_back(round.value("seconds", 0.0));
  }
  if (out.empty()) return absl::InternalError("gloo measured nothing");
  return out;
}

absl::StatusOr<double> WanBenchLab::Iperf(double seconds, uint32_t streams, bool both_ways) {
  ++run_;
  HostCommand server;
  server.argv = {"iperf3", "-s", "-1"};
  server.output_file = OutputOf(1);
  ASSIGN_OR_RETURN(auto serving, HostProcess::Start(&lab_->host(1), server));
  HostCommand client;
  // Two seconds are left out: the start.
  client.argv = {"iperf3", "-c", lab_->host(1).address(), "-J", "-t", std::to_string(seconds), "-O",
                 "2",      "-P", std::to_string(streams)};
  if (!path_.stock) client.argv.insert(client.argv.end(), {"-C", "bbr"});
  if (both_ways) client.argv.push_back("--bidir");
  client.output_file = OutputOf(0);
  const auto until = Clock::now() + std::chrono::duration<double>(kServerStartS);
  while (Clock::now() < until) {  // until the server listens
    std::filesystem::remove(client.output_file);
    ASSIGN_OR_RETURN(auto process, HostProcess::Start(&lab_->host(0), client));
    if (process->Wait() == 0) break;
    Pause();
  }
  const json result = json::parse(ReadFile(OutputOf(0)), nullptr, /*allow_exceptions=*/false);
  const auto rate = [&](const char* key) {
    return result.value(json::json_pointer(absl::StrCat("/end/", key, "/bits_per_second")), 0.0);
  };
  if (!result.is_object() || !result.contains("end")) {
    return absl::InternalError("iperf3 failed: " + ReadFile(OutputOf(0)).substr(0, 300));
  }
  if (!both_ways) return rate("sum_received") / 1e6;
  return (rate("sum_received") + rate("sum_received_bidir_reverse")) / 2 / 1e6;
}

}  // namespace longhaul
