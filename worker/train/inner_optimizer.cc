#include "worker/train/inner_optimizer.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"
#include "worker/train/adamw.h"
#include "worker/train/muon.h"

namespace longhaul {
namespace {

constexpr uint32_t kStateFormat = 1;
constexpr size_t kMaxNameBytes = 16;

bool AllFinite(std::span<const float> values) {
  float sum = 0;  // 0 · x is 0 for finite x only
  for (float v : values) sum += 0.0f * v;
  return sum == 0;
}

}  // namespace

void InnerOptimizer::Reset() {
  for (const at::Tensor& t : State()) t.zero_();
}

// Format, name, then every tensor of State: its number of elements and its values.
std::string InnerOptimizer::Save() const {
  ByteWriter out;
  out.U32(kStateFormat);
  out.String(name_);
  for (const at::Tensor& t : State()) {
    const at::Tensor host = t.cpu();
    out.U64(static_cast<uint64_t>(host.numel()));
    out.Raw(host.const_data_ptr<float>(), static_cast<size_t>(host.numel()) * sizeof(float));
  }
  return out.Take();
}

absl::Status InnerOptimizer::Load(std::string_view bytes) {
  ByteReader in(bytes);
  if (in.U32() != kStateFormat || in.String(kMaxNameBytes) != name_) {
    return absl::InvalidArgumentError(absl::StrCat("not a state of ", name_));
  }
  std::vector<std::vector<float>> loaded;
  for (const at::Tensor& t : State()) {
    if (in.U64() != static_cast<uint64_t>(t.numel())) {
      return absl::InvalidArgumentError("inner state of another model");
    }
    std::vector<float>& values = loaded.emplace_back(t.numel());
    if (!in.Raw(values.data(), values.size() * sizeof(float)) || !AllFinite(values)) {
      return absl::InvalidArgumentError("inner state is damaged");
    }
  }
  if (!in.AtEnd()) return absl::InvalidArgumentError("inner state is damaged");
  const std::vector<at::Tensor> state = State();
  for (size_t i = 0; i < state.size(); ++i) {
    state[i].copy_(at::from_blob(loaded[i].data(), state[i].sizes(), at::kFloat));
  }
  return absl::OkStatus();
}

std::unique_ptr<InnerOptimizer> MakeInnerOptimizer(const ParameterTable& table,
                                                   const OptimizerOptions& options,
                                                   const at::Tensor& like) {
  if (options.name == "muon") return MakeMuon(table, options, like);
  LONGHAUL_CHECK(options.name == "adamw", "unknown inner optimizer");
  return MakeAdamW(table, options, like);
}

}  // namespace longhaul
