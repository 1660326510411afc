#include "coordinator/exchange.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

RunConfig Config() {
  RunConfig config;
  config.sync.codec = config.sync.codec_down = "bf16";  // two bytes for each value
  return config;
}

// Two workers with 1 MB/s each way, and one open round of a fragment of 10 M values.
State TwoWorkers() {
  State state;
  state.fragments.resize(1);
  state.fragments[0].elements = 10'000'000;
  state.fragments[0].round.emplace();
  for (uint64_t id : {1, 2}) {
    Session session{.name = "w" + std::to_string(id)};
    session.up_bytes_per_s = session.down_bytes_per_s = 1'000'000;
    state.sessions[SessionId{id}] = session;
    state.fragments[0].round->members[SessionId{id}] = 1;
  }
  return state;
}

TEST(Exchange, LinksThatChangedByMoreThanALittleAreTold) {
  const State state = TwoWorkers();
  const auto told = [&](LinkRates link) {
    return ChangedLinks(state, Config(), {link, {{2}, 1'000'000, 1'000'000}}).size();
  };
  EXPECT_EQ(told({{1}, 1'200'000, 900'000}), 0u);
  EXPECT_EQ(told({{1}, 1'300'000, 1'000'000}), 1u);
  EXPECT_EQ(told({{1}, 1'000'000, 700'000}), 1u);
  EXPECT_EQ(told({{1}, 0, 700'000}), 0u);          // not known
  EXPECT_EQ(told({{9}, 2'000'000, 700'000}), 0u);  // gone
}

TEST(Exchange, RatesOfShortExchangesAreNotTold) {
  EXPECT_EQ(ChangedLinks(TwoWorkers(), Config(), {{{1}, 500'000'000, 500'000'000}}).size(), 0u);
  EXPECT_EQ(ChangedLinks(TwoWorkers(), Config(), {{{1}, 500'000'000, 5'000'000}}).size(), 1u);
}

TEST(Exchange, SecondsAreThoseOfTheBusiestLink) {
  State state = TwoWorkers();
  EXPECT_NEAR(*ExchangeSeconds(state, Config(), FragmentId{0}, {}), 20, 0.1);
  // Half each: up 10 MB to the other, then the aggregate's half to the other and the coordinator.
  const std::vector<Slice> half = {{0, 50, SessionId{1}}, {50, 50, SessionId{2}}};
  EXPECT_NEAR(*ExchangeSeconds(state, Config(), FragmentId{0}, half), 30, 0.1);
  const std::vector<Slice> one = {{0, 100, SessionId{1}}};
  EXPECT_NEAR(*ExchangeSeconds(state, Config(), FragmentId{0}, one), 40, 0.1);
  state.sessions[SessionId{2}].up_bytes_per_s = 0;
  EXPECT_FALSE(ExchangeSeconds(state, Config(), FragmentId{0}, half).has_value());
  state.fragments[0].round.reset();
  EXPECT_FALSE(ExchangeSeconds(state, Config(), FragmentId{0}, half).has_value());
}

TEST(Exchange, SlicesAsText) {
  const State state = TwoWorkers();
  EXPECT_EQ(DescribeSlices(state, {}), "the coordinator");
  EXPECT_EQ(DescribeSlices(state, {{0, 1, SessionId{2}}, {1, 2, SessionId{1}}, {3, 1, {}}}),
            "the coordinator (1 chunk), w1 (2 chunks), w2 (1 chunk)");
}

TEST(Exchange, ReducersAndMovesAsText) {
  EXPECT_EQ(DescribeReducers({}, {}), "nobody yet");
  EXPECT_EQ(DescribeReducers({{{0}, "w1"}, {{1}, "w2"}, {{2}, "w1"}}, {{{}, true}, {{}, false}}),
            "w1; w2; 1 of 2 pairs relayed");
  const SlicesMoved moved{{7}, {0}, {{0, {9}, {1}}, {1, {2}, {0}}}, true};
  EXPECT_EQ(DescribeMoves(TwoWorkers(), moved,
                          [](SessionId id) { return "w" + std::to_string(id.value); }),
            "round 7: slice 0 of w9, which is lost, goes to w1; slice 1 of w2, which is late or "
            "failed, goes to the coordinator");
}

}  // namespace
}  // namespace longhaul
