// Codecs: a span of float32 in, bytes out, and back. Stateless, deterministic, same bits on every
// CPU. std only.
//
// What is coded is a fragment: a vector cut into chunks, each of which is decodable alone. Codecs
// whose chunks vary in size first plan over the whole fragment (Planner), then code chunk by chunk
// with what they found (CodecPlan); the others need no plan.
//
// Every decoder first validates (length, canonical form, finite scales), then writes: damaged bytes
// give `false` and touch nothing. What a decoder yields is exactly what error feedback subtracts.
// Decoded magnitudes are below 8 (kMaxMagnitude): encoders saturate there.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace longhaul {

// On the wire; the decoded bits of an id never change.
enum class CodecId : uint32_t {
  kFloat32 = 1,
  kBf16 = 2,
  kInt8 = 3,
  kInt4 = 4,
  kInt2 = 5,
  kTopK = 6,       // top_k_codec.h
  kBitBudget = 7,  // bit_budget_codec.h
};

inline constexpr float kMaxMagnitude = 7.9375f;  // < 8, exact in bf16

// A codec and its parameter. Only encoders need the parameter: a chunk says the rest.
struct CodecSpec {
  constexpr CodecSpec(CodecId codec = CodecId::kInt8, uint32_t bits = 0)
      : id(codec), bits_milli(bits) {}
  CodecId id;
  // Bits per parameter in thousandths, all bytes of the chunks counted: what the codec aims at.
  // kBitBudget and kTopK only, 0 for the others.
  uint32_t bits_milli;
  auto operator<=>(const CodecSpec&) const = default;
};
inline constexpr uint32_t kLeastBitsMilli = 50;
inline constexpr uint32_t kMostBitsMilli = 8000;

enum class TensorClass : uint8_t {
  kMatrix = 0,
  kEmbedding = 1,  // and heads
  kVector = 2,     // one dimension: norms, biases; few, and kept nearly exact
};

// Which values of a fragment belong together. A layout is a list of spans that covers the fragment
// without gaps; an empty one says that everything is one matrix. Both sides must have the same.
struct TensorSpan {
  uint64_t offset = 0;
  uint64_t count = 0;
  TensorClass tensor_class = TensorClass::kMatrix;
  // Values per row, where whole rows are often zero (embeddings); 0: do not look.
  uint64_t row = 0;
  auto operator<=>(const TensorSpan&) const = default;
};

// What the chunks of one fragment have in common; made by a Planner, read by its codec alone.
struct CodecPlan {
  uint32_t threshold_bits = 0;      // |v| below this float32 becomes 0 ...
  uint32_t tie_threshold_bits = 0;  // ... or below this one, before `tie_end`
  uint64_t tie_end = 0;
  uint16_t step = 0;    // bf16
  uint8_t vectors = 0;  // how values of TensorClass::kVector travel
  auto operator<=>(const CodecPlan&) const = default;
};

// Looks at a whole fragment, chunk by chunk in order, as often as it must; usually once.
class Planner {
 public:
  virtual ~Planner() = default;
  virtual bool done() const = 0;
  // Values [first, first + chunk.size()) of the fragment. False when one is not finite.
  virtual bool Observe(uint64_t first, std::span<const float> chunk) = 0;
  virtual void EndPass() = 0;
  // Once done.
  virtual CodecPlan plan() const = 0;
};

class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const = 0;
  // The most bytes that a chunk of `elements` values takes; exactly that many when fixed_size().
  virtual size_t EncodedBytes(size_t elements) const = 0;
  virtual bool fixed_size() const { return true; }
  // Whether a chunk of `elements` values can take so many bytes.
  bool MayTake(size_t bytes, size_t elements) const {
    const size_t most = EncodedBytes(elements);
    return fixed_size() ? bytes == most : bytes <= most;
  }

  // For one fragment; null when the codec needs no plan.
  virtual std::unique_ptr<Planner> NewPlanner() const { return nullptr; }

  // Codes values [first, first + in.size()) of a fragment into the beginning of `out`, which has
  // room for EncodedBytes(in.size()); how many bytes. Nothing when a value is not finite or `out`
  // too small; `out` is then unspecified.
  virtual std::optional<size_t> EncodeChunk(const CodecPlan& plan, uint64_t first,
                                            std::span<const float> in,
                                            std::span<std::byte> out) const = 0;
  // False when `in` is not an encoding of values [first, first + out.size()); `out` is then
  // untouched.
  virtual bool DecodeChunk(uint64_t first, std::span<const std::byte> in,
                           std::span<float> out) const = 0;

  // The same for codecs of fixed size, to which it is all one where a chunk lies. `out.size()` must
  // be EncodedBytes(in.size()).
  bool Encode(std::span<const float> in, std::span<std::byte> out) const;
  bool Decode(std::span<const std::byte> in, std::span<float> out) const;
};

// Plans for `elements` values of a fragment, from `begin` on (a chunk's border): all of it, or a
// slice that is coded on its own. `fill(first, out)` gives values [first, first + out.size()) of
// the fragment; it is called for chunk after chunk, and again from the start if the codec must
// look twice. Nothing when a value is not finite.
using FillChunk = std::function<void(uint64_t first, std::span<float> out)>;
std::optional<CodecPlan> MakePlan(const Codec& codec, uint64_t elements, uint64_t chunk_elements,
                                  const FillChunk& fill, uint64_t begin = 0);

// Null: an unknown id, a parameter out of range, a layout with gaps, overlaps or empty spans.
std::unique_ptr<const Codec> MakeCodec(const CodecSpec& spec, std::vector<TensorSpan> layout = {});

// Codecs without parameters: static objects that live for ever. Null for the other ids.
const Codec* FindCodec(CodecId id);
// "float32", "bf16", "int8", "int4", "int2", "top-k", "bit-budget".
std::optional<CodecId> CodecByName(std::string_view name);
std::string_view CodecName(CodecId id);  // "" for an unknown id
// The codec of a name, with `bits` per parameter if it has a budget (else they are ignored).
// Nothing: an unknown name, bits out of range.
std::optional<CodecSpec> CodecSpecByName(std::string_view name, double bits);
bool HasBitBudget(CodecId id);  // whether CodecSpec::bits_milli is used

}  // namespace longhaul
