#include "pcn/relay/cut.h"

#include <algorithm>
#include <limits>

namespace longhaul::pcn {

// best[k][n]: the time of the slowest of the first k stages when they hold the first n layers.
std::optional<std::vector<size_t>> CutChain(std::span<const LayerCost> layers,
                                            std::span<const StageMachine> stages) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const size_t count = layers.size();
  using Row = std::vector<double>;
  std::vector<Row> best(stages.size() + 1, Row(count + 1, kNever));
  std::vector<std::vector<size_t>> first(stages.size() + 1, std::vector<size_t>(count + 1));
  best[0][0] = 0;
  for (size_t k = 1; k <= stages.size(); ++k) {
    for (size_t n = k; n <= count; ++n) {
      double work = 0;
      uint64_t bytes = 0;
      for (size_t begin = n; begin-- > k - 1;) {
        work += layers[begin].work;
        bytes += layers[begin].bytes;
        if (bytes > stages[k - 1].memory_bytes) break;
        const double slowest = std::max(best[k - 1][begin], work / stages[k - 1].speed);
        if (slowest < best[k][n]) {
          best[k][n] = slowest;
          first[k][n] = begin;
        }
      }
    }
  }
  if (stages.empty() || best[stages.size()][count] == kNever) return std::nullopt;
  std::vector<size_t> cut(stages.size());
  for (size_t k = stages.size(), n = count; k > 0; --k) n = cut[k - 1] = first[k][n];
  return cut;
}

}  // namespace longhaul::pcn
