// How errors find their values: three ways to let credit flow down a chain, one for each end of the
// dial and one between.
//
//   AnchoredCredit   predictions and derivatives stay those of the forward pass. What is stored is
//                    the errors: e_l <- (1 - rate) e_l + rate J^T e_(l+1). Its only fixed point is
//                    backprop's errors, whatever the weights and the rate.
//   FreeStates       states move down the energy, predictions and derivatives follow them:
//                    s_l <- s_l + rate (-e_l + J^T e_(l+1)). With multipliers (PC-ALM, Seely and
//                    Gould 2026, arXiv 2605.31022) e_l = m_l + penalty (s_l - mu_l).
//   FreeErrors       ePC (arXiv 2505.20137): errors move, states are rebuilt from them as
//                    s_l = f_l(s_(l-1)) + e_l, so that one step reaches every layer.
//
// All begin at the forward pass, so hidden errors begin at 0. An error points the way that its
// state should go; backprop's is -dloss/ds. Rows never mix, nothing is divided by their number.
//
// Thread rule: one thread. They keep references to network and weights. They throw what LibTorch
// throws.
#pragma once

#include <vector>

#include "pcn/rules/energy.h"
#include "pcn/rules/network.h"

namespace longhaul::pcn {

struct Output {
  OutputLoss loss = OutputLoss::kSquared;
  at::Tensor target;
  double weight = 1;
};

// What all three have: the latest linearisation of each layer, and the errors above it.
class Inference {
 public:
  size_t depth() const { return network_.depth(); }
  const at::Tensor& error(size_t l) const { return errors_[l]; }
  // The output of the forward pass, before anything moved.
  const at::Tensor& forward_output() const { return forward_output_; }
  // gradient -= scale * (df_l/dtheta)^T e_l, summed over rows: what an optimizer descends.
  void AddLayerGradient(size_t l, double scale, const Weights& gradient) const;
  // Summed over rows.
  double Energy() const;
  double LayerEnergy(size_t l) const;  // of the top: weight * loss

 protected:
  Inference(const Network& network, const Weights& weights, const at::Tensor& in, Output output);
  at::Tensor PullBack(size_t l, const at::Tensor& error) const;  // through layer l
  at::Tensor Predict(size_t l, const at::Tensor& in);            // renews layer l's tape
  at::Tensor TopError() const;
  size_t top() const { return depth() - 1; }

  const Network& network_;
  const Weights& weights_;
  const Output output_;
  std::vector<Tape> tapes_;
  std::vector<at::Tensor> predictions_, errors_;
  at::Tensor forward_output_;
};

class AnchoredCredit : public Inference {
 public:
  AnchoredCredit(const Network& network, const Weights& weights, const at::Tensor& in,
                 Output output);
  // All layers at once, from the errors that their upper neighbours had before. Rate in (0, 1].
  void Sweep(double rate);
  // The fixed point at the price of one sweep: every layer once, from the top (Z-IL's order).
  void Solve();
  // The same in one pass with the gradients of all layers.
  void SolveWithGradient(double scale, const Weights& gradient);
};

class FreeStates : public Inference {
 public:
  struct Options {
    double rate = 0.1;
    double momentum = 0;  // of the states
    double penalty = 1;   // precision of the hidden states
  };
  FreeStates(const Network& network, const Weights& weights, const at::Tensor& in, Output output,
             const Options& options);
  // One step of all states, then new predictions, derivatives and errors.
  void Sweep();
  // m_l += rate (s_l - mu_l). The errors already held do not change: gradients taken after it are
  // still those before the step, as PC-ALM wants; the next sweep sees the new multipliers.
  void StepMultipliers(double rate);
  // After the weights changed: predictions, derivatives and errors anew at the same states.
  void Refresh() { RefreshFrom(0); }
  // -dE/ds_l without the multipliers' step: what Sweep adds, before rate and momentum.
  at::Tensor Force(size_t l) const;
  const at::Tensor& state(size_t l) const { return states_[l]; }
  void SetState(size_t l, const at::Tensor& state) { states_[l] = state; }

 private:
  void RefreshFrom(size_t first);
  // The error above hidden layer l that states, predictions and multipliers give now.
  at::Tensor HiddenError(size_t l) const;

  const Options options_;
  const at::Tensor in_;
  std::vector<at::Tensor> states_, velocities_, multipliers_;  // of the hidden layers
};

class FreeErrors : public Inference {
 public:
  FreeErrors(const Network& network, const Weights& weights, const at::Tensor& in, Output output);
  // One step of all errors down the energy of the rebuilt states.
  void Sweep(double rate);

 private:
  void Rebuild();
  const at::Tensor in_;
};

}  // namespace longhaul::pcn
