#include "compression/golomb.h"

namespace longhaul {

void PutPositions(std::span<const uint32_t> positions, uint32_t n, BitWriter& out) {
  if (positions.empty() || positions.size() == n) return;
  const GapCode p = GapCodeFor(positions.size(), n);
  uint32_t next = 0;
  for (uint32_t at : positions) {
    PutGap(at - next, p, out);
    next = at + 1;
  }
}

bool GetPositions(uint32_t count, uint32_t n, BitReader& in, std::vector<uint32_t>& positions) {
  if (count > n) return false;
  positions.resize(count);
  if (count == 0) return true;
  if (count == n) {
    for (uint32_t i = 0; i < n; ++i) positions[i] = i;
    return true;
  }
  const GapCode p = GapCodeFor(count, n);
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t limit = n - next - (count - i);
    const uint32_t gap = GetGap(p, limit, in);
    if (gap > limit) return false;
    positions[i] = next + gap;
    next += gap + 1;
  }
  return !in.overrun();
}

}  // namespace longhaul
