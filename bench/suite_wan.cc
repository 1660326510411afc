// The data plane over emulated paths: ratios to the bound, to iperf3 and to gloo, measured in one
// run. Needs tier tun; without it nothing is measured, and the rows say why.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bench/suite.h"
#include "bench/wan_lab.h"
#include "bench/wan_peer.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

constexpr uint64_t kMiB = 1024 * 1024;

// What one lab measured, by name; and for people.
struct Numbers {
  std::map<std::string, double> values;
  std::string note;
};
using Measure = std::function<absl::StatusOr<Numbers>(WanBenchLab&)>;

// A row of the report from one lab's numbers.
struct Row {
  std::string name;
  std::string value;  // key into Numbers
  std::string unit = "ratio";
  double target = 0;
  Relation relation = Relation::kAtLeast;
  ResultKind kind = ResultKind::kGoal;
};

// One path, what is measured on it, and the rows that come of it.
struct Experiment {
  WanPath path;
  Measure measure;
  std::vector<Row> rows;
};

double Least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

std::string Describe(const ExchangeResult& r) {
  const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
  return absl::StrFormat("%.3f to %.3f s, %s, %u stripes, credit %.1f MiB, %.2f core-s per Gbit",
                         *least, *most, r.congestion_control, r.stripes,
                         static_cast<double>(r.window_bytes) / kMiB, r.cpu_s_per_gbit);
}

// ---- experiments ----

Experiment Bulk(const std::string& name, const WanPath& path, uint64_t mib, uint32_t rounds,
                double goal) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, rounds}));
    const double time = Median(r.seconds);
    Numbers n;
    n.values["bound"] = ExchangeBoundS(path, mib * kMiB) / time;
    n.values["core_s"] = r.cpu_s_per_gbit;
    n.note = absl::StrFormat("median %.3f s; %s", time, Describe(r));
    return n;
  };
  out.rows = {{name, "bound", "bound/time", goal},
              {name + "_cpu", "core_s", "core-s/Gbit", 1.0, Relation::kAtMost}};
  return out;
}

Experiment AgainstIperf(const std::string& name, const WanPath& path, uint64_t mib, double goal,
                        double of_link) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    std::vector<double> ours, theirs;
    for (int i = 0; i < 2; ++i) {
      ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, 2}));
      ours.push_back(static_cast<double>(mib * kMiB) * 8e-6 / Median(r.seconds));
      ASSIGN_OR_RETURN(const double rate, lab.Iperf(5, 1, /*both_ways=*/true));
      theirs.push_back(rate);
    }
    Numbers n;
    n.values["iperf"] = Median(ours) / Median(theirs);
    n.values["link"] = Median(ours) / Least(path.mbit);
    n.note =
        absl::StrFormat("%.0f Mbit/s each way, iperf3 --bidir %.0f", Median(ours), Median(theirs));
    return n;
  };
  out.rows = {{name + "_iperf3", "iperf", "ours/iperf3", goal},
              {name + "_link", "link", "of the link", of_link}};
  return out;
}

Experiment AgainstGloo(const std::string& name, const WanPath& path, uint64_t mib, double bound,
                       double goal) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    std::vector<double> ours, theirs;
    for (int i = 0; i < 2; ++i) {
      ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, 3}));
      ours.push_back(Median(r.seconds));
      const auto gloo = lab.Gloo(mib * kMiB, 2);
      if (gloo.ok()) theirs.push_back(Median(*gloo));
      if (!gloo.ok() && !absl::IsNotFound(gloo.status())) return gloo.status();
    }
    Numbers n;
    n.values["bound"] = ExchangeBoundS(path, mib * kMiB) / Median(ours);
    if (!theirs.empty()) n.values["gloo"] = Median(theirs) / Median(ours);
    n.note = absl::StrFormat("ours %.3f s, gloo %.3f s", Median(ours), Median(theirs));
    return n;
  };
  out.rows = {{name, "bound", "bound/time", bound}, {name + "_gloo", "gloo", "gloo/ours", goal}};
  return out;
}

Experiment Unequal(const WanPath& path, uint64_t mib) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    std::vector<double> weighted, equal;
    for (int i = 0; i < 2; ++i) {
      ExchangeSpec spec{mib * kMiB, 2};
      ASSIGN_OR_RETURN(const ExchangeResult e, lab.Exchange(spec));
      spec.weighted = true;
      ASSIGN_OR_RETURN(const ExchangeResult w, lab.Exchange(spec));
      equal.push_back(Median(e.seconds));
      weighted.push_back(Median(w.seconds));
    }
    Numbers n;
    n.values["bound"] = ExchangeBoundS(path, mib * kMiB) / Median(weighted);
    n.values["equal"] = Median(equal) / Median(weighted);
    n.note = absl::StrFormat("weighted %.3f s, equal %.3f s", Median(weighted), Median(equal));
    return n;
  };
  out.rows = {{"hetero", "bound", "bound/time", 0.90},
              {"hetero_equal", "equal", "equal/weighted", 1.3}};
  return out;
}

// After a pause, over size/rate + round trip.
Experiment AfterIdle(const std::string& name, const WanPath& path, uint64_t bytes, double idle_s,
                     double goal) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ExchangeSpec spec{bytes, 4};
    spec.idle_s = idle_s;
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange(spec));
    const std::vector<double> later(r.seconds.begin() + 1, r.seconds.end());
    Numbers n;
    n.values["over"] = Median(later) / ExchangeBoundS(path, bytes);
    n.note =
        absl::StrFormat("median %.3f s after %.0f s idle; %s", Median(later), idle_s, Describe(r));
    return n;
  };
  out.rows = {{name, "over", "time/bound", goal, Relation::kAtMost}};
  return out;
}

// Credit as measured, against the best of fixed multiples of the bandwidth-delay product.
Experiment Credit(const WanPath& path, uint64_t mib) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    const double product = Least(path.mbit) * 1e6 / 8 * path.round_trip_ms / 1000;
    Numbers n;
    double best = 1e9;
    for (double factor : {0.6, 1.25, 2.5, 10.0}) {
      ExchangeSpec spec{mib * kMiB, 2};
      spec.window_bytes = static_cast<uint64_t>(factor * product);
      ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange(spec));
      best = std::min(best, Median(r.seconds));
      absl::StrAppend(&n.note, absl::StrFormat("%.2g: %.3f s, ", factor, Median(r.seconds)));
    }
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, 3}));
    n.values["auto"] = Median(r.seconds) / best;
    absl::StrAppend(&n.note, absl::StrFormat("measured: %.3f s", Median(r.seconds)));
    return n;
  };
  out.rows = {{"credit_auto", "auto", "auto/best", 1.05, Relation::kAtMost}};
  return out;
}

Experiment Stripes(const WanPath& path, uint64_t mib) {
  Experiment out{path, {}, {}};
  out.measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    Numbers n;
    double best = 1e9;
    for (uint32_t stripes : {1u, 2u, 4u, 8u, 16u}) {
      ExchangeSpec spec{mib * kMiB, 2};
      spec.stripes = stripes;
      ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange(spec));
      best = std::min(best, Median(r.seconds));
      absl::StrAppend(&n.note, absl::StrFormat("%u: %.3f s, ", stripes, Median(r.seconds)));
    }
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, 4}));
    const std::vector<double> later(r.seconds.begin() + 2, r.seconds.end());
    n.values["auto"] = best / Median(later);
    absl::StrAppend(&n.note,
                    absl::StrFormat("on demand: %.3f s with %u", Median(later), r.stripes));
    return n;
  };
  out.rows = {{"stripe_auto", "auto", "best/auto", 0.95}};
  return out;
}

// The emulator itself.
Experiment Emulator() {
  WanPath path{{1000, 1000}, 100};
  Experiment out{path, {}, {}};
  out.measure = [](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const double rate, lab.Iperf(6, 1, /*both_ways=*/false));
    Numbers n;
    n.values["rate"] = rate;
    n.note = "iperf3, one stream";
    return n;
  };
  out.rows = {{"emulator_rate", "rate", "Mbit/s", 900}};
  return out;
}

std::vector<Experiment> Core() {
  const WanPath giga{{1000, 1000}, 100}, four_hundred{{400, 400}, 100};
  WanPath giga_stock = giga, lossy = giga, very_lossy = giga;
  giga_stock.stock = true;
  lossy.loss_percent = 0.1;
  very_lossy.loss_percent = 1;
  const std::vector<double> four(4, 200);
  WanPath idle_stock{{200, 200}, 100};
  idle_stock.stock = true;
  std::vector<Experiment> out;
  out.push_back(Emulator());
  out.push_back(Bulk("bulk_1g", giga, 128, 5, 0.95));
  out.push_back(Bulk("bulk_400m", four_hundred, 64, 5, 0.95));
  out.push_back(Bulk("bulk_1g_stock", giga_stock, 128, 5, 0.80));
  out.push_back(AgainstIperf("loss_0.1", lossy, 128, 0.90, 0.70));
  out.push_back(AgainstIperf("loss_1", very_lossy, 128, 0.85, 0));
  out.push_back(AgainstGloo("two_1g", giga, 64, 0.95, 4));
  out.push_back(AgainstGloo("four_100ms", {four, 100}, 32, 0.95, 1.5));
  out.push_back(AgainstGloo("four_300ms", {four, 300}, 32, 0.85, 2.5));
  out.push_back(AgainstGloo("four_20ms", {four, 20}, 32, 0.93, 1));
  out.push_back(Unequal({{300, 250, 200, 150}, 100}, 32));
  out.push_back(AfterIdle("idle_5s", {{200, 200}, 100}, 4 * kMiB, 5, 1.5));
  out.push_back(AfterIdle("idle_5s_stock", idle_stock, 4 * kMiB, 5, 1.5));
  out.push_back(AfterIdle("fragment_3mb", {four, 100}, 3'000'000, 0, 1.3));
  out.push_back(Credit({four, 100}, 16));
  out.push_back(Stripes(giga_stock, 64));
  return out;
}

// Rates over round trip and loss: ours, iperf3 and gloo.
std::vector<Experiment> Grid() {
  std::vector<Experiment> out;
  for (double rtt : {20.0, 100.0, 300.0}) {
    for (double loss : {0.0, 0.01, 0.1, 1.0}) {
      for (bool stock : {false, true}) {
        WanPath path{{400, 400}, rtt, loss, stock};
        const std::string name =
            absl::StrFormat("%.0fms_%g%%_%s", rtt, loss, stock ? "stock" : "bbr");
        out.push_back(AgainstIperf(name, path, stock && loss > 0 ? 8 : 64, 0.9, 0));
        for (Row& row : out.back().rows) row.kind = ResultKind::kMeasure;
      }
    }
  }
  return out;
}

// Small and short: that everything still works.
std::vector<Experiment> Quick() {
  std::vector<Experiment> out = {Bulk("quick", {{100, 100}, 10}, 1, 2, 0)};
  for (Row& row : out.back().rows) row.kind = ResultKind::kMeasure;
  return out;
}

// ---- running ----

// In a lab of its own; numbers come back through a file, as the lab is another process.
absl::StatusOr<Numbers> RunExperiment(const Experiment& experiment, const std::string& programs,
                                      const std::string& folder) {
  const std::string file = folder + "/numbers.json";
  std::filesystem::remove(file);
  const auto code = wan::RunInLab([&] {
    auto lab = WanBenchLab::Create(experiment.path, programs, folder);
    nlohmann::json out;
    absl::StatusOr<Numbers> numbers =
        lab.ok() ? experiment.measure(**lab) : absl::StatusOr<Numbers>(lab.status());
    if (numbers.ok()) {
      const double late_ms =
          std::chrono::duration<double, std::milli>((*lab)->report().worst_late).count();
      out["values"] = numbers->values;
      out["note"] =
          absl::StrCat(numbers->note, absl::StrFormat("; worst lateness %.1f ms", late_ms));
      out["valid"] = (*lab)->report().valid();
    } else {
      out["problem"] = std::string(numbers.status().message());
    }
    std::ofstream(file) << out.dump();
    return 0;
  });
  RETURN_IF_ERROR(code.status());
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InternalError("the lab ended without numbers");
  if (json.contains("problem")) return absl::InternalError(json["problem"].get<std::string>());
  Numbers out{json["values"].get<std::map<std::string, double>>(), json["note"]};
  if (!json["valid"]) {
    out.values.clear();
    out.note += ": INVALID, this machine was too busy";
  }
  return out;
}

// Whether any row's name begins with `prefix`.
bool Wanted(const Experiment& experiment, const std::string& prefix) {
  return std::any_of(experiment.rows.begin(), experiment.rows.end(),
                     [&](const Row& row) { return row.name.rfind(prefix, 0) == 0; });
}

std::vector<Result> RunWan(const Bench& bench, const std::string& suite, const std::string& only) {
  std::string folder = std::filesystem::temp_directory_path().string() + "/longhaul-bench-XXXXXX";
  if (!::mkdtemp(folder.data())) return {};
  const auto experiments = bench.quick ? Quick() : suite == "grid" ? Grid() : Core();
  std::vector<Result> results;
  for (const Experiment& experiment : experiments) {
    if (!Wanted(experiment, only)) continue;
    // A folder of its own: names of files and of gloo's meeting place come again in every lab.
    const std::string own = absl::StrCat(folder, "/", results.size());
    std::filesystem::create_directories(own);
    const auto numbers = RunExperiment(experiment, bench.program_folder, own);
    for (const Row& row : experiment.rows) {
      Result result{"wan",      row.name,     std::nullopt, row.unit,
                    row.target, row.relation, row.kind,     ""};
      if (numbers.ok()) {
        const auto it = numbers->values.find(row.value);
        if (it != numbers->values.end()) result.value = it->second;
        result.note = numbers->note;
      } else {
        result.note = std::string(numbers.status().message());
      }
      std::fprintf(stderr, "%-20s %s  %s\n", row.name.c_str(),
                   result.value ? absl::StrFormat("%.3f", *result.value).c_str() : "-",
                   result.note.c_str());
      results.push_back(std::move(result));
    }
  }
  std::filesystem::remove_all(folder);
  return results;
}

// ---- the peer's command line ----

int WanPeer(const WanPeerOptions& options) {
  const absl::Status status = RunWanPeer(options, [](const WanPeerRound& r) {
    std::printf("%s\n", nlohmann::json{{"seconds", r.seconds},
                                       {"cpu_seconds", r.cpu_seconds},
                                       {"correct", r.correct},
                                       {"stripes", r.stripes},
                                       {"window_bytes", r.window_bytes},
                                       {"loss", r.loss},
                                       {"congestion_control", r.congestion_control}}
                            .dump()
                            .c_str());
    std::fflush(stdout);
  });
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

void AddWan(CLI::App& app, Bench& bench) {
  auto suite = std::make_shared<std::string>("core");
  auto* wan = AddSuite(app, bench, "wan", "The data plane over emulated paths, raced");
  wan->add_option("--suite", *suite, "core or grid (rates over round trip and loss)")
      ->check(CLI::IsMember({"core", "grid"}))
      ->capture_default_str();
  auto only = std::make_shared<std::string>();
  wan->add_option("--only", *only, "experiments with a row that begins like this");
  wan->callback([=, &bench] { bench.run = [=, &bench] { return RunWan(bench, *suite, *only); }; });
}

void AddWanPeer(CLI::App& app, Bench& bench) {
  auto options = std::make_shared<WanPeerOptions>();
  auto* peer = app.add_subcommand("wan-peer", "")->group("");  // started by the suite
  peer->add_option("--rank", options->rank);
  peer->add_option("--hosts", options->hosts)->delimiter(',');
  peer->add_option("--weights", options->weights)->delimiter(',');
  peer->add_option("--bytes", options->bytes);
  peer->add_option("--rounds", options->rounds);
  peer->add_option("--idle", options->idle_s);
  peer->add_option("--chunk", options->chunk_bytes);
  peer->add_option("--window", options->window_bytes);
  peer->add_option("--stripes", options->stripes);
  peer->callback([options, &bench] { bench.program = [options] { return WanPeer(*options); }; });
}

}  // namespace longhaul
