// libFuzzer: any bytes into every decoder. What is accepted must decode to finite values below the
// limit, and, as far as the codec can say so, encode again; what is refused must leave the output
// alone. The first bytes choose codec, layout and size.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "compression/codec.h"

namespace longhaul {
namespace {

constexpr float kMark = 100.0f;

std::vector<TensorSpan> LayoutFor(uint8_t choice, uint64_t elements) {
  if (choice % 2 == 0 || elements < 4) return {};
  const uint64_t part = elements / 4;
  return {{0, part, TensorClass::kEmbedding, 1 + choice / 2u % 8},
          {part, part, TensorClass::kVector, 0},
          {2 * part, elements - 2 * part, TensorClass::kMatrix, 0}};
}

std::unique_ptr<const Codec> CodecFor(uint8_t choice, uint64_t elements) {
  const auto id = static_cast<CodecId>(1 + choice % 7);
  return MakeCodec({id, HasBitBudget(id) ? 2000u : 0u}, LayoutFor(choice / 7, elements));
}

// Values that a decoder gave must be fit for its encoder.
void CodeAgain(const Codec& codec, std::vector<float>& values) {
  const auto plan =
      MakePlan(codec, values.size(), values.size(), [&](uint64_t, std::span<float> out) {
        std::copy(values.begin(), values.end(), out.begin());
      });
  if (!plan) std::abort();
  std::vector<std::byte> bytes(codec.EncodedBytes(values.size()));
  const std::optional<size_t> used = codec.EncodeChunk(*plan, 0, values, bytes);
  if (!used || !codec.DecodeChunk(0, std::span(bytes).first(*used), values)) std::abort();
}

void Try(std::span<const uint8_t> data) {
  if (data.size() < 3) return;
  const size_t elements = 1 + data[1] + size_t{256} * (data[2] % 80);
  const auto codec = CodecFor(data[0], elements);
  std::vector<float> out(elements, kMark);
  const bool accepted = codec->DecodeChunk(0, std::as_bytes(data.subspan(3)), out);
  for (float v : out) {
    if (accepted ? !(std::fabs(v) <= kMaxMagnitude) : v != kMark) std::abort();
  }
  if (accepted) CodeAgain(*codec, out);
}

}  // namespace
}  // namespace longhaul

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  longhaul::Try({data, size});
  return 0;
}
