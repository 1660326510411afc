#include "coordinator/coverage.h"

#include <map>

#include "common/status_macros.h"
#include "data/data_set.h"
#include "proto/codec.h"

namespace longhaul {
namespace {

void AddQuarantined(const State& state, CoverageView& view) {
  std::map<uint32_t, std::string> names;
  for (const auto& [key, worker] : state.workers) names[worker.number] = worker.name;
  const std::vector<FailureMap::Entry> entries = state.leases.Quarantined();
  view.quarantined_ranges = entries.size();
  for (const FailureMap::Entry& entry : entries) {
    if (view.quarantined.size() == kMaxStatusRanges) break;
    QuarantinedRange range{entry.from, entry.to, {}};
    for (uint32_t worker : entry.workers) {
      if (worker == 0) continue;
      // A checkpoint of another run brings numbers that this one does not know.
      const auto name = names.find(worker);
      range.workers.push_back(name == names.end() ? "worker " + std::to_string(worker)
                                                  : name->second);
    }
    view.quarantined.push_back(std::move(range));
  }
}

}  // namespace

const char* PhaseName(Phase phase) {
  static constexpr const char* kNames[] = {"", "waiting", "running", "finished", "stopped", "left"};
  return kNames[static_cast<size_t>(phase) % std::size(kNames)];
}

CoverageView CoverageOf(const State& state) {
  CoverageView view;
  const LeaseBook& leases = state.leases;
  for (uint64_t i = 0; i < leases.fragments(); ++i) {
    const FragmentId fragment{i};
    const Ledger::Totals& t = leases.totals(fragment);
    view.fragments.push_back(
        {.committed = t.committed,
         .sealed = t.sealed,
         .leased = t.leased,
         .free = t.free,
         .other_fragment_committed =
             leases.discarded(fragment, DiscardReason::kOtherFragmentCommitted),
         .carried_too_often = leases.discarded(fragment, DiscardReason::kCarry),
         .quarantined = t.quarantined,
         .total = leases.total()});
  }
  if (leases.totals(FragmentId{0}).quarantined > 0) AddQuarantined(state, view);
  return view;
}

std::vector<DomainCoverage> DomainCoverageOf(const State& state, const DataOrigin& data) {
  const Manifest& manifest = data.manifest();
  const SampleMap samples(manifest);
  const size_t domains = std::min(manifest.domains.size(), kMaxStatusRanges);
  std::vector<DomainCoverage> rows;
  for (uint32_t d = 0; d < domains; ++d)
    rows.push_back({.name = manifest.domains[d].name, .samples = samples.samples(d)});
  FragmentId behind{0};
  for (uint64_t i = 1; i < state.leases.fragments(); ++i) {
    if (state.leases.totals(FragmentId{i}).committed < state.leases.totals(behind).committed)
      behind = FragmentId{i};
  }
  const Ledger& ledger = state.leases.ledger(behind);
  for (uint64_t from = 0; from < ledger.total();) {
    const Ledger::Piece piece = ledger.At(from);
    using S = Ledger::State;
    const S kind = piece.holding.state;
    if (kind != S::kFree) {
      const std::vector<uint64_t> counts = data.order().Count(from, piece.to);
      uint64_t DomainCoverage::*sum = kind == S::kCommitted  ? &DomainCoverage::committed
                                      : piece.holding.held() ? &DomainCoverage::in_hand
                                                             : &DomainCoverage::lost;
      for (size_t d = 0; d < domains; ++d) rows[d].*sum += counts[d];
    }
    from = piece.to;
  }
  return rows;
}

absl::StatusOr<RunStatus> StatusOf(const State& state) {
  ASSIGN_OR_RETURN(const RunConfig config, DecodeRunConfig(AsBytes(state.run_config)));
  RunStatus status;
  status.run = config.run.name;
  status.phase = PhaseName(state.phase);
  status.reason = state.degraded.empty() ? state.reason : "degraded: " + state.degraded;
  status.elapsed = state.now - Timestamp{};
  status.rounds = config.run.rounds * state.fragments.size();
  RoundReport last{.round = state.outer_steps(), .rounds = status.rounds};
  for (const Fragment& f : state.fragments) {
    if (!f.commits.empty()) last.loss = std::bit_cast<double>(f.commits.rbegin()->second.loss_bits);
  }
  if (last.round > 0) status.last_round = last;
  status.workers_total = state.sessions.size();
  status.coverage = CoverageOf(state);
  return status;
}

}  // namespace longhaul
