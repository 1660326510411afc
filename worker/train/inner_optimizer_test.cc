#include "worker/train/inner_optimizer.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace longhaul {
namespace {

using Values = std::vector<double>;

LlamaShape Shape() {
  LlamaShape s;
  s.vocab_size = 7;
  s.hidden_size = 8;
  s.intermediate_size = 12;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 4;
  s.num_key_value_heads = 2;
  return s;
}

OptimizerOptions Options(const std::string& name) {
  OptimizerOptions o;
  o.name = name;
  o.learning_rate = 0.02;
  o.adamw_learning_rate = 0.005;
  return o;
}

std::vector<float> Random(uint64_t seed, uint64_t n) {
  std::vector<float> values(n);
  for (uint64_t i = 0; i < n; ++i) values[i] = static_cast<float>(NormalDraw(seed, 9, 0, i));
  return values;
}

at::Tensor View(std::vector<float>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat);
}

// ---- plain loops in float64 ----

// c (r × k) = a (r × n) times b (n × k).
Values Product(const Values& a, const Values& b, size_t r, size_t n, size_t k) {
  Values c(r * k, 0.0);
  for (size_t i = 0; i < r; ++i) {
    for (size_t j = 0; j < k; ++j) {
      for (size_t l = 0; l < n; ++l) c[i * k + j] += a[i * n + l] * b[l * k + j];
    }
  }
  return c;
}

Values Transposed(const Values& a, size_t rows, size_t columns) {
  Values t(a.size());
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) t[j * rows + i] = a[i * columns + j];
  }
  return t;
}

Values NaiveNewtonSchulz(Values x, size_t rows, size_t columns) {
  if (rows > columns) {
    return Transposed(NaiveNewtonSchulz(Transposed(x, rows, columns), columns, rows), columns,
                      rows);
  }
  double squares = 0;
  for (double v : x) squares += v * v;
  for (double& v : x) v /= std::sqrt(squares) + 1e-7;
  for (int step = 0; step < 5; ++step) {
    const Values a = Product(x, Transposed(x, rows, columns), rows, columns, rows);
    const Values aa = Product(a, a, rows, rows, rows);
    Values b(a.size());
    for (size_t i = 0; i < a.size(); ++i) b[i] = -4.7750 * a[i] + 2.0315 * aa[i];
    const Values bx = Product(b, x, rows, rows, columns);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] + bx[i];
  }
  return x;
}

struct NaiveState {
  Values theta, first, second;  // first: Muon's momentum for its matrices
  int step = 0;
};

void NaiveAdamW(const Parameter& p, const std::vector<float>& g, double rate, NaiveState& s) {
  for (uint64_t i = p.offset; i < p.offset + p.elements; ++i) {
    if (p.shape.size() == 2) s.theta[i] *= 1 - rate * 0.1;
    s.first[i] = 0.9 * s.first[i] + 0.1 * g[i];
    s.second[i] = 0.95 * s.second[i] + 0.05 * g[i] * g[i];
    const double m = s.first[i] / (1 - std::pow(0.9, s.step));
    const double v = s.second[i] / (1 - std::pow(0.95, s.step));
    s.theta[i] -= rate * m / (std::sqrt(v) + 1e-8);
  }
}

void NaiveMuon(const Parameter& p, const std::vector<float>& g, double rate, NaiveState& s) {
  Values direction(p.elements);
  for (uint64_t i = 0; i < p.elements; ++i) {
    double& b = s.first[p.offset + i];
    b = 0.95 * b + g[p.offset + i];
    direction[i] = g[p.offset + i] + 0.95 * b;
  }
  direction = NaiveNewtonSchulz(direction, p.shape[0], p.shape[1]);
  const double scale = std::sqrt(std::max(1.0, double(p.shape[0]) / double(p.shape[1])));
  for (uint64_t i = 0; i < p.elements; ++i) {
    double& w = s.theta[p.offset + i];
    w = (1 - 0.1 * rate) * w - rate * scale * direction[i];
  }
}

void FollowsTheLoops(const std::string& name) {
  const ParameterTable table = MakeParameterTable(Shape());
  const OptimizerOptions options = Options(name);
  std::vector<float> theta = Random(1, table.elements);
  NaiveState naive{Values(theta.begin(), theta.end()), Values(theta.size()), Values(theta.size())};
  const auto optimizer = MakeInnerOptimizer(table, options, View(theta));
  for (int t = 0; t < 6; ++t) {
    std::vector<float> gradient = Random(2 + t, table.elements);
    const double schedule = 1.0 / (t + 1);
    optimizer->Step(View(theta), View(gradient), schedule);
    ++naive.step;
    for (const Parameter& p : table.parameters) {
      const bool hidden = p.parameter_class == ParameterClass::kMatrix;
      if (name == "muon" && hidden) {
        NaiveMuon(p, gradient, options.learning_rate * schedule, naive);
      } else {
        const double rate = name == "muon" ? options.adamw_learning_rate : options.learning_rate;
        NaiveAdamW(p, gradient, rate * schedule, naive);
      }
    }
    for (const Parameter& p : table.parameters) {
      for (uint64_t i = p.offset; i < p.offset + p.elements; ++i) {
        ASSERT_NEAR(theta[i], naive.theta[i], 1e-5) << p.name << " step " << t;
      }
    }
  }
}

TEST(InnerOptimizer, AdamWFollowsPlainLoops) { FollowsTheLoops("adamw"); }
TEST(InnerOptimizer, MuonFollowsPlainLoops) { FollowsTheLoops("muon"); }

// What the iteration is for: singular values between 0.5 and 1.5, so ‖XᵀX − I‖ is small on the
// smaller side, wide or tall.
TEST(NewtonSchulz, BringsSingularValuesNearOne) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{6, 40}, {40, 6}, {8, 8}}) {
    std::vector<float> values = Random(5, static_cast<uint64_t>(2 * rows * columns));
    const at::Tensor in = View(values).view({2, rows, columns});
    const at::Tensor out = NewtonSchulz(in);
    const double squares = out.square().sum().item<double>() / 2;
    const double side = static_cast<double>(std::min(rows, columns));
    EXPECT_GT(squares, 0.5 * side) << rows;
    EXPECT_LT(squares, 1.5 * side) << rows;
    EXPECT_TRUE(NewtonSchulz(in.mul(1e-3)).allclose(out, 1e-3, 1e-4)) << "depends on the scale";
  }
  EXPECT_EQ(NewtonSchulz(at::zeros({1, 3, 4})).abs().sum().item<double>(), 0) << "no direction";
}

// ---- state ----

TEST(InnerOptimizer, SavedStateContinuesBitByBit) {
  const ParameterTable table = MakeParameterTable(Shape());
  for (const char* name : {"adamw", "muon"}) {
    std::vector<float> theta = Random(1, table.elements), gradient = Random(2, table.elements);
    const auto optimizer = MakeInnerOptimizer(table, Options(name), View(theta));
    const std::string fresh = optimizer->Save();
    optimizer->Step(View(theta), View(gradient), 1.0);
    const std::string saved = optimizer->Save();
    EXPECT_NE(saved, fresh);
    std::vector<float> twin = theta;
    const auto other = MakeInnerOptimizer(table, Options(name), View(twin));
    ASSERT_TRUE(other->Load(saved).ok());
    optimizer->Step(View(theta), View(gradient), 0.5);
    other->Step(View(twin), View(gradient), 0.5);
    EXPECT_EQ(theta, twin) << name;
    optimizer->Reset();
    EXPECT_EQ(optimizer->Save(), fresh);
  }
}

TEST(InnerOptimizer, RefusesAForeignOrDamagedState) {
  const ParameterTable table = MakeParameterTable(Shape());
  LlamaShape larger_shape = Shape();
  larger_shape.num_hidden_layers = 3;
  const ParameterTable larger = MakeParameterTable(larger_shape);
  std::vector<float> theta = Random(1, table.elements), more = Random(1, larger.elements);
  std::vector<float> gradient = Random(2, table.elements);
  const auto adamw = MakeInnerOptimizer(table, Options("adamw"), View(theta));
  const auto muon = MakeInnerOptimizer(table, Options("muon"), View(theta));
  muon->Step(View(theta), View(gradient), 1.0);
  const std::string saved = muon->Save();
  EXPECT_FALSE(muon->Load(adamw->Save()).ok());
  EXPECT_FALSE(muon->Load(MakeInnerOptimizer(larger, Options("muon"), View(more))->Save()).ok());
  for (size_t size : {size_t{0}, size_t{3}, size_t{20}, saved.size() - 1}) {
    EXPECT_FALSE(muon->Load(saved.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(muon->Load(saved + "x").ok());
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::string damaged = saved;
    std::memcpy(damaged.data() + damaged.size() - sizeof bad, &bad, sizeof bad);
    EXPECT_FALSE(muon->Load(damaged).ok());
  }
  EXPECT_EQ(muon->Save(), saved) << "a refused state changed something";
}

}  // namespace
}  // namespace longhaul
