#include "coordinator/round_planner.h"

#include <gtest/gtest.h>

#include "common/rng.h"

namespace longhaul {
namespace {

// A fleet on virtual time: each worker makes its steps, sends, and the coordinator commits.
class Fleet {
 public:
  Fleet(std::vector<double> step_s, double send_s, const RoundPlanner::Options& options)
      : step_s_(std::move(step_s)), send_s_(send_s), planner(options), options_(options) {
    for (uint64_t i = 1; i <= step_s_.size(); ++i) steps[SessionId{i}] = options.inner_steps;
  }

  // Returns what the round took.
  double Round(double noise = 0) {
    RoundOpened opened{.round = RoundId{++round_}};
    for (const auto& [session, n] : steps) opened.members.push_back({session, n});
    Tell(opened, 0);
    double longest = 0;
    for (const auto& [session, n] : steps) {
      const double factor = 1 + noise * (2e-6 * static_cast<double>(rng_.Below(1'000'001)) - 1);
      const double step_s = step_s_[session.value - 1] * factor;
      Heartbeat& h = heartbeats_[session];
      h.steps += n;
      h.computing_ns += static_cast<uint64_t>(1e9 * step_s * static_cast<double>(n));
      planner.OnHeartbeat(session, h);
      const ContributionId id{session, round_};
      const double at = step_s * static_cast<double>(n) + send_s_;
      ContributionAccepted accepted{.steps = n};
      accepted.object.id.contribution = id;
      Tell(accepted, at - send_s_);
      Tell(ContributionHeld{FragmentId{0}, id}, at);
      longest = std::max(longest, at);
    }
    longest += 0.05;
    Tell(RoundCommitted{}, longest);
    now_ = now_ + Duration(static_cast<int64_t>(1e9 * longest));
    return longest;
  }
  void Plan() {
    for (const Member& m : planner.Plan(steps).steps) steps[m.session] = m.steps;
  }

  std::map<SessionId, uint64_t> steps;

 private:
  template <class T>
  void Tell(const T& body, double after_s) {
    planner.OnRecord(Record{now_ + Duration(static_cast<int64_t>(1e9 * after_s)), body});
  }

  const std::vector<double> step_s_;
  const double send_s_;
  std::map<SessionId, Heartbeat> heartbeats_;
  Timestamp now_;
  uint64_t round_ = 0;
  Rng rng_{5};

 public:
  RoundPlanner planner;

 private:
  const RoundPlanner::Options options_;
};

const RoundPlanner::Options kOptions{.inner_steps = 40, .tokens_per_step = 1024, .rule = {1, 0}};

TEST(RoundPlannerTest, EverybodyIsReadyTogether) {
  Fleet fleet({0.1, 0.2, 0.4, 0.8}, 1.0, kOptions);
  const double before = fleet.Round();
  fleet.Plan();
  const double after = fleet.Round();
  EXPECT_LT(after, before);
  EXPECT_GT(fleet.steps[SessionId{1}], fleet.steps[SessionId{2}]);
  EXPECT_GT(fleet.steps[SessionId{2}], fleet.steps[SessionId{4}]);
  for (const auto& [session, steps] : fleet.steps) {
    const double step_s = *fleet.planner.StepSeconds(session);
    EXPECT_GT(static_cast<double>(steps + 1) * step_s + 1.0, fleet.planner.view().deadline_s);
  }
  EXPECT_GE(fleet.planner.view().ratio(), 0.9);
  EXPECT_LE(fleet.planner.view().ratio(), 1.0 + 1e-9);
}

TEST(RoundPlannerTest, PredictsRoundsThatItHasSeenLike) {
  Fleet fleet({0.1, 0.15, 0.3, 0.5, 0.8}, 2.0, kOptions);
  for (int i = 0; i < 100; ++i) {
    fleet.Round(/*noise=*/0.05);
    fleet.Plan();
  }
  const PlanView& view = fleet.planner.view();
  EXPECT_GT(view.compared_rounds, 90u);
  EXPECT_LE(view.mean_error, 0.05);
  EXPECT_LE(view.p95_error, 0.15);
}

TEST(RoundPlannerTest, ASmallChangeChangesNothing) {
  Fleet fleet({0.1, 0.2}, 1.0, kOptions);
  fleet.Round();
  fleet.Plan();
  const auto steps = fleet.steps;
  for (int i = 0; i < 10; ++i) {
    fleet.Round(/*noise=*/0.01);
    fleet.Plan();
  }
  EXPECT_EQ(fleet.steps, steps);
}

TEST(RoundPlannerTest, NothingIsSaidBeforeItIsMeasured) {
  RoundPlanner planner(kOptions);
  EXPECT_TRUE(planner.Plan({{SessionId{1}, 40}}).steps.empty());
  EXPECT_FALSE(planner.StepSeconds(SessionId{1}));
  planner.OnRecord(Record{{}, RoundCommitted{}});  // of a round that opened in an earlier life
  EXPECT_EQ(planner.view(), PlanView{});
}

TEST(RoundPlannerTest, AJoinerIsPlannedOnceItIsMeasuredAndALeaverIsForgotten) {
  Fleet fleet({0.1, 0.2}, 1.0, kOptions);
  fleet.Round();
  fleet.Plan();
  fleet.steps[SessionId{9}] = 40;
  EXPECT_EQ(fleet.planner.Plan(fleet.steps).steps.size(), 0u);
  fleet.planner.OnHeartbeat(SessionId{9}, {.steps = 2, .computing_ns = 4'000'000'000});
  const PlanEvent event = fleet.planner.Plan(fleet.steps);
  ASSERT_EQ(event.steps.size(), 1u);
  EXPECT_EQ(event.steps[0].session, SessionId{9});
  EXPECT_LT(event.steps[0].steps, 10u);
  fleet.planner.OnRecord(Record{{}, SessionEnded{SessionId{9}}});
  EXPECT_FALSE(fleet.planner.StepSeconds(SessionId{9}));
}

TEST(RoundPlannerTest, AdvisesAQuorumWhenOneIsAlwaysLate) {
  Fleet fleet({0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 4.0}, 0.5, kOptions);
  for (int i = 0; i < 10; ++i) fleet.Round();
  EXPECT_LT(fleet.planner.view().advised_quorum, 1);
  EXPECT_GE(fleet.planner.view().quorum_ratio, 1 - 1e-9);
  EXPECT_LE(fleet.planner.view().quorum_ratio, 1.25);
}

}  // namespace
}  // namespace longhaul
