#include "wan/sim/fuzz.h"

#include <poll.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>

#include "common/rng.h"
#include "common/status_macros.h"
#include "wan/sim/seed_process.h"

namespace longhaul::sim {
namespace {

constexpr uint32_t kMaxProcesses = 256;
constexpr int kPollMs = 200;

void Count(const SeedProcess::Report& report, FuzzSummary& s) {
  const WorldResult& r = report.result.world;
  ++s.seeds;
  s.simulated += r.simulated;
  for (size_t k = 0; k < kFaultKinds; ++k) s.faults[k] += r.faults[k];
  s.leases += r.leases;
  s.commits += r.commits;
  s.committed += r.committed;
  s.lost += r.lost;
  s.twice += r.twice;
  s.policies.Add(r.policies);
  s.restarts += r.restarts;
  s.refused += r.refused ? 1 : 0;
  s.finished += r.finished ? 1 : 0;
  s.reruns += report.reran ? 1 : 0;
  s.rerun_mismatches += report.mismatch ? 1 : 0;
  if (report.result.failed()) s.failures.push_back(report.result);
}

// Runs all seeds on some processes; a process that breaks is replaced by one for what it left.
class Farm {
 public:
  Farm(const FuzzOptions& options, const std::function<void(const FuzzSummary&)>& on_progress)
      : options_(options), on_progress_(on_progress) {}

  absl::StatusOr<FuzzSummary> Run() {
    const uint32_t count = static_cast<uint32_t>(
        std::min<uint64_t>(options_.processes, std::max<uint64_t>(1, options_.seeds)));
    for (uint32_t i = 0; i < count; ++i) {
      std::vector<uint64_t> seeds;
      for (uint64_t s = i; s < options_.seeds; s += count) seeds.push_back(options_.first + s);
      RETURN_IF_ERROR(Start(std::move(seeds)));
    }
    while (!processes_.empty() && !Enough()) RETURN_IF_ERROR(Wait());
    for (const auto& [seed, hash] : hashes_)
      summary_.trace_hash = Draw(summary_.trace_hash, {hash});
    return summary_;
  }

 private:
  bool Enough() const {
    if (options_.stop && *options_.stop > 0) return true;
    return options_.most_failures > 0 && summary_.failures.size() >= options_.most_failures;
  }

  absl::Status Start(std::vector<uint64_t> seeds) {
    if (seeds.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(auto process,
                     SeedProcess::Start(options_.world, std::move(seeds), options_.rerun_one_in));
    processes_.push_back(std::move(process));
    return absl::OkStatus();
  }

  absl::Status Wait() {
    std::vector<pollfd> polled;
    for (const auto& p : processes_) polled.push_back({p->descriptor(), POLLIN, 0});
    ::poll(polled.data(), polled.size(), kPollMs);
    for (size_t i = polled.size(); i-- > 0;) {
      if (polled[i].revents != 0) RETURN_IF_ERROR(ReadFrom(i));
    }
    return absl::OkStatus();
  }

  absl::Status ReadFrom(size_t i) {
    std::vector<SeedProcess::Report> reports;
    const bool alive = processes_[i]->Read(reports);
    for (const SeedProcess::Report& report : reports) Take(report);
    if (alive) return absl::OkStatus();
    const std::unique_ptr<SeedProcess> ended = std::move(processes_[i]);
    processes_.erase(processes_.begin() + static_cast<ptrdiff_t>(i));
    std::vector<uint64_t> rest = ended->unreported();
    if (rest.empty()) return absl::OkStatus();
    SeedProcess::Report broken;
    broken.result.world.seed = rest[0];
    broken.result.broken = ended->LastWords();
    Take(broken);
    rest.erase(rest.begin());
    return Start(std::move(rest));
  }

  void Take(const SeedProcess::Report& report) {
    Count(report, summary_);
    hashes_[report.result.world.seed] = report.result.world.trace_hash;
    if (on_progress_) on_progress_(summary_);
  }

  const FuzzOptions& options_;
  const std::function<void(const FuzzSummary&)>& on_progress_;
  FuzzSummary summary_;
  std::map<uint64_t, uint64_t> hashes_;
  std::vector<std::unique_ptr<SeedProcess>> processes_;
};

// What failed: the same thing must fail in a shrunk run.
std::string Cause(const SeedResult& r) {
  if (!r.broken.empty()) return r.broken;
  return r.world.violations.empty() ? "" : r.world.violations[0].checker;
}

}  // namespace

std::string SeedResult::Why() const {
  if (!broken.empty()) return broken;
  if (world.violations.empty()) return "";
  const Violation& v = world.violations[0];
  return v.checker + " at " + TimeText(v.when) + ": " + v.what;
}

uint64_t FuzzSummary::total_faults() const {
  return std::accumulate(faults.begin(), faults.end(), uint64_t{0});
}

absl::StatusOr<FuzzSummary> Fuzz(const FuzzOptions& options,
                                 const std::function<void(const FuzzSummary&)>& on_progress) {
  if (options.processes == 0 || options.processes > kMaxProcesses)
    return absl::InvalidArgumentError("the number of processes is out of range");
  return Farm(options, on_progress).Run();
}

absl::StatusOr<SeedResult> RunSeed(const WorldOptions& options) {
  FuzzOptions one{.first = options.seed, .seeds = 1, .processes = 1, .rerun_one_in = 0};
  one.world = options;
  SeedResult result;
  result.world.seed = options.seed;
  ASSIGN_OR_RETURN(FuzzSummary summary, Fuzz(one, {}));
  if (!summary.failures.empty()) result = summary.failures[0];
  return result;
}

absl::StatusOr<Shrunk> Shrink(const WorldOptions& failing, const SeedResult& result) {
  Shrunk best{failing, result, 0};
  best.options.trace = {};
  auto try_with = [&](const WorldOptions& smaller) -> absl::StatusOr<bool> {
    ++best.runs;
    ASSIGN_OR_RETURN(SeedResult r, RunSeed(smaller));
    if (!r.failed() || Cause(r) != Cause(result)) return false;
    best.options = smaller;
    best.result = r;
    return true;
  };
  for (size_t k = 0; k < kFaultKinds; ++k) {
    const uint64_t bit = FaultBit(static_cast<FaultKind>(k));
    if (best.options.faults_off & bit) continue;
    WorldOptions smaller = best.options;
    smaller.faults_off |= bit;
    RETURN_IF_ERROR(try_with(smaller).status());
  }
  for (int i = 0; i < 6; ++i) {
    WorldOptions smaller = best.options;
    smaller.length_per_mille = smaller.length_per_mille * 2 / 3;
    ASSIGN_OR_RETURN(bool still, try_with(smaller));
    if (!still) break;
  }
  return best;
}

std::string RerunCommand(const WorldOptions& options) {
  std::string command = "longhaul wan rerun --seed " + std::to_string(options.seed);
  std::string without;
  for (size_t k = 0; k < kFaultKinds; ++k) {
    const auto kind = static_cast<FaultKind>(k);
    if (!(options.faults_off & FaultBit(kind))) continue;
    without += (without.empty() ? "" : ",") + std::string(FaultName(kind));
  }
  if (!without.empty()) command += " --without " + without;
  if (options.length_per_mille != 1000)
    command += " --length " + std::to_string(options.length_per_mille);
  return command;
}

}  // namespace longhaul::sim
