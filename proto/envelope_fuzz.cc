// libFuzzer target: whatever arrives, decoding does not crash, and what is accepted can be sent on.
#include "common/check.h"
#include "proto/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const longhaul::ByteSpan bytes{reinterpret_cast<const std::byte*>(data), size};
  (void)longhaul::DecodeRunConfig(bytes);
  auto envelope = longhaul::DecodeEnvelope(bytes);
  if (!envelope.ok()) return 0;
  auto again = longhaul::EncodeEnvelope(*envelope);
  // Our encoding can be longer than theirs: they may leave out what we always write.
  if (!again.ok()) return 0;
  LONGHAUL_CHECK(longhaul::DecodeEnvelope(longhaul::AsBytes(*again)).ok(), "a round trip failed");
  return 0;
}
