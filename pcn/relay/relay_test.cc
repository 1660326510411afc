// Messages, codecs, mailbox, staleness, ledger, links, cuts: each rule of Relay alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/rng.h"
#include "pcn/relay/batch_ledger.h"
#include "pcn/relay/cut.h"
#include "pcn/relay/lossy_link.h"
#include "pcn/relay/mailbox.h"
#include "pcn/relay/row_codec.h"
#include "pcn/relay/staleness.h"

namespace longhaul::pcn {
namespace {

Payload Text(const std::string& text) {
  return std::make_shared<const Bytes>(text.begin(), text.end());
}

Message State(uint64_t micro_batch, uint64_t sequence, uint64_t epoch = 1) {
  Message m{.micro_batch = micro_batch, .epoch = epoch, .sequence = sequence};
  m.payload = Text("x");
  return m;
}

// ---- message ----

TEST(Message, RoundTrips) {
  Message m{.kind = MessageKind::kHaveAnswer, .from = 3, .to = 2, .micro_batch = 1ull << 40};
  m.epoch = 5;
  m.sequence = 6;
  m.version = 7;
  m.settled_below = 8;
  m.have = HaveState::kMissing;
  for (const Payload& payload : {Payload(), Text("abc")}) {
    m.payload = payload;
    const Bytes bytes = EncodeMessage(m);
    EXPECT_EQ(bytes.size(), EncodedBytes(m));
    const auto back = DecodeMessage(bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(EncodeMessage(*back), bytes);
    EXPECT_EQ(back->micro_batch, m.micro_batch);
    EXPECT_EQ(back->version, 7u);
    EXPECT_EQ(back->settled_below, 8u);
    EXPECT_EQ(back->payload != nullptr, payload != nullptr);
  }
}

TEST(Message, RefusesOtherBytes) {
  const Bytes good = EncodeMessage(State(1, 1));
  for (size_t i : {0u, 4u, 5u, 6u, 56u}) {  // magic, kind, have, reserved, size
    Bytes bad = good;
    bad[i] = 0xff;
    EXPECT_FALSE(DecodeMessage(bad)) << i;
  }
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_FALSE(DecodeMessage(std::span(good).first(n))) << n;
  }
}

// ---- row codec ----

std::vector<float> RandomRows(size_t n, uint64_t seed) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = static_cast<float>(static_cast<double>(Draw(seed, {i}) >> 40) * 0x1p-23 - 1);
  }
  return values;
}

TEST(RowCodec, RoundTripsWithinItsPrecision) {
  const std::vector<float> values = RandomRows(6 * 50, 1);
  for (auto [codec, tolerance] : {std::pair{RowCodec::kFloat32, 0.0f},
                                  {RowCodec::kBf16, 0.004f},
                                  {RowCodec::kInt8, 0.0041f}}) {
    const auto bytes = EncodeRows(codec, values, 6, 50, Rounding::kNearest, 0);
    ASSERT_TRUE(bytes);
    EXPECT_EQ(bytes->size(), EncodedRowBytes(codec, 6, 50));
    const auto back = DecodeRows(*bytes, 300);
    ASSERT_TRUE(back);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(back->values[i], values[i], tolerance) << i;
    }
    EXPECT_FALSE(DecodeRows(*bytes, 299));
    EXPECT_FALSE(DecodeRows(std::span(*bytes).first(bytes->size() - 1), 300));
    Bytes unknown = *bytes;
    unknown[0] = 4;
    EXPECT_FALSE(DecodeRows(unknown, 300));
  }
  EXPECT_FALSE(DecodeRows({}, 300));
}

TEST(RowCodec, StochasticRoundingIsUnbiased) {
  const std::vector<float> values = {1.0f, 0.3f / 127, 0, -0.7f / 127};
  std::vector<double> sum(values.size());
  constexpr int kTimes = 4000;
  for (uint64_t seed = 0; seed < kTimes; ++seed) {
    const auto bytes = EncodeRows(RowCodec::kInt8, values, 1, 4, Rounding::kStochastic, seed);
    const auto back = DecodeRows(*bytes, 4);
    for (size_t i = 0; i < values.size(); ++i) sum[i] += back->values[i];
  }
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(sum[i] / kTimes, values[i], 0.04 / 127) << i;
  }
}

TEST(RowCodec, RefusesWhatIsNotFinite) {
  for (float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const std::vector<float> values = {1, bad};
    EXPECT_FALSE(EncodeRows(RowCodec::kBf16, values, 1, 2, Rounding::kNearest, 0));
  }
  Bytes bytes = *EncodeRows(RowCodec::kFloat32, std::vector<float>{1}, 1, 1, {}, 0);
  bytes[15] = bytes[14] = 0xff;  // a NaN
  EXPECT_FALSE(DecodeRows(bytes, 1));
  const std::vector<float> largest = {std::numeric_limits<float>::max()};
  EXPECT_TRUE(DecodeRows(*EncodeRows(RowCodec::kBf16, largest, 1, 1, {}, 0), 1));
  EXPECT_EQ(ParseRowCodec("int8"), RowCodec::kInt8);
  EXPECT_FALSE(ParseRowCodec("int4"));
}

// ---- mailbox ----

TEST(Mailbox, LastWriterWins) {
  Mailbox box(4);
  EXPECT_TRUE(box.Add(State(1, 5)).kept);
  EXPECT_FALSE(box.Add(State(1, 5)).kept);    // a duplicate
  EXPECT_FALSE(box.Add(State(1, 4)).kept);    // an older one that was overtaken
  EXPECT_TRUE(box.Add(State(1, 1, 2)).kept);  // a new holder begins to count again
  EXPECT_FALSE(box.Add(State(1, 99, 1)).kept);
  EXPECT_EQ(box.Find(MessageKind::kStateUp, 1)->epoch, 2u);
  EXPECT_EQ(box.Find(MessageKind::kCreditDown, 1), nullptr);
  EXPECT_TRUE(box.Take(MessageKind::kStateUp, 1));
  EXPECT_FALSE(box.Take(MessageKind::kStateUp, 1));
}

// Whatever the order and number of deliveries, the slot ends with the newest.
TEST(Mailbox, OrderDoesNotMatter) {
  Rng rng(3);
  for (int round = 0; round < 50; ++round) {
    Mailbox box(4);
    for (int i = 0; i < 40; ++i) box.Add(State(rng.Below(3), rng.Below(20)));
    for (uint64_t m = 0; m < 3; ++m) box.Add(State(m, 20));
    for (int i = 0; i < 40; ++i) box.Add(State(rng.Below(3), rng.Below(20)));
    for (uint64_t m = 0; m < 3; ++m) {
      EXPECT_EQ(box.Find(MessageKind::kStateUp, m)->sequence, 20u);
    }
  }
}

TEST(Mailbox, IsBounded) {
  Mailbox box(2);
  box.Add(State(5, 1));
  box.Add(State(6, 1));
  EXPECT_EQ(box.Add(State(7, 1)).evicted, 5u);
  const Mailbox::Put old = box.Add(State(4, 1));
  EXPECT_FALSE(old.kept);
  EXPECT_EQ(old.evicted, 4u);
  EXPECT_EQ(box.size(MessageKind::kStateUp), 2u);
  EXPECT_EQ(box.First(MessageKind::kStateUp), 6u);
  EXPECT_EQ(box.First(MessageKind::kStateUp, 7), 7u);
}

// ---- staleness ----

// theta <- theta - a theta(t - delay), through a mailbox that delivers late.
double SizeAfter(double rate, uint32_t delay, int steps) {
  LossyLink link({.delay = delay});
  Mailbox box(1);
  std::vector<double> theta = {1};
  for (int t = 0; t < steps; ++t) {
    link.Send(State(0, t + 1), t);
    for (const Message& m : link.Receive(t + 1)) box.Add(m);
    const Message* newest = box.Find(MessageKind::kStateUp, 0);
    const double seen = newest == nullptr ? 0 : theta[newest->sequence - 1];
    theta.push_back(theta.back() - rate * seen);
  }
  double size = 0;
  for (size_t i = theta.size() - 2 * (delay + 2); i < theta.size(); ++i) {
    size = std::max(size, std::abs(theta[i]));
  }
  return size;
}

TEST(Staleness, DelayedDescentIsStableExactlyBelowItsLimit) {
  EXPECT_NEAR(DelayedDescentLimit(0), 2, 1e-15);
  EXPECT_NEAR(DelayedDescentLimit(1), 1, 1e-15);
  for (uint32_t delay : {0u, 1u, 6u, 18u, 54u}) {
    const double limit = DelayedDescentLimit(delay);
    const int steps = 4000 * static_cast<int>(delay + 1);
    EXPECT_LT(SizeAfter(0.98 * limit, delay, steps), 1e-3) << delay;
    EXPECT_GT(SizeAfter(1.02 * limit, delay, steps), 1e3) << delay;
  }
}

TEST(Staleness, FactorFallsWithTheGap) {
  EXPECT_EQ(StalenessFactor(0, 18), 1);
  EXPECT_EQ(StalenessFactor(18, 18), 1);
  EXPECT_EQ(StalenessFactor(54, 18), 1.0 / 3);
}

TEST(Staleness, Percentiles) {
  GapHistogram gaps(10);
  EXPECT_EQ(gaps.Percentile(0.5), 0u);
  for (uint64_t gap : {1, 1, 2, 3, 99}) gaps.Add(gap);
  EXPECT_EQ(gaps.Percentile(0.4), 1u);
  EXPECT_EQ(gaps.Percentile(0.5), 2u);
  EXPECT_EQ(gaps.Percentile(1), 10u);
  EXPECT_EQ(gaps.count(), 5u);
}

// ---- ledger ----

TEST(BatchLedger, EveryMicroBatchEndsOnce) {
  BatchLedger ledger;
  EXPECT_TRUE(ledger.Accept(1));
  EXPECT_FALSE(ledger.Accept(1));
  EXPECT_TRUE(ledger.Accept(2));
  EXPECT_TRUE(ledger.Accept(3));
  EXPECT_TRUE(ledger.Trained(1));
  EXPECT_FALSE(ledger.Trained(1));
  EXPECT_FALSE(ledger.Discarded(1, Discard::kGone));
  EXPECT_TRUE(ledger.Discarded(2, Discard::kExpired));
  EXPECT_TRUE(ledger.Balances());
  EXPECT_EQ(ledger.open(), 1u);
  ledger.DiscardAll(Discard::kReset);
  EXPECT_EQ(ledger.discarded(), 2u);
  EXPECT_EQ(ledger.discarded(Discard::kReset), 1u);
  EXPECT_TRUE(ledger.Balances());
  EXPECT_STREQ(DiscardName(Discard::kReset), "reset");
}

// ---- link ----

TEST(LossyLink, DelaysDropsRepeatsAndHeals) {
  LossyLink clean({.delay = 2});
  clean.Send(State(1, 1), 10);
  EXPECT_TRUE(clean.Receive(12).empty());
  EXPECT_EQ(clean.Receive(13).size(), 1u);
  LossyLink::Options o{.jitter = 9, .loss_permille = 300, .duplicate_permille = 200, .seed = 4};
  LossyLink link(o), same(o);
  std::vector<uint64_t> arrived, again;
  for (uint64_t t = 0; t < 1000; ++t) {
    link.Send(State(t, 1), t);
    same.Send(State(t, 1), t);
    for (const Message& m : link.Receive(t)) arrived.push_back(m.micro_batch);
    for (const Message& m : same.Receive(t)) again.push_back(m.micro_batch);
  }
  EXPECT_EQ(arrived, again);
  EXPECT_NEAR(static_cast<double>(arrived.size()), 900, 60);
  EXPECT_FALSE(std::is_sorted(arrived.begin(), arrived.end()));
  EXPECT_EQ(link.sent_bytes(), 1000 * (kMessageHeaderBytes + 1));
  link.Receive(2000);
  link.Heal();
  for (uint64_t t = 0; t < 50; ++t) link.Send(State(t, 1), 3000);
  EXPECT_EQ(link.Receive(3001).size(), 50u);
}

// ---- cut ----

double Slowest(const std::vector<size_t>& cut, const std::vector<LayerCost>& layers,
               const std::vector<StageMachine>& stages) {
  double slowest = 0;
  for (size_t k = 0; k < cut.size(); ++k) {
    double work = 0;
    const size_t end = k + 1 < cut.size() ? cut[k + 1] : layers.size();
    for (size_t l = cut[k]; l < end; ++l) work += layers[l].work;
    slowest = std::max(slowest, work / stages[k].speed);
  }
  return slowest;
}

TEST(CutChain, NoOtherCutIsFaster) {
  Rng rng(1);
  for (int round = 0; round < 100; ++round) {
    std::vector<LayerCost> layers(6);
    for (LayerCost& l : layers) l = {static_cast<double>(1 + rng.Below(9)), 1 + rng.Below(5)};
    std::vector<StageMachine> stages(3);
    for (StageMachine& s : stages) s = {static_cast<double>(1 + rng.Below(4)), 4 + rng.Below(9)};
    double best = std::numeric_limits<double>::infinity();
    for (size_t a = 1; a < 5; ++a) {
      for (size_t b = a + 1; b < 6; ++b) {
        const std::vector<size_t> cut = {0, a, b};
        bool fits = true;
        for (size_t k = 0; k < 3; ++k) {
          uint64_t bytes = 0;
          for (size_t l = cut[k]; l < (k < 2 ? cut[k + 1] : 6); ++l) bytes += layers[l].bytes;
          fits = fits && bytes <= stages[k].memory_bytes;
        }
        if (fits) best = std::min(best, Slowest(cut, layers, stages));
      }
    }
    const auto found = CutChain(layers, stages);
    EXPECT_EQ(found.has_value(), std::isfinite(best));
    if (found) {
      EXPECT_EQ(Slowest(*found, layers, stages), best);
    }
  }
  EXPECT_FALSE(CutChain(std::vector<LayerCost>(2), std::vector<StageMachine>(3)));
  EXPECT_FALSE(CutChain(std::vector<LayerCost>(2), {}));
}

}  // namespace
}  // namespace longhaul::pcn
