#include "sharding/plan/reducer_shares.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul {

std::vector<uint32_t> ReducerShares(uint32_t chunks, uint32_t reducers) {
  LONGHAUL_CHECK(reducers >= 1 && reducers <= chunks, "every reducer has at least one chunk");
  std::vector<uint32_t> shares(reducers, chunks / reducers);
  for (uint32_t i = 0; i < chunks % reducers; ++i) ++shares[i];
  return shares;
}

double ExchangeSeconds(double up_bytes, double down_bytes,
                       std::span<const ExchangeMember> members) {
  const double others = static_cast<double>(members.size()) - 1;
  double most = 0;
  for (const ExchangeMember& m : members) {
    // Sends what others reduce of its own contribution, and its part of the aggregate to each.
    const double sent = (1 - m.share) * up_bytes + others * m.share * down_bytes;
    const double received = others * m.share * up_bytes + (1 - m.share) * down_bytes;
    most = std::max(most, std::max(sent, received) / m.bytes_per_s);
  }
  return most;
}

}  // namespace longhaul
