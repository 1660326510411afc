// Peak memory of real processes: a coordinator with toy workers on this machine trains a few
// rounds, then the coordinator starts again from what is on disk. What counts is the peak resident
// set that the kernel knows (VmHWM), read while the process lives.
//
// Bounds, with one copy = 4 bytes per parameter:
//   coordinator  7 copies + 4 MiB of upload credit per worker + 60 MB
//   toy worker   its θ (a toy has no inner state) + 4 copies + one coded contribution + 60 MB
#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/suite.h"
#include "cli/child_process.h"
#include "common/status_macros.h"
#include "compression/codec.h"
#include "coordinator/reducer_thread.h"
#include "model/llama.h"
#include "model/test_folder.h"
#include "proto/chunk.h"
#include "proto/run_config.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kProgramBytes = 60e6;  // code, libraries, sockets, logs
// Enough for everything that is kept from round to round to be there.
constexpr uint32_t kRounds = 6;
constexpr double kCoordinatorCopies = 7;
constexpr double kWorkerCopies = 5;  // θ and four more
constexpr auto kSampleEvery = std::chrono::milliseconds(10);
constexpr auto kStartLimit = std::chrono::seconds(60);
constexpr auto kRunLimit = std::chrono::seconds(300);

// A started program and its latest VmHWM, which only grows. The largest of all readings would be
// wrong: before a child becomes another program, its peak is ours.
struct Watched {
  std::unique_ptr<ChildProcess> process;
  std::string log;
  uint64_t peak_bytes = 0;

  void Look() {
    std::ifstream file(absl::StrCat("/proc/", process->pid(), "/status"));
    for (std::string word; file >> word;) {
      uint64_t kib = 0;
      if (word == "VmHWM:" && file >> kib) peak_bytes = kib * 1024;
    }
  }
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The end of a log, for a message.
std::string Tail(const std::string& path) {
  constexpr size_t kMost = 300;
  const std::string text = ReadFile(path);
  return text.substr(text.size() - std::min(kMost, text.size()));
}

class MemoryRun {
 public:
  MemoryRun(std::string program_folder, std::string preset, uint32_t workers)
      : programs_(std::move(program_folder)), preset_(std::move(preset)), workers_(workers) {}

  struct Peaks {
    uint64_t coordinator_bytes = 0;
    uint64_t restart_bytes = 0;  // of a coordinator that starts from what the first one left
    uint64_t worker_bytes = 0;   // the highest
  };

  absl::StatusOr<Peaks> Measure() {
    std::ofstream(Path("run.toml")) << Toml();
    RETURN_IF_ERROR(StartCoordinator());
    RETURN_IF_ERROR(StartWorkers());
    RETURN_IF_ERROR(Watch(kRunLimit, [this] { return RoundsDone() >= kRounds; }));
    Peaks peaks{.coordinator_bytes = coordinator_.peak_bytes};
    for (const Watched& worker : started_) {
      peaks.worker_bytes = std::max(peaks.worker_bytes, worker.peak_bytes);
    }
    started_.clear();  // killed
    RETURN_IF_ERROR(StartCoordinator());
    peaks.restart_bytes = coordinator_.peak_bytes;
    return peaks;
  }

 private:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string Invitation() const { return Path("run/invitation"); }

  std::string Toml() const {
    return absl::StrCat("[run]\nname = \"memory\"\nrounds = ", kRounds,
                        "\nmin_workers = ", workers_, "\noutput_dir = \"", Path("run"),
                        "\"\n[model]\npreset = \"", preset_,
                        "\"\n[train]\noptimizer = \"toy\"\n[sync]\ninner_steps = 1\n",
                        "[checkpoint]\nevery_rounds = 1\n",
                        "[network]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n");
  }

  absl::StatusOr<Watched> Start(std::vector<std::string> argv, const std::string& name) {
    Watched watched{.log = Path(name + ".log")};
    argv[0] = programs_ + "/" + argv[0];
    ASSIGN_OR_RETURN(watched.process, ChildProcess::Start(argv, watched.log));
    return watched;
  }

  // Until it is ready for workers. One that runs already is killed first.
  absl::Status StartCoordinator() {
    coordinator_ = {};
    std::filesystem::remove(Invitation());
    ASSIGN_OR_RETURN(coordinator_, Start({"longhaul", "coordinator", Path("run.toml"),
                                          "--json-lines", "--invitation-uses", "64"},
                                         "coordinator"));
    return Watch(kStartLimit, [this] { return ReadFile(Invitation()).ends_with('\n'); });
  }

  // The coordinator prints a JSON object per round.
  uint32_t RoundsDone() const {
    std::ifstream file(coordinator_.log);
    uint32_t rounds = 0;
    for (std::string line; std::getline(file, line);) rounds += line.starts_with('{');
    return rounds;
  }

  absl::Status StartWorkers() {
    for (uint32_t i = 0; i < workers_; ++i) {
      const std::string name = absl::StrCat("w", i + 1);
      ASSIGN_OR_RETURN(Watched worker, Start({"longhaul-worker-toy", "@" + Invitation(), "--name",
                                              name, "--home", Path(name), "--threads", "1"},
                                             name));
      started_.push_back(std::move(worker));
    }
    return absl::OkStatus();
  }

  // Nobody may end meanwhile.
  template <class Done>
  absl::Status Watch(Clock::duration limit, Done&& done) {
    const auto deadline = Clock::now() + limit;
    while (true) {
      coordinator_.Look();
      for (Watched& worker : started_) worker.Look();
      if (done()) return absl::OkStatus();
      for (const Watched& worker : started_) {
        if (worker.process->Poll()) return Failed(worker);
      }
      if (coordinator_.process->Poll() || Clock::now() > deadline) return Failed(coordinator_);
      std::this_thread::sleep_for(kSampleEvery);
    }
  }

  static absl::Status Failed(const Watched& watched) {
    return absl::UnavailableError("the run did not go well: " + Tail(watched.log));
  }

  const std::string programs_;
  const std::string preset_;
  const uint32_t workers_;
  const TestFolder folder_;
  Watched coordinator_;
  std::vector<Watched> started_;  // workers
};

uint64_t CodedBytes(uint64_t parameters) {
  const Codec& codec = *FindCodec(*CodecByName(RunConfig().sync.codec));
  uint64_t bytes = 0;
  for (uint64_t at = 0; at < parameters; at += kChunkElements) {
    bytes += codec.EncodedBytes(std::min(kChunkElements, parameters - at));
  }
  return bytes;
}

Result Peak(const std::string& name, uint64_t bytes, double bound_bytes) {
  Result r{.suite = "memory", .name = name, .unit = "MB", .target = bound_bytes / 1e6};
  r.kind = ResultKind::kGate;
  r.relation = Relation::kAtMost;
  if (bytes != 0) r.value = static_cast<double>(bytes) / 1e6;
  return r;
}

std::vector<Result> RunMemory(const Bench& bench, const std::string& preset) {
  const uint64_t parameters = ParameterCount(*PresetShape(preset));
  const double copy = 4.0 * static_cast<double>(parameters);
  const double worker_bound =
      kWorkerCopies * copy + static_cast<double>(CodedBytes(parameters)) + kProgramBytes;
  std::vector<Result> results;
  for (uint32_t workers : {2u, 8u}) {
    auto peaks = MemoryRun(bench.program_folder, preset, workers).Measure();
    const MemoryRun::Peaks p = peaks.ok() ? *peaks : MemoryRun::Peaks();
    const double credit = static_cast<double>(workers * kUploadWindowBytes);
    const std::string suffix = absl::StrCat("_", workers, "_workers");
    const double bound = kCoordinatorCopies * copy + credit + kProgramBytes;
    results.push_back(Peak("coordinator" + suffix, p.coordinator_bytes, bound));
    results.push_back(Peak("coordinator_restart" + suffix, p.restart_bytes, bound));
    results.push_back(Peak("toy_worker" + suffix, p.worker_bytes, worker_bound));
    for (size_t i = results.size() - 3; i < results.size(); ++i) {
      if (!peaks.ok()) results[i].note = std::string(peaks.status().message());
    }
  }
  if (results[0].note.empty()) {
    results[0].note = absl::StrCat(preset, ": one copy of the model is ", copy / 1e6, " MB");
  }
  return results;
}

}  // namespace

void AddMemory(CLI::App& app, Bench& bench) {
  CLI::App* suite =
      AddSuite(app, bench, "memory", "Peak memory of coordinator and toy workers against bounds");
  auto preset = std::make_shared<std::string>();
  suite->add_option("--preset", *preset, "model (llama-10m; with --quick llama-1m)")
      ->check(CLI::IsMember(PresetNames()));
  suite->callback([preset, &bench] {
    if (preset->empty()) *preset = bench.quick ? "llama-1m" : "llama-10m";
    bench.run = [preset, &bench] { return RunMemory(bench, *preset); };
  });
}

}  // namespace longhaul
