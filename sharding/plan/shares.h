// P2: which share of a fragment each reducer adds up, from what links carry up and down.
//
// With V_u bytes of contribution and V_d bytes of aggregate, n_c contributors and n_r receivers,
// peer i with share w_i sends its contribution but for its own slice, and its slice's aggregate to
// everybody else who wants it; and receives the mirror image:
//
//   up:   c_i V_u (1 - w_i) + (n_r - r_i) V_d w_i  <=  u_i T
//   down: r_i V_d (1 - w_i) + (n_c - c_i) V_u w_i  <=  d_i T
//
// with c_i, r_i = 1 for those that contribute, receive. T is as small as sum w_i = 1 allows,
// without a round trip. Both loads are linear in w_i, so for a given T each w_i has an interval,
// and both its ends are monotone in T: the least T is the largest of three roots (every interval is
// not empty; the upper ends reach 1; the lower ends do not exceed 1), which is the optimum of the
// linear program. With V_u = V_d = M, n equal roles and c_i = min(u_i, d_i) it is
//
//   T = max(M / min c, 2 (n - 1) M / sum c),   w_i in proportion to T c_i / M - 1.
//
// Pure; any thread. O(n) for each of the few dozen steps of a root search.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

struct SharePeer {
  double up_bytes_per_s = 0;    // above 0
  double down_bytes_per_s = 0;  // above 0
  bool contributes = true;
  bool receives = true;   // wants the aggregate
  double most_share = 1;  // 0: a pure client
};

struct SharePayload {
  double up_bytes = 0;    // of one contribution, above 0
  double down_bytes = 0;  // of the aggregate, above 0
};

struct SharePlan {
  bool possible = false;       // false: nobody may reduce, or those who may must not take all of it
  double seconds = 0;          // T
  std::vector<double> shares;  // by peer; they add up to 1
};

SharePlan PlanShares(const std::vector<SharePeer>& peers, const SharePayload& payload);

// T of other shares, by the same model.
double SharesSeconds(const std::vector<SharePeer>& peers, const SharePayload& payload,
                     const std::vector<double>& shares);

// Whole chunks: the largest remainders are rounded up, the first of equal ones. A share of 0 stays
// 0. Adds up to `chunks` for shares that add up to 1.
std::vector<uint32_t> ChunksOfShares(const std::vector<double>& shares, uint32_t chunks);

}  // namespace longhaul
