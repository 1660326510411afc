// Tests only: values to code, and coding whole fragments.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "compression/codec.h"

namespace longhaul {

inline constexpr size_t kTestChunk = 65536;

// Standard normal by Box-Muller, in double.
double Normal(uint64_t seed, uint64_t stream, uint64_t tensor, uint64_t i);
// `tensor` tells one vector from another.
std::vector<float> Normals(uint64_t tensor, size_t n, double scale);
// Student's t with 3 degrees of freedom.
std::vector<float> HeavyTailed(uint64_t tensor, size_t n, double scale);

struct CodedFragment {
  CodecPlan plan;
  std::vector<std::vector<std::byte>> chunks;
  size_t chunk_elements = kTestChunk;
  size_t bytes() const {
    size_t sum = 0;
    for (const auto& chunk : chunks) sum += chunk.size();
    return sum;
  }
};

// Nothing when the codec refuses the values.
inline std::optional<CodedFragment> CodeFragment(const Codec& codec, std::span<const float> values,
                                                 size_t chunk_elements = kTestChunk) {
  CodedFragment coded;
  coded.chunk_elements = chunk_elements;
  const auto plan =
      MakePlan(codec, values.size(), chunk_elements, [&](uint64_t first, std::span<float> out) {
        std::copy_n(values.begin() + static_cast<ptrdiff_t>(first), out.size(), out.begin());
      });
  if (!plan) return std::nullopt;
  coded.plan = *plan;
  for (size_t at = 0; at < values.size(); at += chunk_elements) {
    const auto chunk = values.subspan(at, std::min(chunk_elements, values.size() - at));
    std::vector<std::byte> bytes(codec.EncodedBytes(chunk.size()));
    const std::optional<size_t> used = codec.EncodeChunk(*plan, at, chunk, bytes);
    if (!used) return std::nullopt;
    bytes.resize(*used);
    coded.chunks.push_back(std::move(bytes));
  }
  return coded;
}

inline std::optional<std::vector<float>> DecodeFragment(const Codec& codec,
                                                        const CodedFragment& coded, size_t n) {
  std::vector<float> values(n, 100.0f);
  for (size_t i = 0; i < coded.chunks.size(); ++i) {
    const size_t at = i * coded.chunk_elements;
    const auto out = std::span(values).subspan(at, std::min(coded.chunk_elements, n - at));
    if (!codec.DecodeChunk(at, coded.chunks[i], out)) return std::nullopt;
  }
  return values;
}

}  // namespace longhaul
