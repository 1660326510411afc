// The plan of shares against GLPK's solution of the linear program that it claims to solve.
#include <glpk.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "common/rng.h"
#include "sharding/plan/shares.h"

namespace longhaul {
namespace {

// min T subject to load(w) - rate T <= 0 for both ways of each peer, sum w = 1, 0 <= w <= most.
// Rates in units of the fastest, sizes in units of the contribution, so that GLPK's tolerances fit.
double Solve(const std::vector<SharePeer>& peers, const SharePayload& payload) {
  const int n = static_cast<int>(peers.size());
  double contributors = 0, receivers = 0, fastest = 0;
  for (const SharePeer& p : peers) {
    contributors += p.contributes;
    receivers += p.receives;
    fastest = std::max({fastest, p.up_bytes_per_s, p.down_bytes_per_s});
  }
  const double down = payload.down_bytes / payload.up_bytes;
  std::unique_ptr<glp_prob, decltype(&glp_delete_prob)> lp(glp_create_prob(), &glp_delete_prob);
  glp_set_obj_dir(lp.get(), GLP_MIN);
  glp_add_cols(lp.get(), n + 1);
  glp_add_rows(lp.get(), 2 * n + 1);
  glp_set_col_bnds(lp.get(), n + 1, GLP_LO, 0, 0);
  glp_set_obj_coef(lp.get(), n + 1, 1);
  std::vector<int> every(1, 0);
  std::vector<double> ones(1, 0);
  for (int i = 1; i <= n; ++i) {
    const SharePeer& p = peers[static_cast<size_t>(i - 1)];
    const double most = p.most_share;
    glp_set_col_bnds(lp.get(), i, most > 0 ? GLP_DB : GLP_FX, 0, most);
    const double own[2] = {p.contributes ? 1.0 : 0, p.receives ? down : 0};
    const double others[2] = {(receivers - p.receives) * down, contributors - p.contributes};
    const double rate[2] = {p.up_bytes_per_s / fastest, p.down_bytes_per_s / fastest};
    for (int way = 0; way < 2; ++way) {
      const int columns[] = {0, i, n + 1};
      const double values[] = {0, others[way] - own[way], -rate[way]};
      glp_set_mat_row(lp.get(), 2 * i - 1 + way, 2, columns, values);
      glp_set_row_bnds(lp.get(), 2 * i - 1 + way, GLP_UP, 0, -own[way]);
    }
    every.push_back(i);
    ones.push_back(1);
  }
  glp_set_mat_row(lp.get(), 2 * n + 1, n, every.data(), ones.data());
  glp_set_row_bnds(lp.get(), 2 * n + 1, GLP_FX, 1, 1);
  glp_term_out(GLP_OFF);
  glp_smcp options;
  glp_init_smcp(&options);
  options.tol_bnd = options.tol_dj = 1e-9;
  glp_scale_prob(lp.get(), GLP_SF_AUTO);
  EXPECT_EQ(glp_simplex(lp.get(), &options), 0);
  EXPECT_EQ(glp_get_status(lp.get()), GLP_OPT);
  return glp_get_obj_val(lp.get()) * payload.up_bytes / fastest;
}

TEST(SharesLpTest, EqualToTheSolver) {
  Rng rng(17);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<SharePeer> peers(2 + rng.Below(trial % 50 == 0 ? 300 : 20));
    const uint64_t kinds = rng.Below(4);
    for (SharePeer& p : peers) {
      p.up_bytes_per_s = 1e5 * static_cast<double>(1 + rng.Below(1000));
      p.down_bytes_per_s =
          kinds == 0 ? p.up_bytes_per_s : 1e5 * static_cast<double>(1 + rng.Below(1000));
      if (kinds >= 2) p.contributes = !rng.Chance(1, 5);
      if (kinds >= 2) p.receives = !rng.Chance(1, 5);
      if (kinds == 3 && rng.Chance(1, 3)) p.most_share = rng.Chance(1, 2) ? 0 : 0.1;
    }
    peers[0].contributes = peers[0].receives = true;
    peers[0].most_share = 1;
    const double bytes = 1e6 * static_cast<double>(1 + rng.Below(100));
    const SharePayload payload{bytes, rng.Chance(1, 2) ? bytes : 2 * bytes};
    const SharePlan plan = PlanShares(peers, payload);
    ASSERT_TRUE(plan.possible);
    EXPECT_NEAR(plan.seconds / Solve(peers, payload), 1, 1e-6) << trial;
  }
}

}  // namespace
}  // namespace longhaul
