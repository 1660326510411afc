// Measurements over an emulated path: several machines in tier `tun`, and the programs that are
// raced on it. Everything of one lab runs in one process tree, one measurement after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/scenario.h"
#include "wan/tun_lab.h"

namespace longhaul {

// Equal round trips between all pairs; loss end to end.
struct WanPath {
  std::vector<double> mbit;  // up and down, by host
  double round_trip_ms = 100;
  double loss_percent = 0;
  bool stock = false;  // kernels as distributions ship them
};
wan::Scenario ScenarioOf(const WanPath& path);

// An all-reduce of `bytes` on every host of a path.
struct ExchangeSpec {
  uint64_t bytes = 0;
  uint32_t rounds = 3;
  double idle_s = 0;
  bool weighted = false;      // slices by rate; otherwise equal
  uint64_t window_bytes = 0;  // 0: as measured
  uint32_t stripes = 0;       // 0: on demand
  bool heartbeats = false;    // measure small messages meanwhile
};

// Least time of a direct, sharded all-reduce with the best slices, at TCP's 1448 of 1500 bytes:
// max(M / min c, 2(N-1)M / Σc) + one round trip. Seconds.
double ExchangeBoundS(const WanPath& path, uint64_t bytes);
// Slices that reach it: w_i in proportion to T c_i / M - 1.
std::vector<double> ExchangeWeights(const WanPath& path, uint64_t bytes);

struct ExchangeResult {
  std::vector<double> seconds;  // per round, of the first host
  double cpu_s_per_gbit = 0;    // all hosts together, per Gbit that one host sent
  uint32_t stripes = 0;
  uint64_t window_bytes = 0;
  std::string congestion_control;
  std::vector<double> heartbeat_ms;  // there and back, of all hosts
};

// Inside RunInLab only.
class WanBenchLab {
 public:
  // `program_folder`: where longhaul-bench is.
  static absl::StatusOr<std::unique_ptr<WanBenchLab>> Create(const WanPath& path,
                                                             const std::string& program_folder,
                                                             const std::string& work_folder);

  absl::StatusOr<ExchangeResult> Exchange(const ExchangeSpec& spec);
  // gloo's ring, the same payload. NotFound when longhaul-gloo-peer was not built.
  absl::StatusOr<std::vector<double>> Gloo(uint64_t bytes, uint32_t rounds);
  // Mbit/s of goodput from host 0 to host 1, or both ways at once (the sum of both, halved).
  // NotFound when iperf3 is not installed.
  absl::StatusOr<double> Iperf(double seconds, uint32_t streams, bool both_ways);
  // Milliseconds: median of UDP-free round trips, by TCP's own smallest estimate.
  void ResetLateness() { lab_->ResetLateness(); }
  wan::EmulatorReport report() const { return lab_->report(); }

 private:
  WanBenchLab() = default;
  absl::Status RunAll(const std::vector<std::vector<std::string>>& argv, double limit_s);
  std::string OutputOf(uint32_t host) const;

  WanPath path_;
  std::string program_folder_;
  std::string work_folder_;
  uint32_t run_ = 0;
  std::unique_ptr<wan::TunLab> lab_;
};

}  // namespace longhaul
