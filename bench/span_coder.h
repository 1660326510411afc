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
#include "compression/codec.h"

namespace longhaul {

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

// `name` is a codec of compression/, with its budget if it has one ("int8", "bit-budget:2",
// "top-k:0.15"): the fragment is planned and coded in chunks, as it travels. Or one of
// bench/reference_coders.h. `tensors` cover the fragment in order and without gaps. NotFound for
// another name, InvalidArgument for a budget out of range.
absl::StatusOr<std::unique_ptr<SpanCoder>> MakeSpanCoder(const std::string& name,
                                                         std::vector<TensorSpan> tensors);

}  // namespace longhaul
