// P3: which fragments of the model each worker sends in a round, so that slow links do not hold up
// the others.
//
// With F equal fragments worker i sends k_i of them until deadline T, k_i(T) = floor(F x its share
// of the payload that its link carries in T), at most F. Every fragment must be covered by at least
// a share q of all workers' weight. T is as small as that allows.
//
// The fragments of the first round are chosen greedily (the heaviest partial sender first, those
// that are covered least); in every later round all of them shift by one, so that coverage stays as
// balanced as it was. A worker sends each fragment at least once in max_wait_rounds: where greed
// leaves a wider gap, its fragments are spread evenly instead, and who cannot send
// ceil(F / max_wait_rounds) of them sends none. The weight of those still counts in the whole.
//
// Bound: coverage summed over fragments cannot exceed sum w_i min(1, b_i T / V), so T is at least
// where that reaches q times the whole weight.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

struct FragmentWorker {
  double bytes_per_s = 0;  // above 0
  double delay_s = 0;      // before the first byte counts
  double weight = 0;       // above 0, in tokens
};

struct FragmentLimits {
  uint32_t fragments = 1;
  double payload_bytes = 0;       // of all fragments
  double coverage = 0.95;         // q, in (0, 1]
  uint32_t max_wait_rounds = 16;  // in which a worker sends each fragment at least once
};

// What a worker sends in round 0, ascending.
using FragmentShare = std::vector<uint32_t>;

struct FragmentPlan {
  bool possible = false;  // false: the workers that may send do not reach the coverage
  double deadline_s = 0;
  std::vector<FragmentShare> shares;
  double coverage = 0;  // of the least covered fragment
  double bound_s = 0;
  double ratio() const { return bound_s > 0 ? deadline_s / bound_s : 1; }
};

FragmentPlan PlanFragments(const std::vector<FragmentWorker>& workers,
                           const FragmentLimits& limits);

// What it sends in another round.
std::vector<uint32_t> FragmentsOf(const FragmentShare& share, uint32_t fragments, uint64_t round);
// `count` fragments, evenly spread from `offset` on.
FragmentShare SpreadEvenly(uint32_t count, uint32_t offset, uint32_t fragments);
// The most rounds between two of its sends of a fragment; 0 when it sends none.
uint32_t LongestWait(const FragmentShare& share, uint32_t fragments);

// Everybody sends everything: the slowest link's time.
double WholePayloadSeconds(const std::vector<FragmentWorker>& workers, double payload_bytes);

}  // namespace longhaul
