// libFuzzer target: whatever 48 bytes arrive, decoding does not crash, and a header that is
// accepted is one that we would write, byte for byte: nothing in it is passed over. The input's
// first byte says whether magic and version are put right, so that what is behind them is reached.
#include <algorithm>
#include <string>

#include "common/check.h"
#include "proto/chunk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longhaul;
  if (size == 0) return 0;
  std::string frame(reinterpret_cast<const char*>(data) + 1, size - 1);
  constexpr size_t kFixedBytes = 6;
  if (data[0] % 2 == 0 && frame.size() >= kFixedBytes) {
    frame.replace(0, kFixedBytes, EncodeChunkHeader({}).substr(0, kFixedBytes));
  }
  const auto header = DecodeChunkHeader(AsBytes(frame));
  if (!header.ok()) return 0;
  LONGHAUL_CHECK(header->bytes <= kMaxChunkBytes, "a payload beyond the limit");
  LONGHAUL_CHECK(EncodeChunkHeader(*header) == frame, "a header that we would write otherwise");
  return 0;
}
