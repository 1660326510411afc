// libFuzzer target: whatever a manifest or a delta holds, parsing does not crash, and what is
// accepted encodes to the same bytes. The checksum at the end is put right, so that the parser
// behind it is reached.
#include <string>

#include "common/check.h"
#include "common/hash.h"
#include "data/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  const longhaul::Digest checksum = longhaul::Blake2b(std::string_view(bytes));
  bytes.append(reinterpret_cast<const char*>(checksum.data()), checksum.size());
  auto manifest = longhaul::ParseManifest(longhaul::AsBytes(bytes));
  if (manifest.ok()) {
    LONGHAUL_CHECK(longhaul::EncodeManifest(*manifest) == bytes, "not canonical");
    (void)manifest->Id();
  }
  auto delta = longhaul::ParseDelta(longhaul::AsBytes(bytes));
  if (delta.ok()) LONGHAUL_CHECK(longhaul::EncodeDelta(*delta) == bytes, "not canonical");
  return 0;
}
