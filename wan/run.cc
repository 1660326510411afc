#include "wan/run.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "cli/config.h"
#include "common/status_macros.h"

namespace longhaul::wan {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int kLookEveryMs = 10;
constexpr Duration kStartLimit = Seconds(30);  // of the coordinator
constexpr Duration kStopLimit = Seconds(10);   // for everybody to leave by themselves
constexpr size_t kMaxLineBytes = 1 << 20;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }

// Lines of a pipe that is never waited for.
class LineReader {
 public:
  LineReader() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    read_ = ends[0];
    write_ = ends[1];
    ::fcntl(read_, F_SETFL, O_NONBLOCK);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() {
    ::close(read_);
    ::close(write_);
  }
  int write_end() const { return write_; }

  std::vector<std::string> Take() {
    char block[16 * 1024];
    ssize_t n;
    while ((n = ::read(read_, block, sizeof block)) > 0) {
      rest_.append(block, static_cast<size_t>(n));
    }
    std::vector<std::string> lines;
    size_t begin = 0;
    for (size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      lines.push_back(rest_.substr(begin, end - begin));
    }
    rest_.erase(0, begin);
    if (rest_.size() > kMaxLineBytes) rest_.clear();
    return lines;
  }

 private:
  int read_ = -1;
  int write_ = -1;
  std::string rest_;
};

uint64_t NumberAfter(const std::string& line, const std::string& word) {
  const size_t at = line.find(word);
  uint64_t value = 0;
  if (at == std::string::npos) return 0;
  const char* begin = line.data() + at + word.size();
  std::from_chars(begin, line.data() + line.size(), value);
  return value;
}

class ScenarioRun {
 public:
  ScenarioRun(const Scenario& scenario, RunWorld& world, const RunOptions& options)
      : scenario_(scenario),
        world_(world),
        options_(options),
        schedule_(scenario.incidents),
        processes_(scenario.nodes.size()),
        listen_(world.ListenAddress()) {}

  absl::StatusOr<RunOutcome> Run(const std::atomic<int>& stop) {
    RETURN_IF_ERROR(StartCoordinator());
    RETURN_IF_ERROR(WaitForInvitation(stop));
    for (uint32_t node = 0; node < scenario_.nodes.size(); ++node) {
      if (node != scenario_.coordinator) RETURN_IF_ERROR(StartWorker(node));
    }
    begin_ = Clock::now();
    RunOutcome out;
    Follow(stop, &out);
    out.elapsed_s = SecondsOf(Clock::now() - begin_);
    out.network = world_.report();
    StopAll();
    if (stop) return absl::CancelledError("interrupted");
    Measure(&out);
    return out;
  }

 private:
  std::string RunFolder() const { return options_.work_folder + "/run"; }
  std::string SummaryFile() const { return options_.work_folder + "/summary.json"; }
  bool Toy() const { return !scenario_.Configures("train.optimizer"); }
  void Say(const std::string& text) const {
    if (options_.say) options_.say(text);
  }

  // The scenario's own keys come last and win.
  std::vector<std::string> CoordinatorWords() const {
    const std::string file = options_.work_folder + "/run.toml";
    std::ofstream{file} << "# every key is given by --set\n";
    std::vector<std::string> words = {options_.program_folder + "/longhaul",
                                      "coordinator",
                                      file,
                                      "--json-lines",
                                      "-v",
                                      "--json",
                                      SummaryFile()};
    const auto set = [&](const std::string& key, const std::string& value) {
      words.insert(words.end(), {"--set", key + "=" + value});
    };
    for (const std::string& setting : RunSettings(scenario_)) {
      words.insert(words.end(), {"--set", setting});
    }
    set("run.output_dir", RunFolder());
    set("network.listen", listen_);
    set("network.http", "");
    return words;
  }

  absl::Status StartCoordinator() {
    HostCommand command;
    command.argv = CoordinatorWords();
    command.stdout_fd = rounds_.write_end();
    command.stderr_fd = decisions_.write_end();
    ASSIGN_OR_RETURN(processes_[scenario_.coordinator],
                     world_.Start(scenario_.coordinator, command));
    return absl::OkStatus();
  }

  absl::Status WaitForInvitation(const std::atomic<int>& stop) {
    const auto until = Clock::now() + kStartLimit;
    while (!stop && Clock::now() < until) {
      std::ifstream file(RunFolder() + "/invitation");
      if (std::getline(file, invitation_) && !invitation_.empty()) return absl::OkStatus();
      ReadPipes();
      if (processes_[scenario_.coordinator]->Poll()) break;
      Pause();
    }
    ReadPipes();
    if (stop) return absl::CancelledError("interrupted");
    return absl::InternalError("the coordinator did not start: " + last_words_);
  }

  absl::Status StartWorker(uint32_t node) {
    ASSIGN_OR_RETURN(const std::string invitation, world_.InvitationFor(node, invitation_));
    const std::string& name = scenario_.nodes[node].name;
    const std::string home = options_.work_folder + "/" + name;
    HostCommand command;
    command.argv = {options_.program_folder + (Toy() ? "/longhaul-worker-toy" : "/longhaul-worker"),
                    invitation,
                    "--name",
                    name,
                    "--home",
                    home,
                    "--threads",
                    "1"};
    if (scenario_.nodes[node].step_ms) {
      command.argv.insert(command.argv.end(),
                          {"--toy-step-ms", std::to_string(*scenario_.nodes[node].step_ms)});
    }
    command.output_file = options_.work_folder + "/" + name + ".log";
    ASSIGN_OR_RETURN(processes_[node], world_.Start(node, command));
    return absl::OkStatus();
  }

  void Pause() const { ::poll(nullptr, 0, kLookEveryMs); }
  Duration Now() const { return Clock::now() - begin_; }

  // Until the coordinator ends, the time is over, or somebody wants to stop.
  void Follow(const std::atomic<int>& stop, RunOutcome* out) {
    while (!stop) {
      ReadPipes();
      for (const Schedule::Step& step : schedule_.Take(Now())) Do(step);
      auto& coordinator = processes_[scenario_.coordinator];
      const std::optional<int> code = coordinator ? coordinator->Poll() : std::nullopt;
      if (code) {
        ReadPipes();
        out->finished = *code == 0;
        if (*code != 0) {
          out->problem = absl::StrCat("the coordinator ended with ", *code, ": ", last_words_);
        }
        return;
      }
      if (Now() > scenario_.time_limit) {
        out->problem =
            absl::StrCat("not finished within time_limit_s = ", SecondsOf(scenario_.time_limit));
        return;
      }
      Pause();
    }
  }

  void Do(const Schedule::Step& step) {
    const Incident& incident = scenario_.incidents[step.incident];
    Say(DescribeStep(scenario_, step));
    if (incident.action != Action::kKill) return world_.Apply(step);
    if (step.begins) {
      if (processes_[incident.target]) ++killed_;
      processes_[incident.target].reset();  // kill -9
      return;
    }
    const absl::Status status = incident.target == scenario_.coordinator
                                    ? StartCoordinator()
                                    : StartWorker(incident.target);
    if (!status.ok()) Say(std::string(status.message()));
  }

  void ReadPipes() {
    for (const std::string& line : decisions_.Take()) OnDecision(line);
    for (const std::string& line : rounds_.Take()) OnRound(line);
  }

  void OnDecision(const std::string& line) {
    std::ofstream(options_.work_folder + "/coordinator.log", std::ios::app) << line << "\n";
    if (line.find(" debug ") == std::string::npos) last_words_ = line;
    const auto event = RoundEventIn(line, open_round_);
    if (!event) return;
    schedule_.OnState(Now(), event->round, event->state);
    if (event->state == RoundState::kOpened && open_round_ == 0) {
      world_.ResetLateness();
      network_before_ = world_.report();
      last_commit_ = Clock::now();
      first_opened_ = last_commit_;
    }
    if (event->state == RoundState::kOpened) open_round_ = event->round;
    if (event->state != RoundState::kCommitted) return;
    const auto now = Clock::now();
    round_s_.push_back(SecondsOf(now - std::exchange(last_commit_, now)));
  }

  void OnRound(const std::string& line) {
    const json round = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!round.is_object()) return;
    sync_s_.push_back(round.value("sync_seconds", kNone));
    std::ostringstream text;
    text << "round " << round.value("round", 0) << "/" << round.value("rounds", 0) << "  loss "
         << Number(round, "loss") << "  sync " << sync_s_.back() << " s  workers "
         << round.value("workers_included", 0) << "/" << round.value("workers_expected", 0);
    Say(text.str());
  }

  static double Number(const json& object, const char* key) {
    const auto it = object.find(key);
    return it != object.end() && it->is_number() ? it->get<double>() : kNone;
  }

  // First the workers: the coordinator sees them leave.
  void StopAll() {
    for (auto& process : processes_) {
      if (process) process->Signal(SIGTERM);
    }
    const auto until = Clock::now() + kStopLimit;
    for (auto& process : processes_) {
      while (process && !process->Poll() && Clock::now() < until) Pause();
      process.reset();
    }
    ReadPipes();
  }

  void Measure(RunOutcome* out) {
    std::map<std::string, double>& m = out->metrics;
    std::ifstream file(SummaryFile());
    const json summary = json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (summary.is_object()) {
      for (const char* key :
           {"rounds", "first_loss", "final_loss", "bytes_up_per_worker", "bytes_down_per_worker",
            "computing_percent", "hash_checks", "hash_mismatches"}) {
        m[key] = Number(summary, key);
      }
      m["committed_tokens"] = Number(summary, "tokens");
    }
    MeasureRounds(round_s_, sync_s_, m);
    m["killed"] = killed_;
    m["elapsed_seconds"] = out->elapsed_s;
    MeasureNetwork(out);
    const bool packets = world_.EmulatesPackets();
    out->checks = CheckAssertions(scenario_, m,
                                  [=](const Metric& metric) { return metric.packets && !packets; });
  }

  void MeasureNetwork(RunOutcome* out) {
    LinkCounters all;
    for (const LinkCounters& link : out->network.links) {
      all.packets += link.packets;
      all.queue_drops += link.queue_drops;
      all.losses += link.losses;
    }
    const auto packets = static_cast<double>(all.packets + all.queue_drops + all.losses);
    if (packets > 0 && world_.EmulatesPackets()) {
      out->metrics["queue_drop_percent"] = 100 * static_cast<double>(all.queue_drops) / packets;
      out->metrics["loss_percent"] = 100 * static_cast<double>(all.losses) / packets;
    }
    MeasureUplinks(scenario_, network_before_.links, out->network.links,
                   SecondsOf(last_commit_ - first_opened_), out->metrics);
    MeasureSolo(scenario_, SecondsOf(last_commit_ - first_opened_), out->metrics);
  }

  const Scenario& scenario_;
  RunWorld& world_;
  const RunOptions& options_;
  Schedule schedule_;
  LineReader rounds_;
  LineReader decisions_;
  std::vector<std::unique_ptr<HostProcess>> processes_;  // by node; the pipes outlive them
  const std::string listen_;
  std::string invitation_;
  std::string last_words_;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point last_commit_ = begin_;
  Clock::time_point first_opened_ = begin_;
  EmulatorReport network_before_;
  uint64_t open_round_ = 0;
  uint32_t killed_ = 0;
  std::vector<double> round_s_;
  std::vector<double> sync_s_;
};

}  // namespace

bool RunOutcome::passed() const {
  return finished && std::all_of(checks.begin(), checks.end(),
                                 [](const Check& c) { return c.holds || c.skipped; });
}

absl::StatusOr<RunOutcome> RunScenario(const Scenario& scenario, RunWorld& world,
                                       const RunOptions& options, const std::atomic<int>& stop) {
  return ScenarioRun(scenario, world, options).Run(stop);
}

std::vector<std::string> RunSettings(const Scenario& scenario) {
  std::vector<std::string> out = {
      "run.name=lab", absl::StrCat("run.min_workers=", scenario.nodes.size() - 1),
      "train.optimizer=toy", "train.toy_step_ms=10", "model.preset=llama-130k"};
  for (const auto& [key, value] : scenario.run_config) out.push_back(key + "=" + value);
  return out;
}

void MeasureRounds(const std::vector<double>& round_s, const std::vector<double>& sync_s,
                   std::map<std::string, double>& metrics) {
  metrics["round_seconds_p50"] = Percentile(round_s, 50);
  metrics["round_seconds_p90"] = Percentile(round_s, 90);
  metrics["round_seconds_p99"] = Percentile(round_s, 99);
  metrics["round_seconds_max"] = Percentile(round_s, 100);
  metrics["sync_seconds_p50"] = Percentile(sync_s, 50);
  metrics["sync_seconds_max"] = Percentile(sync_s, 100);
}

void MeasureUplinks(const Scenario& scenario, const std::vector<LinkCounters>& before,
                    const std::vector<LinkCounters>& after, double seconds,
                    std::map<std::string, double>& metrics) {
  double busiest = 0;
  for (size_t i = 0; i < scenario.nodes.size() && i < after.size(); ++i) {
    const uint64_t old = i < before.size() ? before[i].bytes : 0;
    const double bits = 8 * static_cast<double>(after[i].bytes - old);
    busiest = std::max(busiest, bits / (scenario.nodes[i].access.up_mbit * 1e6));
  }
  if (seconds > 0) metrics["uplink_percent"] = 100 * busiest / seconds;
}

void MeasureSolo(const Scenario& scenario, double seconds, std::map<std::string, double>& metrics) {
  ConfigOverrides overrides;
  overrides.sets = RunSettings(scenario);
  const absl::StatusOr<LoadedConfig> run = ParseRunConfig("", scenario.file, overrides);
  if (!run.ok() || seconds <= 0) return;
  const auto tokens_per_step = static_cast<double>(SamplesPerStep(run->config) * kSampleTokens);
  double alone = 0;  // tokens per second
  for (uint32_t node = 0; node < scenario.nodes.size(); ++node) {
    if (node == scenario.coordinator) continue;
    const uint32_t step_ms = scenario.nodes[node].step_ms.value_or(run->config.train.toy_step_ms);
    alone += 1000 * tokens_per_step / std::max(1u, step_ms);
  }
  metrics["solo_percent"] = 100 * metrics["committed_tokens"] / seconds / alone;
}

std::vector<RunOutcome::Check> CheckAssertions(const Scenario& scenario,
                                               const std::map<std::string, double>& metrics,
                                               const std::function<bool(const Metric&)>& skips) {
  std::vector<RunOutcome::Check> out;
  for (const Assertion& assertion : scenario.assertions) {
    const auto it = metrics.find(assertion.metric);
    const double value = it == metrics.end() ? kNone : it->second;
    const bool skipped = skips(*FindMetric(assertion.metric));
    out.push_back({assertion, value, assertion.HoldsFor(value), skipped});
  }
  return out;
}

double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return kNone;
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(p / 100 * static_cast<double>(values.size()));
  const auto index = static_cast<size_t>(std::max(1.0, rank)) - 1;
  return values[std::min(index, values.size() - 1)];
}

std::optional<RoundEvent> RoundEventIn(const std::string& line, uint64_t open_round) {
  const size_t at = line.find(" debug ");
  if (at == std::string::npos) return std::nullopt;
  const std::string text = line.substr(at + 7);
  const auto has = [&](const char* word) { return text.find(word) != std::string::npos; };
  if (text.rfind("contribution ", 0) == 0) {
    if (has(" accepted")) return RoundEvent{open_round, RoundState::kOffered};
    if (has(" held")) return RoundEvent{open_round, RoundState::kHeld};
    return std::nullopt;
  }
  if (text.rfind("round ", 0) != 0) return std::nullopt;
  const uint64_t round = NumberAfter(text, "round ");
  if (has(" opened ")) return RoundEvent{round, RoundState::kOpened};
  if (has(" closed,")) return RoundEvent{round, RoundState::kClosed};
  if (has(" committed:")) return RoundEvent{round, RoundState::kCommitted};
  return std::nullopt;
}

}  // namespace longhaul::wan
