// How a fragment is divided among reducers.
//
// Pure. ReducerShares uses integers only, so that every machine finds the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

// Chunks of each of `reducers` slices: at least one each, `chunks` in all, as equal as can be, the
// larger ones first. Needs 1 <= reducers <= chunks.
std::vector<uint32_t> ReducerShares(uint32_t chunks, uint32_t reducers);

// One that takes part in an exchange.
struct ExchangeMember {
  double share = 0;        // of the fragment, that it reduces
  double bytes_per_s = 0;  // the lesser of up and down; > 0
};

// How long it takes at least to send every member's contribution (`up_bytes`) to the reducers and
// the aggregate (`down_bytes`) to every member: the time of the busiest direction of the busiest
// link. With shares proportional to what is left of each link this is the bound of direct sharded
// reduction, max(M / min c, 2 (N - 1) M / sum c) for M = up = down (Patarasuk and Yuan 2009,
// bandwidth-optimal all-reduce, for equal links).
double ExchangeSeconds(double up_bytes, double down_bytes, std::span<const ExchangeMember> members);

}  // namespace longhaul
