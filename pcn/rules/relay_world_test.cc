// Relay with real blocks: exactness when synchronous or anchored, and survival of everything that a
// network and its machines do.
#include "pcn/rules/relay_world.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <limits>

#include "pcn/relay/mailbox.h"
#include "pcn/rules/test_networks.h"

namespace longhaul::pcn {
namespace {

const std::vector<int64_t> kSizes = {12, 16, 16, 16, 16, 16, 16, 16, 5};  // eight layers
constexpr int64_t kRows = 8;

Network MakeNetwork() { return MakeMlp(kSizes, Activation::kTanh); }
at::Tensor InitialParameters(const Network& network) {
  return network.InitialParameters(1, at::kFloat).mul(1.7);
}

// A task that can be learnt: targets are a fixed function of the input.
RelayWorld::MicroBatch Sample(uint64_t m) {
  const at::Tensor input = RandomTensor({kRows, 12}, 100 + m, 1, at::kFloat);
  const at::Tensor map = RandomTensor({12, 5}, 7, 0.7, at::kFloat);
  return {input, at::tanh(input.mm(map))};
}

// What the autograd engine and Adam make of the same micro-batches.
at::Tensor TrainWithTheEngine(const Network& network, uint64_t count) {
  const Weights weights = network.View(InitialParameters(network));
  const Weights gradient = network.View(at::zeros_like(weights.flat));
  Adam adam({}, weights.flat);
  for (uint64_t m = 0; m < count; ++m) {
    const RelayWorld::MicroBatch batch = Sample(m);
    gradient.flat.zero_();
    std::vector<at::Tensor> leaves;
    at::Tensor h = batch.input;
    for (size_t l = 0; l < network.depth(); ++l) {
      for (size_t i : {0u, 1u}) {
        leaves.push_back(weights.of_layer[l][i].detach().set_requires_grad(true));
        leaves.back().mutable_grad() = gradient.of_layer[l][i];
      }
      h = at::linear(h, leaves[2 * l], leaves[2 * l + 1]);
      if (l + 1 < network.depth()) h = at::tanh(h);
    }
    // The mean of 1/2 |target - out|^2.
    h.sub(batch.target).square().sum().mul(0.5 / kRows).backward();
    adam.Step(weights.flat, gradient.flat, 3e-4);
  }
  return weights.flat;
}

std::unique_ptr<RelayWorld> MakeWorld(const RelayOptions& options) {
  const Network network = MakeNetwork();
  auto world = RelayWorld::Make(network, InitialParameters(network), options);
  EXPECT_TRUE(world.ok()) << world.status();
  return *std::move(world);
}

RelayOptions Cut(size_t blocks) {
  RelayOptions options;
  options.first_layers.clear();
  for (size_t k = 0; k < blocks; ++k) options.first_layers.push_back(k * 8 / blocks);
  return options;
}

// A12
TEST(Relay, SynchronousBlocksAreBackwardBitForBit) {
  constexpr uint64_t kUpdates = 100;
  const at::Tensor engine = TrainWithTheEngine(MakeNetwork(), kUpdates);
  EXPECT_GT(RelativeDifference(engine, InitialParameters(MakeNetwork())), 0.01);
  for (size_t blocks : {1u, 2u, 4u, 8u}) {
    RelayOptions options = Cut(blocks);
    options.synchronous = true;
    auto world = MakeWorld(options);
    world->Run(kUpdates, Sample);
    EXPECT_TRUE(world->parameters().equal(engine)) << blocks;
    for (size_t k = 0; k < blocks; ++k) {
      EXPECT_EQ(world->stage(k).version(), kUpdates);
      EXPECT_EQ(world->stage(k).gaps().Percentile(1), 0u);
    }
  }
}

// The same whatever the links do, as long as nothing is given up: order does not matter when there
// is one micro-batch at a time.
TEST(Relay, SynchronousBlocksDoNotCareForTheNetwork) {
  const at::Tensor engine = TrainWithTheEngine(MakeNetwork(), 30);
  RelayOptions options = Cut(4);
  options.synchronous = true;
  options.link = {
      .delay = 2, .jitter = 4, .loss_permille = 250, .duplicate_permille = 250, .seed = 5};
  options.stage.max_queries = 100;
  auto world = MakeWorld(options);
  world->Run(30, Sample);
  EXPECT_TRUE(world->parameters().equal(engine));
}

// A11: credit with frozen predictions, over a network that delays, drops, repeats and reorders.
class AnchoredByMail {
 public:
  AnchoredByMail(const Problem& p, uint64_t seed) : p_(p) {
    at::Tensor state = p.input;
    for (size_t l = 0; l < p.network.depth(); ++l) {
      tapes_.emplace_back();
      state = p.network.layer(l).Predict(p.weights.of_layer[l], state, &tapes_[l]);
      errors_.push_back(at::zeros_like(state));
      boxes_.emplace_back(1);
      links_.emplace_back(LossyLink::Options{.delay = 3,
                                             .jitter = 40,
                                             .loss_permille = 500,
                                             .duplicate_permille = 300,
                                             .seed = seed + l});
    }
    errors_.back() = OutputError(p.loss, state, p.target);
  }
  // Each layer: takes the newest message, pulls it back, tells the layer below.
  void Tick() {
    ++now_;
    for (size_t l = 0; l + 1 < errors_.size(); ++l) {
      for (const Message& m : links_[l].Receive(now_)) boxes_[l].Add(m);
      const Message* newest = boxes_[l].Find(MessageKind::kCreditDown, 0);
      if (newest != nullptr) errors_[l] = errors_sent_.at(newest->sequence);
    }
    for (size_t l = 1; l < errors_.size(); ++l) {
      Message m{.kind = MessageKind::kCreditDown, .epoch = 1, .sequence = ++sequence_};
      errors_sent_[sequence_] =
          p_.network.layer(l).Credit(p_.weights.of_layer[l], tapes_[l], errors_[l], true, {});
      links_[l - 1].Send(m, now_);
    }
  }
  void Heal() {
    for (LossyLink& link : links_) link.Heal();
  }
  const at::Tensor& error(size_t l) const { return errors_[l]; }

 private:
  const Problem& p_;
  std::vector<Tape> tapes_;
  std::vector<at::Tensor> errors_;
  std::vector<Mailbox> boxes_;
  std::vector<LossyLink> links_;
  std::map<uint64_t, at::Tensor> errors_sent_;  // what the payload of a message would be
  uint64_t now_ = 0, sequence_ = 0;
};

TEST(Relay, AnchoredCreditByMailIsBackpropBitForBit) {
  for (double scale : {1.0, 3.0, 10.0}) {
    Problem p(MakeMlp({6, 8, 7, 5, 4, 3}, Activation::kTanh), 4, 11);
    p.weights.flat.mul_(scale);
    const AnchoredCredit exact = p.Backprop();
    AnchoredByMail mail(p, 17);
    mail.Tick();
    EXPECT_FALSE(mail.error(0).equal(exact.error(0)));  // nothing has arrived yet
    for (int t = 0; t < 600; ++t) mail.Tick();
    mail.Heal();
    for (int t = 0; t < 100; ++t) mail.Tick();  // quiet
    for (size_t l = 0; l < p.network.depth(); ++l) {
      EXPECT_TRUE(mail.error(l).equal(exact.error(l))) << scale << " " << l;
    }
  }
}

// The loss of the latest micro-batch after `count` of them.
double LossAfter(RelayWorld& world, uint64_t count) {
  world.Run(count, Sample);
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_TRUE(world.totals(k).balances);
    EXPECT_EQ(world.totals(k).accepted, world.totals(k).trained + world.totals(k).discarded);
  }
  return world.last_loss();
}

RelayOptions Pipelined(uint64_t delay) {
  RelayOptions options = Cut(4);
  options.link.delay = delay;
  options.stage.max_in_flight = static_cast<uint32_t>(6 * (delay + 1) + 2);
  options.stage.hop_ticks = delay + 2;
  options.learning_rate = [](uint64_t) { return 1e-3; };
  return options;
}

TEST(Relay, GapsAreThoseOfTheSchedule) {
  for (uint64_t delay : {0u, 2u}) {
    auto world = MakeWorld(Pipelined(delay));
    EXPECT_LT(LossAfter(*world, 400), 0.1);
    for (size_t k = 0; k < 4; ++k) {
      const uint64_t ticks = 2 * (3 - k) * (delay + 1);
      EXPECT_EQ(world->stage(k).gaps().Percentile(0.5), k == 3 ? 0 : ticks - 1) << k;
      EXPECT_EQ(world->totals(k).trained, 400u);
    }
  }
}

TEST(Relay, BytesPerBoundaryAndMicroBatch) {
  for (RowCodec codec : {RowCodec::kFloat32, RowCodec::kBf16, RowCodec::kInt8}) {
    RelayOptions options = Pipelined(0);
    options.block.codec = codec;
    auto world = MakeWorld(options);
    EXPECT_LT(LossAfter(*world, 300), 0.15);
    const uint64_t each = EncodedRowBytes(codec, kRows, 16) + kMessageHeaderBytes;
    for (size_t k = 0; k < 3; ++k) EXPECT_EQ(world->bytes_between(k), 300 * 2 * each);
  }
}

TEST(Relay, StashedWeightsArePulledBackThrough) {
  RelayOptions options = Pipelined(2);
  options.block.stash = true;
  auto world = MakeWorld(options);
  EXPECT_LT(LossAfter(*world, 400), 0.1);
  // Without delay there is nothing to stash for.
  options = Cut(4);
  options.synchronous = true;
  options.block.stash = true;
  auto one = MakeWorld(options);
  one->Run(20, Sample);
  EXPECT_TRUE(one->parameters().equal(TrainWithTheEngine(MakeNetwork(), 20)));
}

TEST(Relay, LostMessagesAreSentAgain) {
  RelayOptions options = Pipelined(1);
  options.link.loss_permille = 100;
  options.link.duplicate_permille = 100;
  options.link.jitter = 2;
  options.stage.max_queries = 30;
  auto world = MakeWorld(options);
  EXPECT_LT(LossAfter(*world, 400), 0.1);
  for (size_t k = 0; k < 4; ++k) EXPECT_EQ(world->totals(k).trained, 400u) << k;
}

// Without questions what is lost is lost: it trained the upper blocks only, and the ledger says so.
TEST(Relay, WithoutResendLowerBlocksTrainLess) {
  RelayOptions options = Pipelined(1);
  options.link.loss_permille = 100;
  options.stage.max_queries = 0;
  auto world = MakeWorld(options);
  LossAfter(*world, 400);
  EXPECT_LT(world->totals(0).trained, world->totals(2).trained);
  EXPECT_GT(world->totals(0).discarded, 60u);
}

TEST(Relay, AKilledStageComesBackFromItsSnapshot) {
  for (uint32_t victim : {0u, 2u, 3u}) {
    RelayOptions options = Pipelined(1);
    options.stage.snapshot_every = 20;
    options.stage.warm_up = 5;
    options.kill = RelayOptions::Kill{victim, 300, 330};
    auto world = MakeWorld(options);
    EXPECT_LT(LossAfter(*world, 800), 0.12) << victim;
    // At most the updates since the last snapshot are missing, and what was open is booked.
    EXPECT_GT(world->stage(victim).version(), 650u) << victim;
    EXPECT_GT(world->totals(victim).discarded, 0u);
    EXPECT_LT(world->totals(victim).discarded, 100u);
  }
}

TEST(RelayBlock, RefusesWhatIsNotFinite) {
  const Network network = MakeMlp({3, 4, 2}, Activation::kTanh);
  RelayBlock block(network, network.InitialParameters(1, at::kFloat), {});
  const auto coded = [](int64_t columns, float value) {
    return *EncodeTensor(RowCodec::kFloat32, at::zeros({2, columns}).add(value), Rounding::kNearest,
                         0);
  };
  Payload down;
  const at::Tensor before = block.parameters().clone();
  const float huge = std::numeric_limits<float>::max();
  EXPECT_TRUE(block.Predict(0, coded(3, 1)));
  EXPECT_FALSE(block.Credit(0, coded(3, 1), coded(2, huge), 1e-3, true, &down));
  EXPECT_FALSE(block.Credit(0, coded(3, 1), coded(3, 1), 1e-3, true, &down));  // another size
  EXPECT_FALSE(block.Credit(0, coded(3, 1), Bytes(7), 1e-3, true, &down));
  EXPECT_FALSE(block.Top(0, coded(3, 1), coded(3, 1), 1e-3, true, &down));
  EXPECT_TRUE(block.parameters().equal(before));
  EXPECT_TRUE(block.Credit(0, coded(3, 1), coded(2, 1), 1e-3, true, &down));
  EXPECT_FALSE(block.parameters().equal(before));
  EXPECT_FALSE(block.SetSnapshot(Bytes(8)).ok());
  const Bytes snapshot = block.Snapshot();
  RelayBlock other(network, before, {});
  ASSERT_TRUE(other.SetSnapshot(snapshot).ok());
  EXPECT_TRUE(other.parameters().equal(block.parameters()));
  EXPECT_EQ(other.Snapshot(), snapshot);
}

TEST(RelayWorld, RefusesWhatDoesNotMatch) {
  const Network network = MakeNetwork();
  const at::Tensor parameters = InitialParameters(network);
  RelayOptions options;
  options.first_layers = {0, 9};
  EXPECT_FALSE(RelayWorld::Make(network, parameters, options).ok());
  options.first_layers = {0, 4};
  EXPECT_FALSE(RelayWorld::Make(network, parameters.narrow(0, 0, 9), options).ok());
  options.kill = RelayOptions::Kill{2, 1, 2};
  EXPECT_FALSE(RelayWorld::Make(network, parameters, options).ok());
}

}  // namespace
}  // namespace longhaul::pcn
