// Codes a vector with each codec and says what that costs: bytes, and the largest error.
#include <cmath>
#include <cstdio>
#include <vector>

#include "compression/codec.h"

int main() {
  std::vector<float> values(1000), decoded(values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * std::sin(0.01f * float(i));
  for (const char* name : {"float32", "bf16", "int8", "int4", "int2"}) {
    const longhaul::Codec* codec = longhaul::FindCodec(*longhaul::CodecByName(name));
    std::vector<std::byte> bytes(codec->EncodedBytes(values.size()));
    if (!codec->Encode(values, bytes) || !codec->Decode(bytes, decoded)) return 1;
    float worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      worst = std::fmax(worst, std::fabs(values[i] - decoded[i]));
    }
    std::printf("%-8s %5zu bytes, largest error %g\n", name, bytes.size(), worst);
  }
}
