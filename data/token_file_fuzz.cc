// libFuzzer target: headers, metadata and indexes of token files.
#include "common/check.h"
#include "data/inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longhaul;
  if (size < 8) return 0;
  const ByteSpan bytes{reinterpret_cast<const std::byte*>(data), size};
  ByteReader r(bytes);
  const uint64_t file_bytes = r.U64();
  for (const uint64_t claimed : {file_bytes, file_bytes % 5000}) {
    auto bin = ParseBinShape(r.Rest(), claimed);
    if (bin.ok()) {
      LONGHAUL_CHECK(bin->data_offset + bin->tokens * bin->token_bytes == claimed, "a shape");
    }
    const std::string text(reinterpret_cast<const char*>(r.Rest().data()), r.Rest().size());
    auto ds = ParseDatatroveShape(text, claimed);
    if (ds.ok()) LONGHAUL_CHECK(ds->tokens * ds->token_bytes == claimed, "a shape");
    (void)CheckDatatroveIndex(r.Rest(), claimed);
  }
  return 0;
}
