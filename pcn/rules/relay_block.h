// One block of a network cut for Relay: exact gradients inside, coded states and credits at its
// borders, its own optimizer. What travels is dloss/dstate of the micro-batch's mean loss.
//
// Thread rule: one thread per object. float32.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "pcn/relay/row_codec.h"
#include "pcn/rules/adam.h"
#include "pcn/rules/energy.h"
#include "pcn/rules/network.h"

namespace longhaul::pcn {

// Rows of a tensor, coded; none when a value is not finite.
std::optional<Bytes> EncodeTensor(RowCodec codec, const at::Tensor& rows, Rounding rounding,
                                  uint64_t seed);
// (rows, columns); undefined for bytes that are refused.
at::Tensor DecodeTensor(std::span<const uint8_t> bytes);

class RelayBlock {
 public:
  static constexpr size_t kMaxStashed = 256;

  struct Options {
    RowCodec codec = RowCodec::kFloat32;
    OutputLoss loss = OutputLoss::kSquared;  // of the last block
    AdamOptions adam;
    // Pull credit back through the weights of the forward pass, kept meanwhile (weight stashing):
    // the baseline that Relay is compared with. It costs a copy of the block per micro-batch, at
    // most kMaxStashed; for those that found no room it is the present weights.
    bool stash = false;
    uint64_t seed = 0;  // of stochastic rounding
  };
  RelayBlock(Network network, const at::Tensor& parameters, const Options& options);

  // The coded state above the block. Null where something is not finite or does not decode.
  Payload Predict(uint64_t micro_batch, const Bytes& input);
  // Forward again from the kept input with the present weights, the credit pulled down (coded; null
  // when the block is the first), the update with `learning_rate`. False where something is not
  // finite or does not decode: nothing was updated.
  bool Credit(uint64_t micro_batch, const Bytes& input, const Bytes& credit, double learning_rate,
              bool want_credit, Payload* down);
  // The same at the top, where the target takes the place of the credit.
  bool Top(uint64_t micro_batch, const Bytes& input, const Bytes& target, double learning_rate,
           bool want_credit, Payload* down);
  // Parameters and optimizer state. SetSnapshot: InvalidArgument for other bytes.
  Bytes Snapshot() const;
  absl::Status SetSnapshot(std::span<const uint8_t> bytes);
  const at::Tensor& parameters() const { return weights_.flat; }
  // parameters [offset, offset + values.size()) <- values; the optimizer's state stays.
  void SetParameters(uint64_t offset, std::span<const float> values);
  void ResetOptimizer();
  // Of the latest micro-batch, mean over rows: at the top the loss, in blocks below the energy
  // |e|^2 / 2 of the state above, e = -dloss/dstate of a row.
  double last_loss() const { return last_loss_; }

 private:
  // Pulls `error`, -dloss/dmu, through the layers whose tapes these are.
  bool Update(uint64_t micro_batch, const Weights& weights, const std::vector<Tape>& tapes,
              at::Tensor error, double learning_rate, bool want_credit, Payload* down);
  at::Tensor Forward(const Weights& weights, const at::Tensor& in, std::vector<Tape>* tapes) const;

  const Network network_;
  const Options options_;
  const Weights weights_, gradient_;
  Adam adam_;
  std::map<uint64_t, at::Tensor> stashed_;
  double last_loss_ = 0;
};

}  // namespace longhaul::pcn
