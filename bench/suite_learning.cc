// Loss against bytes: every synchronisation method on the same small model, the same data in the
// same order, and the same number of tokens; M workers are simulated in this process with the
// product's own arithmetic. Runs (method, seed) are independent, one thread each.
//
// Ratios are printed only when the baselines are as good as those of an independent implementation
// of the same setting: a method must not look good because its rival was run badly.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/learning_plot.h"
#include "bench/learning_run.h"
#include "bench/suite.h"
#include "cli/text_table.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint32_t kMostSeeds = 10;
constexpr char kAdamW[] = "dp-adamw";
constexpr char kMuon[] = "dp-muon";

struct Arguments {
  std::string tier = "smoke";
  std::vector<std::string> methods;
  uint32_t seeds = 1, first_seed = 1;
  uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
  std::string plot_file;
};

// Enough to see whether the promises hold, one seed.
const std::vector<std::string>& QuickMethods() {
  static const std::vector<std::string> names = {
      kAdamW,      kMuon,           "diloco", "muon", "muon-int4", "muon-2bit", "muon-2bit-down4",
      "thin-0.06", "streaming-muon"};
  return names;
}

// Losses of the baselines in the smoke tier on tiny Shakespeare that an independent implementation
// reaches, with a margin for other seeds.
struct Bar {
  const char* method;
  double loss;
};
constexpr Bar kBars[] = {{kAdamW, 2.01}, {kMuon, 1.89}};

// The mean over seeds of loss / rival's loss - 1 is at most, or at least, `percent`.
struct Promise {
  const char *method, *rival;
  double percent;
  Relation relation;
};
constexpr auto kAtMost = Relation::kAtMost;
constexpr auto kAtLeast = Relation::kAtLeast;
constexpr Promise kSmokePromises[] = {
    {"diloco", kAdamW, 8.5, kAtMost},
    {"muon", kAdamW, -2.5, kAtMost},
    {"muon-2bit", "muon", 0.5, kAtMost},
    {"muon-2bit-down4", "muon-2bit", 0.3, kAtMost},
    {"muon-int4", "muon", 0.3, kAtMost},
    {"thin-0.06", kAdamW, -1.0, kAtMost},
    {"thin-0.02", kAdamW, 3.5, kAtMost},
    {"streaming-adamw", "diloco", 2.0, kAtMost},
    {"streaming-muon", "muon", 2.0, kAtMost},
    {"one-worker-adamw", kAdamW, 0.5, kAtMost},
    {"one-worker-muon", kMuon, 0.5, kAtMost},
    {"muon", kMuon, 1.6, kAtMost},
    {"trap-momentum", "muon", 1.0, kAtLeast},
    {"trap-topk-no-feedback", "sparseloco", 3.0, kAtLeast},
    {"trap-late-workers", "late-workers", 1.0, kAtLeast},
};
constexpr Promise kBenchPromises[] = {{"muon-2bit", kAdamW, -5.0, kAtMost}};

struct Link {
  const char* name;
  double bits_per_second;
};
constexpr Link kLinks[] = {{"50 Mbit/s", 50e6}, {"200 Mbit/s", 200e6}, {"1 Gbit/s", 1e9}};
constexpr double kRoundTripSeconds = 0.08;
constexpr double kComputedParameters = 1e9, kComputedStepSeconds = 1.0;

struct Summary {
  LearningMethod method;
  std::vector<double> losses;  // by seed
  LearningOutcome first;       // of the first seed: bits and health
  bool same_state = true;
};

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

// Half of the 95 % interval of the mean (Student's t); none for one value.
std::optional<double> HalfInterval(const std::vector<double>& values) {
  constexpr double kStudent[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  if (values.size() < 2 || values.size() > kMostSeeds) return std::nullopt;
  const double mean = Mean(values), n = static_cast<double>(values.size());
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return kStudent[values.size() - 2] * std::sqrt(squares / (n - 1) / n);
}

// A coder that writes no bytes gets a star.
std::string Bits(const CodedSize& size, const std::string& coder) {
  return absl::StrFormat("%.4f", size.total()) + (coder.starts_with("ref-") ? "*" : "");
}

// Share of the time spent training when each fragment's exchange waits beyond its overlap. Computed
// from the counted bits, not measured.
double ComputedShare(const Summary& s, const LearningTier& tier, const Link& link) {
  const LearningMethod& m = s.method;
  if (m.exchange == Exchange::kNothing) return 1;
  const bool rounds = m.exchange == Exchange::kRounds;
  const double steps = !rounds ? 1 : m.inner_steps == 0 ? tier.inner_steps : m.inner_steps;
  const double bits = (s.first.up.total() + s.first.down.total()) * kComputedParameters * steps;
  const double transfer = bits / m.fragments / link.bits_per_second + kRoundTripSeconds;
  const double hidden = m.overlap_steps * kComputedStepSeconds;
  const double training = steps * kComputedStepSeconds;
  return training / (training + m.fragments * std::max(0.0, transfer - hidden));
}

class LearningSuite {
 public:
  LearningSuite(const Arguments& args, const Bench& bench) : args_(args), bench_(bench) {}

  std::vector<Result> Run() {
    if (const absl::Status status = RunAll(); !status.ok()) {
      Result failed = Make("runs", "");
      failed.kind = ResultKind::kGate;
      failed.note = std::string(status.message());
      return {failed};
    }
    AddBars();
    AddReplicas();
    for (const Summary& s : summaries_) AddMethod(s);
    AddPromises();
    PrintTable();
    if (!args_.plot_file.empty()) WritePlot();
    return results_;
  }

 private:
  Result Make(const std::string& name, const std::string& unit) const {
    return {.suite = "learning", .name = name, .unit = unit};
  }

  absl::Status RunAll() {
    ASSIGN_OR_RETURN(tier_, FindLearningTier(args_.tier));
    ASSIGN_OR_RETURN(const LearningText text, LearningText::Load(bench_.test_data, tier_.vocab));
    text_name_ = text.name();
    std::vector<std::string> names = args_.methods;
    if (names.empty() && bench_.quick) names = QuickMethods();
    if (names.empty()) {
      for (const LearningMethod& m : LearningMethods()) names.push_back(m.name);
    }
    for (const std::string& name : names) {
      Summary& s = summaries_.emplace_back();
      ASSIGN_OR_RETURN(s.method, ParseLearningMethod(name));
      s.losses.resize(args_.seeds);
    }
    return RunTasks(text);
  }

  absl::Status RunTasks(const LearningText& text) {
    std::atomic<size_t> next = 0;
    std::mutex mutex;
    absl::Status status;
    const auto work = [&] {
      for (size_t i; (i = next++) < summaries_.size() * args_.seeds;) {
        Summary& s = summaries_[i % summaries_.size()];
        const uint64_t seed = i / summaries_.size() + args_.first_seed;
        const auto start = std::chrono::steady_clock::now();
        const auto outcome = RunLearning({tier_, s.method, seed}, text);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        const std::lock_guard lock(mutex);
        if (!outcome.ok()) {
          status.Update(absl::Status(
              outcome.status().code(),
              absl::StrCat(s.method.name, ": ", std::string(outcome.status().message()))));
          next = summaries_.size() * args_.seeds;
          continue;
        }
        std::fprintf(stderr, "%-28s seed %d  %.4f  %.0f s\n", s.method.name.c_str(),
                     static_cast<int>(seed), outcome->loss, took.count());
        s.losses[seed - args_.first_seed] = outcome->loss;
        s.same_state = s.same_state && outcome->same_state;
        if (seed == args_.first_seed) s.first = *outcome;
      }
    };
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < args_.threads; ++i) threads.emplace_back(work);
    for (std::thread& t : threads) t.join();
    return status;
  }

  const Summary* Find(const std::string& name) const {
    for (const Summary& s : summaries_) {
      if (s.method.name == name) return &s;
    }
    return nullptr;
  }

  bool has_bars() const { return tier_.name == "smoke" && text_name_ == "tiny Shakespeare"; }

  void AddBars() {
    for (const Bar& bar : kBars) {
      const Summary* s = Find(bar.method);
      if (!has_bars() || s == nullptr) continue;
      Result r = Make(absl::StrCat(bar.method, " is a fair baseline"), "nats/byte");
      r.value = Mean(s->losses);
      r.target = bar.loss;
      r.relation = kAtMost;
      r.kind = ResultKind::kGate;
      fair_ = fair_ && r.pass();
      results_.push_back(r);
    }
  }

  void AddReplicas() {
    Result r = Make("methods whose replicas differ", "");
    r.relation = kAtMost;
    r.kind = ResultKind::kGate;
    r.value = 0;
    for (const Summary& s : summaries_) {
      if (s.same_state) continue;
      *r.value += 1;
      r.note += (r.note.empty() ? "" : ", ") + s.method.name;
    }
    results_.push_back(r);
  }

  // What the printed table shows as one line.
  void AddMethod(const Summary& s) {
    const std::string& name = s.method.name;
    Result loss = Make(name, "nats/byte");
    loss.detail = true;
    loss.value = Mean(s.losses);
    loss.note = absl::StrJoin(s.losses, ", ", [](std::string* out, double v) {
      absl::StrAppend(out, absl::StrFormat("%.4f", v));
    });
    results_.push_back(loss);
    const auto measure = [&](const std::string& what, const std::string& unit, double value) {
      Result r = Make(absl::StrCat(name, " ", what), unit);
      r.value = value;
      r.detail = true;
      results_.push_back(r);
    };
    measure("up", "bit/parameter/step", s.first.up.total());
    measure("up payload", "bit/parameter/step", s.first.up.payload_bits);
    measure("down", "bit/parameter/step", s.first.down.total());
    for (const Link& link : kLinks) {
      measure(absl::StrCat("computed time training, ", link.name), "share",
              ComputedShare(s, tier_, link));
    }
    for (size_t d = 0; d < s.first.deciles.size(); ++d) {
      if (s.first.deciles[d]) measure(absl::StrCat("decile ", d + 1), "nats", *s.first.deciles[d]);
    }
    if (s.method.exchange != Exchange::kRounds) return;
    measure("cosine", "", s.first.cosine);
    measure("residual", "of the pseudo-gradient", s.first.residual);
  }

  // Percent, seed by seed.
  static std::vector<double> Differences(const Summary& s, const Summary& rival) {
    std::vector<double> out;
    for (size_t i = 0; i < s.losses.size(); ++i) {
      out.push_back(100 * (s.losses[i] / rival.losses[i] - 1));
    }
    return out;
  }

  void AddPromises() {
    std::span<const Promise> promises;
    if (tier_.name == "smoke") promises = kSmokePromises;
    if (tier_.name == "bench") promises = kBenchPromises;
    for (const Promise& p : promises) {
      const Summary *s = Find(p.method), *rival = Find(p.rival);
      if (s == nullptr || rival == nullptr) continue;
      Result r = Make(absl::StrCat(p.method, " against ", p.rival), "%");
      r.kind = ResultKind::kGoal;
      r.target = p.percent;
      r.relation = p.relation;
      if (fair_) {
        const std::vector<double> differences = Differences(*s, *rival);
        r.value = Mean(differences);
        if (const auto half = HalfInterval(differences)) {
          r.note = absl::StrFormat("95%% interval %.2f to %.2f, %d paired seeds", *r.value - *half,
                                   *r.value + *half, static_cast<int>(differences.size()));
        }
      } else {
        r.note = "a baseline is not good enough";
      }
      results_.push_back(r);
    }
  }

  std::string Against(const Summary& s, const std::string& rival_name) const {
    const Summary* rival = Find(rival_name);
    if (rival == nullptr || !fair_) return "-";
    const std::vector<double> differences = Differences(s, *rival);
    const auto half = HalfInterval(differences);
    return absl::StrFormat("%+.2f", Mean(differences)) +
           (half ? absl::StrFormat(" ± %.2f", *half) : "");
  }

  void PrintTable() const {
    std::printf(
        "%s tier, %s, seeds %u to %u; bits per parameter and inner step, headers included\n",
        tier_.name.c_str(), text_name_.c_str(), args_.first_seed,
        args_.first_seed + args_.seeds - 1);
    TextTable table(
        {"method", "loss", "bits up", "bits down", "% dp-adamw", "% dp-muon", "cosine", "residual"},
        {Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight, Align::kRight,
         Align::kRight, Align::kRight});
    for (const Summary& s : summaries_) {
      const bool rounds = s.method.exchange == Exchange::kRounds;
      table.AddRow({s.method.name, absl::StrFormat("%.4f", Mean(s.losses)),
                    Bits(s.first.up, s.method.up), Bits(s.first.down, s.method.down),
                    Against(s, kAdamW), Against(s, kMuon),
                    rounds ? absl::StrFormat("%.2f", s.first.cosine) : "",
                    rounds ? absl::StrFormat("%.2f", s.first.residual) : ""});
    }
    std::printf("%s* ideal entropies, no headers: a reference coder that writes no bytes\n\n",
                table.ToString().c_str());
    if (tier_.vocab > 256) PrintDeciles();
    PrintComputed();
  }

  void PrintDeciles() const {
    std::printf("Loss by tenth of the vocabulary, most frequent tokens first, seed %u\n",
                args_.first_seed);
    std::vector<std::string> header = {"method"};
    std::vector<Align> align = {Align::kLeft};
    for (int d = 1; d <= 10; ++d) {
      header.push_back(std::to_string(d));
      align.push_back(Align::kRight);
    }
    TextTable table(header, align);
    for (const Summary& s : summaries_) {
      std::vector<std::string> row = {s.method.name};
      for (const std::optional<double>& loss : s.first.deciles) {
        row.push_back(loss ? absl::StrFormat("%.3f", *loss) : "-");
      }
      table.AddRow(row);
    }
    std::printf("%s\n", table.ToString().c_str());
  }

  void PrintComputed() const {
    std::printf(
        "Share of the time spent training, computed from these bits: %.0e parameters, %.0f s "
        "a step, %.0f ms round trip\n",
        kComputedParameters, kComputedStepSeconds, 1000 * kRoundTripSeconds);
    std::vector<std::string> header = {"method"};
    for (const Link& link : kLinks) header.push_back(link.name);
    TextTable table(header, {Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
    for (const Summary& s : summaries_) {
      std::vector<std::string> row = {s.method.name};
      for (const Link& link : kLinks) {
        row.push_back(absl::StrFormat("%.1f %%", 100 * ComputedShare(s, tier_, link)));
      }
      table.AddRow(row);
    }
    std::printf("%s\n", table.ToString().c_str());
  }

  void WritePlot() {
    std::vector<PlotPoint> points;
    std::vector<PlotLine> lines;
    for (const Summary& s : summaries_) {
      if (s.method.exchange == Exchange::kNothing || s.method.name == kAdamW ||
          s.method.name == kMuon) {
        lines.push_back({s.method.name, Mean(s.losses)});
      } else {
        points.push_back({s.method.name, s.first.up.total(), Mean(s.losses)});
      }
    }
    std::ofstream file(args_.plot_file);
    file << LossPlot(absl::StrCat("Loss against bytes, ", tier_.name, " tier, ", text_name_, ", ",
                                  args_.seeds, " seeds"),
                     points, lines);
    if (!file.flush()) std::fprintf(stderr, "cannot write %s\n", args_.plot_file.c_str());
  }

  const Arguments args_;
  const Bench& bench_;
  LearningTier tier_{};
  std::string text_name_;
  std::vector<Summary> summaries_;
  bool fair_ = true;  // no baseline is known to be worse than it should be
  std::vector<Result> results_;
};

}  // namespace

void AddLearning(CLI::App& app, Bench& bench) {
  auto args = std::make_shared<Arguments>();
  CLI::App* suite = AddSuite(app, bench, "learning", "loss of every method against its bytes");
  suite->add_option("--tier", args->tier, "tiny, smoke, bench or words")->capture_default_str();
  suite
      ->add_option("--methods", args->methods,
                   "names, each with changes if wanted: muon,muon:momentum=0.3:outer_lr=1")
      ->delimiter(',');
  suite->add_option("--seeds", args->seeds, "run each method with so many seeds")
      ->check(CLI::Range(1u, kMostSeeds))
      ->capture_default_str();
  suite->add_option("--first-seed", args->first_seed, "from this one on; tune on others")
      ->capture_default_str();
  suite->add_option("--threads", args->threads, "runs at the same time")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
  suite->add_option("--plot", args->plot_file, "write loss against bits as SVG to this file");
  suite->callback(
      [args, &bench] { bench.run = [args, &bench] { return LearningSuite(*args, bench).Run(); }; });
}

}  // namespace longhaul
