// The transport over emulated paths, by the suite's own peer: ratios to the bound, to iperf3 and to
// gloo, alternating in one run.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/wan_experiment.h"
#include "common/status_macros.h"
#include "wan/run.h"

namespace longhaul {
namespace {

constexpr uint64_t kMiB = 1024 * 1024;

double Least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

double Milli(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// Dropped in front of a full link, in percent of all packets.
double QueueDropPercent(const wan::EmulatorReport& report) {
  double packets = 0, drops = 0;
  for (const wan::LinkCounters& link : report.links) {
    packets += static_cast<double>(link.packets + link.queue_drops);
    drops += static_cast<double>(link.queue_drops);
  }
  return packets > 0 ? 100 * drops / packets : 0;
}

std::string Describe(const ExchangeResult& r) {
  const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
  return absl::StrFormat("%.3f to %.3f s, %s, %u stripes, credit %.1f MiB, %.2f core-s per Gbit",
                         *least, *most, r.congestion_control, r.stripes,
                         static_cast<double>(r.window_bytes) / kMiB, r.cpu_s_per_gbit);
}

Experiment Bulk(const std::string& name, const WanPath& path, uint64_t mib, uint32_t rounds,
                double goal) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({mib * kMiB, rounds}));
    const double time = Median(r.seconds);
    Numbers n;
    n.values["bound"] = ExchangeBoundS(path, mib * kMiB) / time;
    n.values["core_s"] = r.cpu_s_per_gbit;
    n.values["drops"] = QueueDropPercent(lab.report());
    n.note = absl::StrFormat("median %.3f s; %s", time, Describe(r));
    return n;
  };
  return OnPath(path, measure,
                {{name, "bound", "bound/time", goal},
                 {name + "_cpu", "core_s", "core-s/Gbit", 1.0, Relation::kAtMost},
                 {name + "_drops", "drops", "% of packets", 0.1, Relation::kAtMost}});
}

Experiment AgainstIperf(const std::string& name, const WanPath& path, uint64_t mib, double goal,
                        double of_link) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
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
  return OnPath(path, measure,
                {{name + "_iperf3", "iperf", "ours/iperf3", goal},
                 {name + "_link", "link", "of the link", of_link}});
}

Experiment AgainstGloo(const std::string& name, const WanPath& path, uint64_t mib, double bound,
                       double goal) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
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
  return OnPath(
      path, measure,
      {{name, "bound", "bound/time", bound}, {name + "_gloo", "gloo", "gloo/ours", goal}});
}

Experiment Unequal(const WanPath& path, uint64_t mib) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
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
  return OnPath(
      path, measure,
      {{"hetero", "bound", "bound/time", 0.90}, {"hetero_equal", "equal", "equal/weighted", 1.3}});
}

// After a pause, over size/rate + round trip.
Experiment AfterIdle(const std::string& name, const WanPath& path, uint64_t bytes, double idle_s,
                     uint32_t rounds, double goal) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ExchangeSpec spec{bytes, 1 + rounds};
    spec.idle_s = idle_s;
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange(spec));
    const std::vector<double> later(r.seconds.begin() + 1, r.seconds.end());
    Numbers n;
    n.values["over"] = Median(later) / ExchangeBoundS(path, bytes);
    n.note =
        absl::StrFormat("median %.3f s after %.0f s idle; %s", Median(later), idle_s, Describe(r));
    return n;
  };
  return OnPath(path, measure, {{name, "over", "time/bound", goal, Relation::kAtMost}});
}

// Credit as measured, against the best of fixed multiples of the bandwidth-delay product.
Experiment Credit(const WanPath& path, uint64_t mib) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
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
  return OnPath(path, measure, {{"credit_auto", "auto", "auto/best", 1.05, Relation::kAtMost}});
}

Experiment Stripes(const WanPath& path, uint64_t mib) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
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
  return OnPath(path, measure, {{"stripe_auto", "auto", "best/auto", 0.95}});
}

// Small messages on a connection of their own, while both uplinks are full.
Experiment Heartbeat(const std::string& name, const WanPath& path, uint64_t mib) {
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ExchangeSpec spec{mib * kMiB, 4};
    spec.heartbeats = true;
    ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange(spec));
    Numbers n;
    if (r.heartbeat_ms.empty()) return absl::InternalError("no heartbeat was answered");
    const double p99 = wan::Percentile(r.heartbeat_ms, 99);
    n.values["p99"] = p99 / path.round_trip_ms;
    n.note = absl::StrFormat("%d heartbeats, median %.1f ms, p99 %.1f ms; %s",
                             r.heartbeat_ms.size(), Median(r.heartbeat_ms), p99, Describe(r));
    return n;
  };
  return OnPath(path, measure, {{name, "p99", "p99/RTT", 1.5, Relation::kAtMost}});
}

// The same without goals: what is measured first, and set then.
Experiment Measured(Experiment experiment) {
  for (Row& row : experiment.rows) row.kind = ResultKind::kMeasure;
  return experiment;
}

// The emulator itself.
Experiment Emulator() {
  const WanPath path{{1000, 1000}, 100};
  const auto measure = [](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    ASSIGN_OR_RETURN(const double rate, lab.Iperf(6, 1, /*both_ways=*/false));
    Numbers n;
    n.values["rate"] = rate;
    n.values["delay_ms"] = Milli(lab.report().median_late);
    n.note = "iperf3, one stream";
    return n;
  };
  return OnPath(path, measure,
                {{"emulator_rate", "rate", "Mbit/s", 900},
                 {"emulator_delay", "delay_ms", "ms, median", 1, Relation::kAtMost}});
}

}  // namespace

std::vector<Experiment> TransportExperiments() {
  const WanPath giga{{1000, 1000}, 100}, four_hundred{{400, 400}, 100};
  WanPath giga_stock = giga, lossy = giga, very_lossy = giga;
  giga_stock.stock = true;
  lossy.loss_percent = 0.1;
  very_lossy.loss_percent = 1;
  const std::vector<double> four(4, 200);
  WanPath idle_stock{{200, 200}, 100}, four_stock{four, 100}, lossy_stock = lossy;
  idle_stock.stock = four_stock.stock = lossy_stock.stock = true;
  std::vector<Experiment> out;
  out.push_back(Emulator());
  out.push_back(Bulk("bulk_1g", giga, 128, 5, 0.95));
  out.push_back(Bulk("bulk_400m", four_hundred, 64, 5, 0.95));
  out.push_back(Bulk("bulk_1g_stock", giga_stock, 128, 5, 0.80));
  out.push_back(AgainstIperf("loss_0.1", lossy, 128, 0.90, 0.70));
  out.push_back(AgainstIperf("loss_1", very_lossy, 128, 0.85, 0));
  out.push_back(Heartbeat("heartbeat_400m", four_hundred, 64));
  out.push_back(Heartbeat("heartbeat_1g_stock", giga_stock, 64));
  out.push_back(Measured(AgainstIperf("loss_0.1_stock", lossy_stock, 8, 0, 0)));
  out.push_back(Measured(AgainstGloo("four_100ms_stock", four_stock, 32, 0, 0)));
  out.push_back(AgainstGloo("two_1g", giga, 64, 0.95, 4));
  out.push_back(AgainstGloo("four_100ms", {four, 100}, 32, 0.95, 1.5));
  out.push_back(AgainstGloo("four_300ms", {four, 300}, 32, 0.85, 2.5));
  out.push_back(AgainstGloo("four_20ms", {four, 20}, 32, 0.93, 1));
  out.push_back(Unequal({{300, 250, 200, 150}, 100}, 32));
  out.push_back(AfterIdle("idle_5s", {{200, 200}, 100}, 4 * kMiB, 5, 3, 1.5));
  out.push_back(AfterIdle("idle_60s", {{200, 200}, 100}, 4 * kMiB, 60, 1, 1.5));
  out.push_back(AfterIdle("idle_5s_stock", idle_stock, 4 * kMiB, 5, 3, 1.5));
  out.push_back(AfterIdle("fragment_3mb", {four, 100}, 3'000'000, 0, 3, 1.3));
  out.push_back(Credit({four, 100}, 16));
  out.push_back(Stripes(giga_stock, 64));
  return out;
}

namespace {

// What a path gives one CUBIC connection at most, Mbit/s: 1.22 segments / (RTT sqrt(loss)) (Mathis
// et al., 1997). For the size of a transfer only.
double MathisMbit(const WanPath& path) {
  constexpr double kSegmentBits = 1448 * 8, kConstant = 1.22;
  const double loss = path.loss_percent / 100;
  if (!path.stock || loss <= 0) return Least(path.mbit);
  const double bits = kConstant * kSegmentBits / (path.round_trip_ms / 1000 * std::sqrt(loss));
  return std::min(Least(path.mbit), bits / 1e6);
}

}  // namespace

Experiment RateRace(const std::string& name, const WanPath& path) {
  constexpr double kWantedS = 3;
  const double wanted = MathisMbit(path) * 1e6 / 8 * kWantedS;
  const auto bytes = static_cast<uint64_t>(std::clamp(wanted, 1.0 * kMiB, 64.0 * kMiB));
  const auto measure = [=](WanBenchLab& lab) -> absl::StatusOr<Numbers> {
    std::map<std::string, std::vector<double>> rates;
    const auto rate = [&](double seconds) { return static_cast<double>(bytes) * 8e-6 / seconds; };
    for (int i = 0; i < 2; ++i) {
      ASSIGN_OR_RETURN(const ExchangeResult r, lab.Exchange({bytes, 3}));
      rates["ours"].push_back(rate(Median(r.seconds)));
      const auto iperf = lab.Iperf(5, 1, /*both_ways=*/true);
      if (iperf.ok()) rates["iperf3"].push_back(*iperf);
      const auto gloo = lab.Gloo(bytes, 2);
      if (gloo.ok()) rates["gloo"].push_back(rate(Median(*gloo)));
    }
    Numbers n;
    for (const auto& [who, values] : rates) n.values[who] = Median(values);
    n.note = absl::StrFormat("%.1f MiB both ways", static_cast<double>(bytes) / kMiB);
    return n;
  };
  std::vector<Row> rows;
  for (const char* who : {"ours", "iperf3", "gloo"}) {
    rows.push_back(
        {absl::StrCat(name, "_", who), who, "Mbit/s", 0, Relation::kAtLeast, ResultKind::kMeasure});
  }
  return OnPath(path, measure, rows);
}

Experiment QuickExchange() { return Measured(Bulk("quick", {{100, 100}, 10}, 1, 2, 0)); }

}  // namespace longhaul
