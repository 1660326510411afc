// libFuzzer: any bytes into every decoder. What is accepted must decode to finite values below the
// limit, and encode and decode again to the same length; what is refused must leave the output
// alone.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "compression/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const longhaul::Codec* codec =
      longhaul::FindCodec(static_cast<longhaul::CodecId>(1 + data[0] % 5));
  const size_t elements = data[1];
  const std::span<const std::byte> in(reinterpret_cast<const std::byte*>(data) + 2, size - 2);
  constexpr float kMark = 100.0f;
  std::vector<float> out(elements, kMark);
  const bool accepted = codec->Decode(in, out);
  for (float v : out) {
    if (accepted ? !(std::fabs(v) <= longhaul::kMaxMagnitude) : v != kMark) std::abort();
  }
  if (!accepted) return 0;
  std::vector<std::byte> again(codec->EncodedBytes(elements));
  if (!codec->Encode(out, again) || !codec->Decode(again, out)) std::abort();
  return 0;
}
