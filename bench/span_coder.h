// How the learning benchmark codes the values of a fragment: one adaptor over the product's codecs,
// and reference coders written for comparison.
//
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul {

// A tensor in the fragment's own numbering; tensors are in order and without gaps.
struct CodedTensor {
  uint64_t offset = 0;
  uint64_t elements = 0;
  bool matrix = true;  // else one-dimensional
};

struct CodedSize {
  double payload_bits = 0;
  double header_bits = 0;  // of the chunks that carry it
  double total() const { return payload_bits + header_bits; }
};

class SpanCoder {
 public:
  virtual ~SpanCoder() = default;
  // decoded <- what every receiver makes of the coded `in`; both are the whole fragment.
  // InvalidArgument when a value is not finite.
  virtual absl::StatusOr<CodedSize> Code(std::span<const float> in,
                                         std::span<float> decoded) const = 0;
};

// `name` is a codec of compression/ ("float32", "bf16", "int8", "int4", "int2"): the fragment in
// chunks, as it travels. Or one of bench/reference_coders.h. NotFound for anything else.
absl::StatusOr<std::unique_ptr<SpanCoder>> MakeSpanCoder(const std::string& name,
                                                         std::vector<CodedTensor> tensors);

}  // namespace longhaul
