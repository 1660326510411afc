// The data plane over emulated paths: ratios to the bound, to iperf3 and to gloo, and real runs,
// measured in one go. Needs tier tun; without it little is measured, and the rows say why.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/suite.h"
#include "bench/wan_experiment.h"
#include "bench/wan_figure.h"
#include "bench/wan_peer.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

struct Options {
  std::string suite = "core";
  std::string only;
  std::string svg;
};

std::vector<Experiment> Core() {
  std::vector<Experiment> out = TransportExperiments();
  for (Experiment& e : ProductExperiments()) out.push_back(std::move(e));
  out.push_back(ZmqTax(1024));
  out.push_back(ScaleSim({4, 32, 250, 900}));
  return out;
}

// Small and short: that everything still works.
std::vector<Experiment> Quick() { return {QuickExchange(), QuickRun(), ZmqTax(4), ScaleSim({4})}; }

// ---- rates over round trip and loss ----

struct Cell {
  std::string name;
  std::string panel;
  WanPath path;
};

std::vector<Cell> GridCells() {
  std::vector<Cell> out;
  for (bool stock : {false, true}) {
    for (double loss : {0.0, 0.01, 0.1, 1.0}) {
      for (double rtt : {20.0, 100.0, 300.0}) {
        const char* kernel = stock ? "stock" : "bbr";
        out.push_back({absl::StrFormat("%.0fms_%g%%_%s", rtt, loss, kernel),
                       absl::StrFormat("%g %% loss, %s", loss, stock ? "stock kernels" : "BBR"),
                       {{400, 400}, rtt, loss, stock}});
      }
    }
  }
  return out;
}

std::vector<Experiment> Grid() {
  std::vector<Experiment> out;
  for (const Cell& cell : GridCells()) out.push_back(RateRace(cell.name, cell.path));
  return out;
}

// What was measured of the grid.
std::string GridFigure(const std::vector<Result>& results) {
  std::vector<RatePoint> points;
  for (const Cell& cell : GridCells()) {
    for (const char* who : {"ours", "iperf3", "gloo"}) {
      const std::string row = absl::StrCat(cell.name, "_", who);
      for (const Result& r : results) {
        if (r.name != row || !r.value || *r.value <= 0) continue;
        points.push_back({who, cell.panel, cell.path.round_trip_ms, *r.value});
      }
    }
  }
  return RateFigure("Mbit/s each way between two hosts, 400 Mbit/s, over round trip", points);
}

// ---- running ----

nlohmann::json ToJson(const absl::StatusOr<Numbers>& numbers) {
  if (!numbers.ok()) return {{"problem", std::string(numbers.status().message())}};
  std::map<std::string, double> values;  // JSON has no NaN
  for (const auto& [name, value] : numbers->values) {
    if (std::isfinite(value)) values[name] = value;
  }
  return {{"values", values}, {"note", numbers->note}, {"valid", numbers->valid}};
}

// In a lab of its own; numbers come back through a file, as the lab is another process.
absl::StatusOr<Numbers> RunInOwnLab(const Experiment& experiment, const Place& place) {
  const std::string file = place.work_folder + "/numbers.json";
  const auto code = wan::RunInLab([&] {
    std::ofstream(file) << ToJson(experiment.measure(place)).dump();
    return 0;
  });
  RETURN_IF_ERROR(code.status());
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InternalError("the lab ended without numbers");
  if (json.contains("problem")) return absl::InternalError(json["problem"].get<std::string>());
  return Numbers{json["values"].get<std::map<std::string, double>>(), json["note"], json["valid"]};
}

absl::StatusOr<Numbers> RunExperiment(const Experiment& experiment, const Place& place) {
  ASSIGN_OR_RETURN(Numbers out,
                   experiment.in_lab ? RunInOwnLab(experiment, place) : experiment.measure(place));
  if (!out.valid) {
    out.values.clear();
    out.note += ": INVALID, this machine was too busy";
  }
  return out;
}

Result ResultOf(const Row& row, const absl::StatusOr<Numbers>& numbers) {
  Result result{"wan", row.name, std::nullopt, row.unit, row.target, row.relation, row.kind, ""};
  result.note = numbers.ok() ? numbers->note : std::string(numbers.status().message());
  if (numbers.ok()) {
    const auto it = numbers->values.find(row.value);
    if (it != numbers->values.end()) result.value = it->second;
  }
  std::fprintf(stderr, "%-20s %s  %s\n", row.name.c_str(),
               result.value ? absl::StrFormat("%.3f", *result.value).c_str() : "-",
               result.note.c_str());
  return result;
}

// Whether any row's name begins with `prefix`.
bool Wanted(const Experiment& experiment, const std::string& prefix) {
  return std::any_of(experiment.rows.begin(), experiment.rows.end(),
                     [&](const Row& row) { return row.name.rfind(prefix, 0) == 0; });
}

std::vector<Result> RunWan(const Bench& bench, const Options& options) {
  std::string folder = std::filesystem::temp_directory_path().string() + "/longhaul-bench-XXXXXX";
  if (!::mkdtemp(folder.data())) return {};
  const auto experiments = bench.quick ? Quick() : options.suite == "grid" ? Grid() : Core();
  std::vector<Result> results;
  for (const Experiment& experiment : experiments) {
    if (!Wanted(experiment, options.only)) continue;
    // A folder of its own: names of files and of gloo's meeting place come again in every lab.
    const Place place{bench.program_folder, absl::StrCat(folder, "/", results.size())};
    std::filesystem::create_directories(place.work_folder);
    const auto numbers = RunExperiment(experiment, place);
    for (const Row& row : experiment.rows) results.push_back(ResultOf(row, numbers));
  }
  std::filesystem::remove_all(folder);
  if (!options.svg.empty()) std::ofstream(options.svg) << GridFigure(results);
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
                                       {"heartbeat_ms", r.heartbeat_ms},
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

void AddLateness(const wan::EmulatorReport& report, Numbers* numbers) {
  const auto ms = [](Duration d) { return std::chrono::duration<double, std::milli>(d).count(); };
  absl::StrAppend(&numbers->note,
                  absl::StrFormat("; emulator late by %.2f ms in the median, %.1f ms at worst",
                                  ms(report.median_late), ms(report.worst_late)));
  numbers->valid = numbers->valid && report.valid();
}

Experiment OnPath(const WanPath& path, std::function<absl::StatusOr<Numbers>(WanBenchLab&)> measure,
                  std::vector<Row> rows) {
  Experiment out;
  out.measure = [=](const Place& place) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const auto lab,
                     WanBenchLab::Create(path, place.program_folder, place.work_folder));
    ASSIGN_OR_RETURN(Numbers numbers, measure(*lab));
    AddLateness(lab->report(), &numbers);
    return numbers;
  };
  out.rows = std::move(rows);
  return out;
}

void AddWan(CLI::App& app, Bench& bench) {
  auto options = std::make_shared<Options>();
  auto* wan = AddSuite(app, bench, "wan", "The data plane over emulated paths, raced");
  wan->add_option("--suite", options->suite, "core or grid (rates over round trip and loss)")
      ->check(CLI::IsMember({"core", "grid"}))
      ->capture_default_str();
  wan->add_option("--only", options->only, "experiments with a row that begins like this");
  wan->add_option("--svg", options->svg, "draw the rates of --suite grid into this file");
  wan->callback([=, &bench] { bench.run = [=, &bench] { return RunWan(bench, *options); }; });
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
  peer->add_flag("--heartbeats", options->heartbeats);
  peer->callback([options, &bench] { bench.program = [options] { return WanPeer(*options); }; });
}

}  // namespace longhaul
