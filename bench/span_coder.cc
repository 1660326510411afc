#include "bench/span_coder.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "bench/reference_coders.h"
#include "compression/codec.h"
#include "proto/chunk.h"

namespace longhaul {
namespace {

class ProductCoder : public SpanCoder {
 public:
  explicit ProductCoder(std::unique_ptr<const Codec> codec) : codec_(std::move(codec)) {}

  absl::StatusOr<CodedSize> Code(std::span<const float> in,
                                 std::span<float> decoded) const override {
    const auto not_finite = absl::InvalidArgumentError("a value is not finite");
    const std::optional<CodecPlan> plan =
        MakePlan(*codec_, in.size(), kChunkElements, [&](uint64_t first, std::span<float> out) {
          std::copy_n(in.begin() + static_cast<int64_t>(first), out.size(), out.begin());
        });
    if (!plan) return not_finite;
    CodedSize size;
    std::vector<std::byte> packet(codec_->EncodedBytes(std::min(kChunkElements, in.size())));
    for (size_t at = 0; at < in.size(); at += kChunkElements) {
      const size_t n = std::min<size_t>(kChunkElements, in.size() - at);
      const std::optional<size_t> bytes = codec_->EncodeChunk(*plan, at, in.subspan(at, n), packet);
      if (!bytes) return not_finite;
      if (!codec_->DecodeChunk(at, std::span(packet).first(*bytes), decoded.subspan(at, n))) {
        return absl::InternalError("a packet of our own was refused");
      }
      size.payload_bits += 8.0 * static_cast<double>(*bytes);
      size.header_bits += 8.0 * kChunkHeaderBytes;
    }
    return size;
  }

 private:
  const std::unique_ptr<const Codec> codec_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SpanCoder>> MakeSpanCoder(const std::string& name,
                                                         std::vector<TensorSpan> tensors) {
  const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits(':', 1));
  const auto id = CodecByName(parts[0]);
  if (!id) return MakeReferenceCoder(name, std::move(tensors));
  double bits = 0;
  if (HasBitBudget(*id) != (parts.size() == 2) ||
      (parts.size() == 2 && !absl::SimpleAtod(parts[1], &bits))) {
    return absl::InvalidArgumentError(name + ": bit-budget and top-k take bits after a colon");
  }
  const auto spec = CodecSpecByName(parts[0], bits);
  if (!spec) return absl::InvalidArgumentError(name + ": bits are out of range");
  auto codec = MakeCodec(*spec, std::move(tensors));
  if (codec == nullptr) return absl::InvalidArgumentError(name + ": the tensors do not fit");
  return std::make_unique<ProductCoder>(std::move(codec));
}

}  // namespace longhaul
