// The cores alone, without sockets and disks: how many events the coordinator's core takes, what a
// round costs in control messages and bytes as the fleet grows, how long a large fleet takes, and
// how fast a coordinator is back.
#include <CLI/CLI.hpp>
#include <chrono>
#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/core_fleet.h"
#include "bench/suite.h"
#include "common/status_macros.h"
#include "coordinator/journal.h"
#include "model/test_folder.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

// Bytes per worker and round in the largest fleet, against the smallest.
constexpr double kLinear = 1.1;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of this process: the cores are one thread and wait for nothing, so other programs do not count.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

Result Measured(const std::string& name, double value, const std::string& unit,
                const std::string& note = "") {
  return {.suite = "core", .name = name, .value = value, .unit = unit, .note = note};
}

Result Goal(Result result, Relation relation, double target) {
  result.kind = ResultKind::kGoal;
  result.relation = relation;
  result.target = target;
  return result;
}

double Each(uint64_t sum, uint64_t parts) {
  return static_cast<double>(sum) / static_cast<double>(std::max<uint64_t>(1, parts));
}

void Unmeasured(std::vector<Result>& results, const std::string& why) {
  for (Result& result : results) {
    result.value.reset();
    result.note = why;
  }
}

// ---- events ----

// What a fleet told its coordinator, told again to a new one: nothing else is in the measured time.
std::vector<Result> Events(uint32_t workers, uint32_t rounds) {
  std::vector<Event> events;
  CoreFleetOptions options{.workers = workers, .rounds = rounds + 2};  // it stops in mid-run
  options.on_event = [&events](const Event& e) { events.push_back(e); };
  CoreFleet fleet(options);
  const bool done = fleet.RunUntil({rounds});
  Coordinator again(fleet.config());
  again.Restore(CoreFleet::FirstState(options));
  double start = CpuSeconds();
  for (const Event& event : events) again.Step(event);
  const double events_s = CpuSeconds() - start;
  start = CpuSeconds();
  uint64_t leases = 0;
  for (const auto& [id, session] : again.state().sessions)
    leases += again.AssignmentFor(id, {}).leases.size();
  const double assignments_s = CpuSeconds() - start;
  std::vector<Result> results = {
      Goal(Measured("events", static_cast<double>(events.size()) / events_s, "per CPU second",
                    absl::StrCat("steps of the coordinator's core with ", workers, " workers, ",
                                 events.size(), " in ", rounds, " rounds")),
           Relation::kAtLeast, 500'000),
      Measured("assignments", workers / assignments_s, "per CPU second",
               absl::StrCat("with ", Each(leases, workers), " leases"))};
  if (!done) Unmeasured(results, "the fleet came to a stand");
  if (!(again.state() == fleet.coordinator().state()))
    Unmeasured(results, "the same events led to another state");
  return results;
}

// ---- control ----

std::vector<Result> Control(const std::vector<uint32_t>& fleets, uint32_t rounds) {
  std::vector<Result> results;
  double first = 0;
  for (uint32_t workers : fleets) {
    CoreFleet fleet({.workers = workers, .rounds = rounds, .count_bytes = true});
    const bool done = fleet.RunUntil({rounds});
    const CoreFleetCounts& c = fleet.counts();
    const uint64_t parts = uint64_t{workers} * rounds;
    const std::string suffix = absl::StrCat("_", workers);
    const double bytes = Each(c.message_bytes + c.heartbeat_bytes, parts);
    std::vector<Result> own = {
        Goal(Measured("messages" + suffix, Each(c.messages, parts), "per worker and round",
                      absl::StrCat("both directions, besides ", Each(c.heartbeats, parts),
                                   " heartbeats and answers")),
             Relation::kAtMost, 8),
        Measured("control_bytes" + suffix, Each(c.message_bytes + c.heartbeat_bytes, rounds),
                 "bytes/round",
                 absl::StrCat(bytes, " per worker, ", Each(c.heartbeat_bytes, parts),
                              " of them heartbeats and answers"))};
    if (first == 0) first = bytes;
    if (workers == fleets.back()) {
      own.push_back(Goal(
          Measured("control_bytes_growth", bytes / first, "times",
                   absl::StrCat("per worker and round, ", workers, " workers to ", fleets.front())),
          Relation::kAtMost, kLinear));
    }
    if (!done) Unmeasured(own, "the fleet came to a stand");
    results.insert(results.end(), own.begin(), own.end());
  }
  return results;
}

// ---- a large fleet ----

std::vector<Result> LargeFleet(uint32_t workers, uint32_t rounds) {
  const auto start = Clock::now();
  const double cpu_start = CpuSeconds();
  CoreFleet fleet({.workers = workers, .rounds = rounds});
  const bool done = fleet.RunUntil({rounds});
  const double cpu_s = CpuSeconds() - cpu_start;
  const CoreFleetCounts& c = fleet.counts();
  const auto virtual_s = (fleet.now() - Timestamp{}) / Seconds(1);
  std::vector<Result> results = {Goal(
      Measured(
          "large_fleet", cpu_s, "CPU s",
          absl::StrCat(SecondsSince(start), " s of wall-clock time, ", workers, " worker cores, ",
                       rounds, " rounds, ", virtual_s, " s of virtual time, ",
                       c.events + c.worker_events, " events, ", c.assignments, " assignments")),
      Relation::kAtMost, 60)};
  if (!done) Unmeasured(results, "the fleet came to a stand");
  return results;
}

// ---- restart ----

struct RestartTimes {
  double open_s = 0;
  double total_s = 0;  // until a message is accepted
  size_t records = 0;
  size_t state_bytes = 0;
};

// Just before the second snapshot: the most that a restart can find, however long the run is.
absl::Status WriteJournal(Storage& storage, const JournalOptions& options, uint32_t workers) {
  constexpr uint32_t kManyRounds = 1000;
  ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(storage, options));
  absl::Status status;
  uint64_t since_snapshot = 0;
  bool stored = false;
  auto append = [&](const State& state, const std::vector<Record>& records) {
    for (const Record& record : records) {
      const std::string bytes = EncodeRecord(record);
      since_snapshot += bytes.size();
      status.Update(opened.journal->Append(bytes));
    }
    if (stored || !opened.journal->snapshot_due()) return;
    status.Update(opened.journal->Sync());
    status.Update(opened.journal->StoreSnapshot(EncodeState(state)));
    since_snapshot = 0;
    stored = true;
  };
  CoreFleet fleet({.workers = workers, .rounds = kManyRounds, .on_records = append});
  for (uint32_t round = 1; status.ok() && round < kManyRounds; ++round) {
    if (stored && since_snapshot * 20 > options.snapshot_bytes * 19) return opened.journal->Sync();
    if (!fleet.RunUntil({round})) return absl::InternalError("the fleet came to a stand");
    status.Update(opened.journal->Sync());
  }
  return status.ok() ? absl::InternalError("the journal did not fill up") : status;
}

absl::StatusOr<RestartTimes> Restart(Storage& storage, const JournalOptions& options,
                                     const CoreFleet& fleet) {
  RestartTimes times;
  const auto start = Clock::now();
  ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(storage, options));
  times.open_s = SecondsSince(start);
  times.records = opened.payloads.size();
  if (!opened.snapshot) return absl::InternalError("there is no snapshot");
  times.state_bytes = opened.snapshot->size();
  std::optional<State> state = DecodeState(AsBytes(*opened.snapshot));
  if (!state) return absl::InternalError("the snapshot cannot be read");
  for (const std::string& payload : opened.payloads) {
    ASSIGN_OR_RETURN(const Record record, DecodeRecord(AsBytes(payload)));
    Coordinator::Apply(*state, record);
  }
  const Timestamp now = state->now;
  Coordinator core(fleet.config());
  core.Restore(std::move(*state));
  core.Step({now, BootEvent{.restarted = true}});
  const Effects effects = core.Step({now, fleet.HelloOf(0)});
  times.total_s = SecondsSince(start);
  if (effects.replies.empty() || !std::holds_alternative<Welcome>(effects.replies[0].message))
    return absl::InternalError("a worker that comes back is not welcome");
  return times;
}

absl::StatusOr<RestartTimes> MeasureRestart(uint32_t workers, bool quick) {
  const TestFolder folder;
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(folder.path()));
  JournalOptions options;
  if (quick) options.snapshot_bytes = 1 << 20;
  RETURN_IF_ERROR(WriteJournal(*storage, options, workers));
  const CoreFleet fleet({.workers = workers, .rounds = 1000});  // the same keys and processes
  return Restart(*storage, options, fleet);
}

std::vector<Result> RestartResults(uint32_t workers, bool quick) {
  const absl::StatusOr<RestartTimes> measured = MeasureRestart(workers, quick);
  const RestartTimes t = measured.ok() ? *measured : RestartTimes{};
  std::vector<Result> results = {
      Goal(Measured("restart", t.total_s, "s",
                    absl::StrCat(workers, " workers, a state of ", t.state_bytes / 1024,
                                 " KiB and ", t.records,
                                 " records after it, which is the most that a journal of any "
                                 "length leaves to read; until a hello is answered")),
           Relation::kAtMost, 1),
      Measured("restart_journal", t.open_s, "s", "of that, reading and checking the files")};
  if (!measured.ok()) Unmeasured(results, std::string(measured.status().message()));
  return results;
}

std::vector<Result> RunCore(const Bench& bench) {
  const uint32_t scale = bench.quick ? 20 : 1;
  std::vector<Result> results = Events(1000 / scale, 100 / scale);
  auto append = [&results](std::vector<Result> more) {
    for (Result& result : more) results.push_back(std::move(result));
  };
  append(Control({100 / scale, 1000 / scale, 10'000 / scale}, 10));
  append(LargeFleet(10'000 / scale, 100 / scale));
  append(RestartResults(1000 / scale, bench.quick));
  return results;
}

}  // namespace

void AddCore(CLI::App& app, Bench& bench) {
  CLI::App* sub = AddSuite(app, bench, "core", "Speed and control traffic of the cores alone");
  sub->callback([&bench] { bench.run = [&bench] { return RunCore(bench); }; });
}

}  // namespace longhaul
