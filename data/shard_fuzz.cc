// libFuzzer target: whatever a shard file holds, reading it does not crash and takes no memory that
// its size does not justify. The header's checksum is put right, so that what is behind it is
// reached.
#include <algorithm>
#include <string>

#include "common/check.h"
#include "common/hash.h"
#include "data/shard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longhaul;
  std::string file(reinterpret_cast<const char*>(data), size);
  if (size >= kShardHeaderBytes) {
    const size_t at = kShardHeaderBytes - sizeof(Digest);
    const Digest checksum = Blake2b(std::string_view(file).substr(0, at));
    std::copy(checksum.begin(), checksum.end(), file.begin() + static_cast<int64_t>(at));
  }
  const ByteSpan bytes = AsBytes(file);
  auto header = ParseShardHeader(bytes);
  if (!header.ok() || header->index_bytes() > size) return 0;
  auto index = ParseShardIndex(bytes.first(header->index_bytes()));
  if (!index.ok()) return 0;
  for (uint32_t i = 0; i < index->rows.size(); ++i) {
    const BlockRow& row = index->rows[i];
    if (row.offset > size || row.stored_bytes > size - row.offset) return 0;
    auto decoded = DecodeBlock(*index, i, bytes.subspan(row.offset, row.stored_bytes));
    if (decoded.ok()) {
      LONGHAUL_CHECK(decoded->size() == header->DecodedBytes(i), "a block of another size");
    }
  }
  return 0;
}
