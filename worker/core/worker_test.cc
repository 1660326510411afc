// Messages of the coordinator that come late, twice, or about something older.
#include "worker/core/worker.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

constexpr Generation kGeneration{1, 42};
constexpr ProcessId kProcess{1, 2};

class WorkerTest : public testing::Test {
 protected:
  Worker worker_{WorkerIdentity{.process = kProcess, .name = "w"}};
  uint64_t sequence_ = 0;

  WorkerEffects Receive(uint64_t sequence, Message message) {
    return worker_.Step(WorkerReceived{kGeneration, sequence, std::move(message)});
  }
  WorkerEffects Receive(Message message) { return Receive(++sequence_, std::move(message)); }

  static Welcome WelcomeTo(uint64_t session) {
    Welcome w{.session = {session}, .process = kProcess, .parameters = 8};
    w.config.train.per_device_train_batch_size = 8;  // one sample a step
    w.config.sync.inner_steps = 1;
    return w;
  }

  static Assignment AssignmentWith(uint64_t round, uint64_t decided, const LeaseRange& lease) {
    Assignment a{.phase = Phase::kRunning};
    a.current = {{FragmentId{0}, Version{0}, Digest{}}};
    a.snapshots = {{.id = {ObjectKind::kState, kGeneration, FragmentId{0}, Version{0}, {}}}};
    a.outcomes = {{.fragment = FragmentId{0}, .decided = {decided}}};
    a.rounds = {{RoundId{round}, FragmentId{0}, Version{0}, 1}};
    a.leases = {lease};
    return a;
  }

  // Answers every request until a contribution is coded; its id.
  std::optional<ContributionId> Train(WorkerEffects effects) {
    for (int i = 0; i < 20 && !effects.requests.empty(); ++i) {
      const WorkerRequest request = effects.requests.back();
      if (const auto* r = std::get_if<CodeContribution>(&request)) {
        worker_.Step(ContributionCoded{
            {.id = {ObjectKind::kContribution, kGeneration, r->fragment, r->base, r->id},
             .chunks = 1}});
        return r->id;
      }
      if (const auto* r = std::get_if<FetchObject>(&request)) {
        effects = worker_.Step(ObjectFetched{r->object.id});
      } else if (std::holds_alternative<LoadState>(request)) {
        effects = worker_.Step(StateLoaded{{FragmentId{0}, Version{0}, Digest{}}});
      } else if (std::holds_alternative<TrainStep>(request)) {
        effects = worker_.Step(StepDone{1.0, true});
      } else if (std::holds_alternative<LoadData>(request)) {
        effects = worker_.Step(DataLoaded{});
      } else {
        effects = worker_.Step(JobDone{});
      }
    }
    return std::nullopt;
  }

  void JoinAs(uint64_t session) { Train(Receive(WelcomeTo(session))); }
};

TEST_F(WorkerTest, ARefusalOfSomethingOlderNeitherLosesProgressNorReusesNumbers) {
  JoinAs(5);
  const auto first = Train(Receive(AssignmentWith(1, 0, {Fence{1}, 0, 1})));
  ASSERT_EQ(first, (ContributionId{SessionId{5}, 1}));
  const WorkerEffects refused = Receive(Refused{RefusalCode::kFenced, "late"});
  ASSERT_EQ(refused.messages.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Hello>(refused.messages[0]));
  EXPECT_EQ(worker_.session().value, 0u);             // it does not speak for the session meanwhile
  const WorkerEffects again = Receive(WelcomeTo(5));  // our session lives
  EXPECT_TRUE(again.requests.empty());                // nothing is reset
  EXPECT_EQ(worker_.session().value, 5u);
  // Round 1 is decided without it: the progress goes on, under a number of its own.
  const auto second = Train(Receive(AssignmentWith(2, 1, {Fence{1}, 0, 2})));
  EXPECT_EQ(second, (ContributionId{SessionId{5}, 2}));
}

TEST_F(WorkerTest, AWelcomeThatWasOvertakenIsNotTaken) {
  JoinAs(5);
  Receive(/*sequence=*/10, WelcomeTo(6));
  EXPECT_EQ(worker_.session().value, 6u);
  Receive(/*sequence=*/9, WelcomeTo(5));
  EXPECT_EQ(worker_.session().value, 6u);
}

TEST_F(WorkerTest, AnAssignmentOfAnEarlierLifeOfTheCoordinatorIsNotTaken) {
  JoinAs(5);
  Receive(/*sequence=*/(uint64_t{2} << 32) + 1, WelcomeTo(5));
  Receive(/*sequence=*/(uint64_t{1} << 32) + 100, AssignmentWith(1, 0, {Fence{1}, 0, 1}));
  EXPECT_FALSE(worker_.assignment().has_value());
}

TEST_F(WorkerTest, AStateThatIsLoadedWhileTheRunGoesBackIsVoid) {
  JoinAs(5);
  const WorkerEffects fetch = Receive(AssignmentWith(1, 0, {Fence{1}, 0, 1}));
  ASSERT_EQ(fetch.requests.size(), 1u);
  const ObjectId snapshot = std::get<FetchObject>(fetch.requests[0]).object.id;
  const WorkerEffects load = worker_.Step(ObjectFetched{snapshot});
  ASSERT_TRUE(std::holds_alternative<LoadState>(load.requests.at(0)));
  worker_.Step(WorkerReceived{Generation{2, 43}, ++sequence_, WelcomeTo(6)});
  worker_.Step(StateLoaded{{FragmentId{0}, Version{0}, Digest{}}});
  EXPECT_TRUE(worker_.states().empty());
}

// Also while nothing is loaded: the residual of the old generation is still there.
TEST_F(WorkerTest, ANewGenerationDropsTheResidualWhateverIsLoaded) {
  JoinAs(5);
  const WorkerEffects effects =
      worker_.Step(WorkerReceived{Generation{2, 43}, ++sequence_, WelcomeTo(6)});
  bool dropped = false;
  for (const WorkerRequest& request : effects.requests) {
    const auto* reset = std::get_if<ResetProgress>(&request);
    dropped = dropped || (reset && reset->residual);
  }
  EXPECT_TRUE(dropped);
}

// Two processes with one key, one after the other: the last included contribution is the other's.
TEST_F(WorkerTest, AContributionWhoseOutcomeCannotBeToldCostsTheResidual) {
  JoinAs(5);
  ASSERT_TRUE(Train(Receive(AssignmentWith(1, 0, {Fence{1}, 0, 1}))).has_value());
  Receive(WelcomeTo(9));
  worker_.Step(JobDone{});
  Assignment after = AssignmentWith(3, 2, {Fence{7}, 8, 9});
  after.outcomes[0].included = {SessionId{8}, 1};
  const WorkerEffects effects = Receive(after);
  ASSERT_EQ(effects.requests.size(), 1u);
  const auto* reset = std::get_if<ResetProgress>(&effects.requests[0]);
  ASSERT_NE(reset, nullptr);
  EXPECT_TRUE(reset->residual);
}

}  // namespace
}  // namespace longhaul
