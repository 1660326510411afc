#include "sharding/order/mixed_order.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"
#include "common/rng.h"

namespace longhaul {
namespace {

constexpr uint64_t kUse = 0x6d6978;  // "mix"
__extension__ typedef unsigned __int128 Wide;

}  // namespace

std::vector<uint64_t> SharesOf(const std::vector<uint64_t>& weights) {
  const Wide sum = std::accumulate(weights.begin(), weights.end(), Wide{0});
  LONGHAUL_CHECK(sum > 0, "weights of nothing");
  std::vector<uint64_t> shares, order(weights.size());
  std::vector<Wide> remainder;
  uint64_t given = 0;
  for (const uint64_t w : weights) {
    const Wide scaled = Wide{w} * kShareOne;
    shares.push_back(static_cast<uint64_t>(scaled / sum));
    remainder.push_back(scaled % sum);
    given += shares.back();
  }
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint64_t a, uint64_t b) { return remainder[a] > remainder[b]; });
  for (uint64_t i = 0; given < kShareOne; ++i, ++given) ++shares[order[i]];
  return shares;
}

std::string MixedOrder::Problem(size_t domains, const std::vector<MixingRow>& table,
                                uint64_t macro_block) {
  if (domains == 0) return "there is no domain";
  if (macro_block == 0 || macro_block > kShareOne) return "the macro-block's size is out of range";
  if (table.empty() || table[0].first_block != 0) return "the first row begins at macro-block 0";
  for (size_t i = 0; i < table.size(); ++i) {
    if (i > 0 && table[i].first_block <= table[i - 1].first_block) return "rows are out of order";
    if (table[i].shares.size() != domains) return "a row has a share for each domain";
    uint64_t sum = 0;
    for (const uint64_t share : table[i].shares) {
      if (share > kShareOne) return "a share is above one";
      if (share * macro_block < kShareOne) return "a share is below one sample per macro-block";
      sum += share;
    }
    if (sum != kShareOne) return "the shares of a row do not sum to one";
  }
  return "";
}

MixedOrder::MixedOrder(uint64_t seed, const std::vector<WindowSizes>& domains,
                       std::vector<MixingRow> table, uint64_t macro_block)
    : key_(Draw(seed, {kUse})), macro_block_(macro_block) {
  LONGHAUL_CHECK(Problem(domains.size(), table, macro_block).empty(), "a bad mixing table");
  for (uint64_t i = 0; i < domains.size(); ++i) orders_.emplace_back(seed, i, domains[i]);
  for (const MixingRow& given : table) {
    Row row{given.first_block, {0}, std::vector<unsigned __int128>(domains.size() + 1)};
    for (const uint64_t share : given.shares)
      row.cumulative.push_back(row.cumulative.back() + share);
    if (!rows_.empty()) {
      const Row& last = rows_.back();
      const Wide positions = Wide{row.first_block - last.first_block} * macro_block_;
      for (size_t j = 0; j < row.before.size(); ++j) {
        row.before[j] = last.before[j] + positions * last.cumulative[j];
      }
    }
    rows_.push_back(std::move(row));
  }
}

const MixedOrder::Row& MixedOrder::RowOf(uint64_t block) const {
  const auto after =
      std::upper_bound(rows_.begin(), rows_.end(), block,
                       [](uint64_t b, const Row& row) { return b < row.first_block; });
  return *std::prev(after);
}

uint64_t MixedOrder::Prefix(const Row& row, uint64_t block, size_t j) const {
  const Wide positions = Wide{block - row.first_block} * macro_block_;
  return static_cast<uint64_t>((row.before[j] + positions * row.cumulative[j]) >> 32);
}

Permutation MixedOrder::Spread(uint64_t block) const {
  return Permutation(macro_block_, key_ + block * kGoldenGamma);
}

uint64_t MixedOrder::CountBefore(uint64_t block, uint32_t domain) const {
  const Row& row = RowOf(block);
  return Prefix(row, block, domain + 1) - Prefix(row, block, domain);
}

OrderPlace MixedOrder::At(uint64_t position) const {
  OrderPlace place;
  uint64_t count = position;
  if (orders_.size() > 1) {
    const uint64_t block = position / macro_block_;
    // Domains lie one after the other in the shuffled macro-block.
    uint64_t slot = Spread(block)(position % macro_block_);
    uint64_t before = 0, after = 0;
    while (true) {
      before = CountBefore(block, place.domain);
      after = CountBefore(block + 1, place.domain);
      if (slot < after - before) break;
      slot -= after - before;
      ++place.domain;
    }
    count = before + slot;
  }
  const WindowOrder& order = orders_[place.domain];
  place.epoch = count / order.samples();
  place.sample = order.Sample(place.epoch, count % order.samples());
  return place;
}

uint64_t MixedOrder::Position(const OrderPlace& place) const {
  LONGHAUL_CHECK(place.domain < orders_.size(), "no such domain");
  const WindowOrder& order = orders_[place.domain];
  const uint64_t count = place.epoch * order.samples() + order.Place(place.epoch, place.sample);
  if (orders_.size() == 1) return count;
  // The macro-block with CountBefore(block) <= count < CountBefore(block + 1). Every macro-block
  // holds one of every domain, so it is not far behind `count`.
  uint64_t low = 0, high = count + 2;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (CountBefore(middle, place.domain) <= count ? low : high) = middle;
  }
  uint64_t slot = count - CountBefore(low, place.domain);
  for (uint32_t d = 0; d < place.domain; ++d) slot += CountBefore(low + 1, d) - CountBefore(low, d);
  return low * macro_block_ + Spread(low).Inverse(slot);
}

std::vector<uint64_t> MixedOrder::Count(uint64_t from, uint64_t to) const {
  std::vector<uint64_t> counts(orders_.size());
  while (from < to) {
    const uint64_t block = from / macro_block_;
    if (from % macro_block_ == 0 && to - from >= macro_block_) {
      const uint64_t end = to / macro_block_;
      for (uint32_t d = 0; d < counts.size(); ++d) {
        counts[d] += CountBefore(end, d) - CountBefore(block, d);
      }
      from = end * macro_block_;
    } else {
      ++counts[At(from++).domain];
    }
  }
  return counts;
}

}  // namespace longhaul
