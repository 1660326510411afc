#include "bench/span_coder.h"

#include <algorithm>

#include "bench/reference_coders.h"
#include "compression/codec.h"
#include "proto/chunk.h"

namespace longhaul {
namespace {

class ProductCoder : public SpanCoder {
 public:
  explicit ProductCoder(const Codec& codec) : codec_(codec) {}

  absl::StatusOr<CodedSize> Code(std::span<const float> in,
                                 std::span<float> decoded) const override {
    CodedSize size;
    std::vector<std::byte> packet;
    for (size_t at = 0; at < in.size(); at += kChunkElements) {
      const size_t n = std::min<size_t>(kChunkElements, in.size() - at);
      packet.resize(codec_.EncodedBytes(n));
      if (!codec_.Encode(in.subspan(at, n), packet)) {
        return absl::InvalidArgumentError("a value is not finite");
      }
      if (!codec_.Decode(packet, decoded.subspan(at, n))) {
        return absl::InternalError("a packet of our own was refused");
      }
      size.payload_bits += 8.0 * static_cast<double>(packet.size());
      size.header_bits += 8.0 * kChunkHeaderBytes;
    }
    return size;
  }

 private:
  const Codec& codec_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SpanCoder>> MakeSpanCoder(const std::string& name,
                                                         std::vector<CodedTensor> tensors) {
  if (const auto id = CodecByName(name)) return std::make_unique<ProductCoder>(*FindCodec(*id));
  return MakeReferenceCoder(name, std::move(tensors));
}

}  // namespace longhaul
