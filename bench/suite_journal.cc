// A day's journal, and how fast a coordinator is back from it: records are appended and synced in
// groups, with snapshots in between as the coordinator takes them, then the journal is opened as a
// restart does. Files are in the temporary folder, so its disk is measured too.
#include <CLI/CLI.hpp>
#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/suite.h"
#include "common/status_macros.h"
#include "coordinator/journal.h"
#include "model/test_folder.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kRecordBytes = 200;  // a typical decision
constexpr size_t kGroup = 1000;       // records per sync: what a thousand workers send at once
constexpr size_t kStateBytes = 512 * 1024;  // of a thousand workers

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Times {
  double write_s = 0;
  double open_s = 0;
  size_t after_snapshot = 0;  // records
  uint64_t disk_bytes = 0;
};

absl::StatusOr<uint64_t> BytesIn(Storage& storage, const std::string& folder) {
  uint64_t bytes = 0;
  for (const std::string& name : storage.List(folder)) {
    ASSIGN_OR_RETURN(const uint64_t size, storage.Size(folder + "/" + name));
    bytes += size;
  }
  return bytes;
}

absl::Status Write(Storage& storage, const JournalOptions& options, size_t records) {
  ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(storage, options));
  std::string record(kRecordBytes, '\0');
  const std::string state(kStateBytes, 's');
  for (size_t i = 1; i <= records; ++i) {
    for (char& c : record) c = static_cast<char>(i + static_cast<size_t>(c) * 31);
    RETURN_IF_ERROR(opened.journal->Append(record));
    if (i % kGroup != 0 && i != records) continue;
    RETURN_IF_ERROR(opened.journal->Sync());
    if (opened.journal->snapshot_due()) RETURN_IF_ERROR(opened.journal->StoreSnapshot(state));
  }
  return absl::OkStatus();
}

absl::StatusOr<Times> Measure(const JournalOptions& options, size_t records) {
  const TestFolder folder;
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(folder.path()));
  Times times;
  const auto start = Clock::now();
  RETURN_IF_ERROR(Write(*storage, options, records));
  times.write_s = SecondsSince(start);
  for (const std::string& name : {options.folder, options.snapshot_folder}) {
    ASSIGN_OR_RETURN(const uint64_t bytes, BytesIn(*storage, name));
    times.disk_bytes += bytes;
  }
  const auto restart = Clock::now();
  ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(*storage, options));
  times.open_s = SecondsSince(restart);
  times.after_snapshot = opened.payloads.size();
  if (opened.journal->last_sequence() != records) return absl::DataLossError("records are missing");
  return times;
}

Result Measured(const std::string& name, double value, const std::string& unit) {
  return {.suite = "journal", .name = name, .value = value, .unit = unit};
}

std::vector<Result> Results(const std::string& suffix, size_t records,
                            const absl::StatusOr<Times>& measured) {
  const Times t = measured.ok() ? *measured : Times{.write_s = 1};
  std::vector<Result> results = {
      Measured("open" + suffix, t.open_s, "s"),
      Measured("append" + suffix, static_cast<double>(records) / t.write_s, "records/s"),
      Measured("disk" + suffix, static_cast<double>(t.disk_bytes) / 1e6, "MB")};
  results[0].note = absl::StrCat(records, " records of ", kRecordBytes, " bytes, ",
                                 t.after_snapshot, " after the snapshot");
  results[1].note = absl::StrCat("synced in groups of ", kGroup);
  for (Result& result : results) {
    if (measured.ok()) continue;
    result.value.reset();
    result.note = std::string(measured.status().message());
  }
  return results;
}

std::vector<Result> RunJournal(const Bench& bench) {
  const size_t records = bench.quick ? 20'000 : 1'000'000;
  JournalOptions options;
  if (bench.quick) options.snapshot_bytes = 1 << 20;
  std::vector<Result> results = Results("", records, Measure(options, records));
  results[0].kind = ResultKind::kGoal;
  results[0].relation = Relation::kAtMost;
  results[0].target = 1;
  options.snapshot_bytes = UINT64_MAX;
  for (Result& result : Results("_without_snapshots", records, Measure(options, records))) {
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace

void AddJournal(CLI::App& app, Bench& bench) {
  CLI::App* sub = AddSuite(app, bench, "journal", "A day's journal, and the restart from it");
  sub->callback([&bench] { bench.run = [&bench] { return RunJournal(bench); }; });
}

}  // namespace longhaul
