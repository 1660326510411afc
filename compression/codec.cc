#include "compression/codec.h"

#include <algorithm>
#include <array>
#include <utility>

#include "compression/bit_budget_codec.h"
#include "compression/block_codec.h"
#include "compression/layout.h"
#include "compression/raw_codec.h"
#include "compression/top_k_codec.h"

namespace longhaul {
namespace {

struct Entry {
  CodecId id;
  std::string_view name;
};
constexpr std::array<Entry, 7> kEntries = {{{CodecId::kFloat32, "float32"},
                                            {CodecId::kBf16, "bf16"},
                                            {CodecId::kInt8, "int8"},
                                            {CodecId::kInt4, "int4"},
                                            {CodecId::kInt2, "int2"},
                                            {CodecId::kTopK, "top-k"},
                                            {CodecId::kBitBudget, "bit-budget"}}};

// A codec without parameters, so that MakeCodec makes them all.
class Borrowed final : public Codec {
 public:
  explicit Borrowed(const Codec& codec) : codec_(codec) {}
  CodecId id() const override { return codec_.id(); }
  size_t EncodedBytes(size_t elements) const override { return codec_.EncodedBytes(elements); }
  std::optional<size_t> EncodeChunk(const CodecPlan& plan, uint64_t first,
                                    std::span<const float> in,
                                    std::span<std::byte> out) const override {
    return codec_.EncodeChunk(plan, first, in, out);
  }
  bool DecodeChunk(uint64_t first, std::span<const std::byte> in,
                   std::span<float> out) const override {
    return codec_.DecodeChunk(first, in, out);
  }

 private:
  const Codec& codec_;
};

}  // namespace

bool Codec::Encode(std::span<const float> in, std::span<std::byte> out) const {
  return fixed_size() && out.size() == EncodedBytes(in.size()) && EncodeChunk({}, 0, in, out);
}

bool Codec::Decode(std::span<const std::byte> in, std::span<float> out) const {
  return DecodeChunk(0, in, out);
}

std::optional<CodecPlan> MakePlan(const Codec& codec, uint64_t elements, uint64_t chunk_elements,
                                  const FillChunk& fill, uint64_t begin) {
  const std::unique_ptr<Planner> planner = codec.NewPlanner();
  if (planner == nullptr) return CodecPlan();
  std::vector<float> values(std::min(elements, chunk_elements));
  while (!planner->done()) {
    for (uint64_t first = 0; first < elements; first += chunk_elements) {
      const auto chunk = std::span(values).first(std::min(chunk_elements, elements - first));
      fill(begin + first, chunk);
      if (!planner->Observe(begin + first, chunk)) return std::nullopt;
    }
    planner->EndPass();
  }
  return planner->plan();
}

std::unique_ptr<const Codec> MakeCodec(const CodecSpec& spec, std::vector<TensorSpan> layout) {
  if (!Layout::Valid(layout)) return nullptr;
  if (!HasBitBudget(spec.id)) {
    const Codec* codec = FindCodec(spec.id);
    if (codec == nullptr || spec.bits_milli != 0) return nullptr;
    return std::make_unique<Borrowed>(*codec);
  }
  if (spec.bits_milli < kLeastBitsMilli || spec.bits_milli > kMostBitsMilli) return nullptr;
  if (spec.id == CodecId::kTopK) return MakeTopKCodec(spec.bits_milli, BestCpuLevel());
  return MakeBitBudgetCodec(spec.bits_milli, Layout(std::move(layout)), BestCpuLevel());
}

bool HasBitBudget(CodecId id) { return id == CodecId::kTopK || id == CodecId::kBitBudget; }

const Codec* FindCodec(CodecId id) {
  switch (id) {
    case CodecId::kFloat32:
      return &Float32Codec();
    case CodecId::kBf16:
      return &Bf16Codec();
    case CodecId::kInt8:
      return &Int8Codec();
    case CodecId::kInt4:
      return &Int4Codec();
    case CodecId::kInt2:
      return &Int2Codec();
    case CodecId::kTopK:
    case CodecId::kBitBudget:
      break;
  }
  return nullptr;
}

std::optional<CodecId> CodecByName(std::string_view name) {
  for (const Entry& entry : kEntries) {
    if (entry.name == name) return entry.id;
  }
  return std::nullopt;
}

std::optional<CodecSpec> CodecSpecByName(std::string_view name, double bits) {
  const std::optional<CodecId> id = CodecByName(name);
  if (!id) return std::nullopt;
  if (!HasBitBudget(*id)) return CodecSpec(*id);
  const double milli = bits * 1000 + 0.5;
  if (!(milli >= kLeastBitsMilli && milli < kMostBitsMilli + 1)) return std::nullopt;
  return CodecSpec(*id, static_cast<uint32_t>(milli));
}

std::string_view CodecName(CodecId id) {
  for (const Entry& entry : kEntries) {
    if (entry.id == id) return entry.name;
  }
  return "";
}

}  // namespace longhaul
