#include "pcn/rules/relay_block.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace longhaul::pcn {
namespace {

Payload Share(std::optional<Bytes> bytes) {
  return bytes ? std::make_shared<const Bytes>(*std::move(bytes)) : nullptr;
}

constexpr uint64_t kMaxElements = kMaxPayloadBytes / sizeof(float);

}  // namespace

std::optional<Bytes> EncodeTensor(RowCodec codec, const at::Tensor& rows, Rounding rounding,
                                  uint64_t seed) {
  const at::Tensor flat = rows.reshape({rows.size(0), -1}).contiguous();
  const std::span<const float> values(flat.const_data_ptr<float>(),
                                      static_cast<size_t>(flat.numel()));
  return EncodeRows(codec, values, static_cast<uint32_t>(flat.size(0)),
                    static_cast<uint32_t>(flat.size(1)), rounding, seed);
}

at::Tensor DecodeTensor(std::span<const uint8_t> bytes) {
  std::optional<DecodedRows> rows = DecodeRows(bytes, kMaxElements);
  if (!rows) return {};
  return at::from_blob(rows->values.data(), {rows->rows, rows->columns}, at::kFloat).clone();
}

RelayBlock::RelayBlock(Network network, const at::Tensor& parameters, const Options& options)
    : network_(std::move(network)),
      options_(options),
      weights_(network_.View(parameters.clone())),
      gradient_(network_.View(at::zeros_like(parameters))),
      adam_(options.adam, parameters) {}

at::Tensor RelayBlock::Forward(const Weights& weights, const at::Tensor& in,
                               std::vector<Tape>* tapes) const {
  if (tapes != nullptr) tapes->resize(network_.depth());
  at::Tensor state = in;
  for (size_t l = 0; l < network_.depth(); ++l) {
    Tape* tape = tapes == nullptr ? nullptr : &(*tapes)[l];
    state = network_.layer(l).Predict(weights.of_layer[l], state, tape);
  }
  return state;
}

Payload RelayBlock::Predict(uint64_t micro_batch, const Bytes& input) {
  const at::Tensor in = DecodeTensor(input);
  if (!in.defined()) return nullptr;
  if (options_.stash) {
    stashed_[micro_batch] = weights_.flat.clone();
    if (stashed_.size() > kMaxStashed) stashed_.erase(stashed_.begin());  // never credited
  }
  const at::Tensor out = Forward(weights_, in, nullptr);
  return Share(EncodeTensor(options_.codec, out, Rounding::kNearest, 0));
}

bool RelayBlock::Credit(uint64_t micro_batch, const Bytes& input, const Bytes& credit,
                        double learning_rate, bool want_credit, Payload* down) {
  const at::Tensor in = DecodeTensor(input), error = DecodeTensor(credit);
  const auto stashed = stashed_.find(micro_batch);
  const Weights weights = stashed == stashed_.end() ? weights_ : network_.View(stashed->second);
  stashed_.erase(micro_batch);
  if (!in.defined() || !error.defined()) return false;
  std::vector<Tape> tapes;
  const at::Tensor out = Forward(weights, in, &tapes);
  if (error.numel() != out.numel()) return false;
  const double norm = at::linalg_vector_norm(error).item<double>();
  if (!Update(micro_batch, weights, tapes, error.view_as(out), learning_rate, want_credit, down)) {
    return false;
  }
  last_loss_ = norm * norm * static_cast<double>(out.size(0)) / 2;
  return true;
}

bool RelayBlock::Top(uint64_t micro_batch, const Bytes& input, const Bytes& target,
                     double learning_rate, bool want_credit, Payload* down) {
  const at::Tensor in = DecodeTensor(input), wanted = DecodeTensor(target);
  if (!in.defined() || !wanted.defined()) return false;
  std::vector<Tape> tapes;
  const at::Tensor out = Forward(weights_, in, &tapes);
  if (!wanted.sizes().equals(out.sizes())) return false;
  const double rows = static_cast<double>(out.size(0));
  const double loss = LossSum(options_.loss, out, wanted) / rows;
  const at::Tensor error = OutputError(options_.loss, out, wanted).mul(-1 / rows);
  if (!Update(micro_batch, weights_, tapes, error, learning_rate, want_credit, down)) return false;
  last_loss_ = loss;
  return true;
}

bool RelayBlock::Update(uint64_t micro_batch, const Weights& weights,
                        const std::vector<Tape>& tapes, at::Tensor error, double learning_rate,
                        bool want_credit, Payload* down) {
  gradient_.flat.zero_();
  for (size_t l = network_.depth(); l-- > 0;) {
    error = network_.layer(l).Credit(weights.of_layer[l], tapes[l], error, l > 0 || want_credit,
                                     gradient_.of_layer[l]);
  }
  if (!std::isfinite(at::linalg_vector_norm(gradient_.flat).item<float>())) return false;
  if (want_credit) {
    const uint64_t seed = options_.seed + micro_batch;
    *down = Share(EncodeTensor(options_.codec, error, Rounding::kStochastic, seed));
    if (*down == nullptr) return false;
  }
  adam_.Step(weights_.flat, gradient_.flat, learning_rate);
  return true;
}

void RelayBlock::SetParameters(uint64_t offset, std::span<const float> values) {
  LONGHAUL_CHECK(offset + values.size() <= static_cast<uint64_t>(weights_.flat.numel()),
                 "values for parameters that there are not");
  std::memcpy(weights_.flat.data_ptr<float>() + offset, values.data(), values.size_bytes());
}

void RelayBlock::ResetOptimizer() { adam_ = Adam(options_.adam, weights_.flat); }

Bytes RelayBlock::Snapshot() const {
  const at::Tensor state = adam_.State();
  const size_t first = static_cast<size_t>(weights_.flat.numel()) * sizeof(float);
  Bytes bytes(first + static_cast<size_t>(state.numel()) * sizeof(float));
  std::memcpy(bytes.data(), weights_.flat.const_data_ptr<float>(), first);
  std::memcpy(bytes.data() + first, state.const_data_ptr<float>(), bytes.size() - first);
  return bytes;
}

absl::Status RelayBlock::SetSnapshot(std::span<const uint8_t> bytes) {
  const int64_t n = weights_.flat.numel();
  const size_t wanted = static_cast<size_t>(3 * n + 1) * sizeof(float);
  if (bytes.size() != wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat("a snapshot of ", bytes.size(), " bytes for a block whose are ", wanted));
  }
  std::vector<float> values(static_cast<size_t>(3 * n + 1));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  const at::Tensor all = at::from_blob(values.data(), {3 * n + 1}, at::kFloat);
  weights_.flat.copy_(all.narrow(0, 0, n));
  adam_.SetState(all.narrow(0, n, 2 * n + 1));
  return absl::OkStatus();
}

}  // namespace longhaul::pcn
