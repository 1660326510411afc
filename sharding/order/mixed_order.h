// From a global position to (domain, sample): a mixing table says which share of the positions each
// domain gets, from which macro-block on; inside a domain, WindowOrder says which sample.
//
// Positions are cut into macro-blocks of B. With shares p_1, p_2, ... (multiples of 2^-32, constant
// within a row of the table) the first t positions ideally hold t * p_d samples of domain d.
// Domains 1 to j together get floor(ideal) of them, so at every edge of a macro-block each domain
// is off by less than one sample, over any number of rows. A keyed permutation spreads the domains
// inside a macro-block. Every share is at least 1/B, so no domain ever has to give one back.
//
// A table that only gets new rows, for macro-blocks to come, never changes the past. Random access
// both ways in O(log rows + domains). Independent of workers, batch and sequence length.
//
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sharding/order/window_order.h"

namespace longhaul {

inline constexpr uint64_t kShareOne = uint64_t{1} << 32;

struct MixingRow {
  uint64_t first_block = 0;      // macro-block
  std::vector<uint64_t> shares;  // of 2^32; they sum to it
};

// Shares from weights of any size, by largest remainder. Weights above 0.
std::vector<uint64_t> SharesOf(const std::vector<uint64_t>& weights);

struct OrderPlace {
  uint32_t domain = 0;
  uint64_t epoch = 0;   // of the domain
  uint64_t sample = 0;  // in the domain
  auto operator<=>(const OrderPlace&) const = default;
};

class MixedOrder {
 public:
  static constexpr uint64_t kMacroBlock = 8192;

  // A row per change; the first one is from block 0. `domains` gives each domain's sizes.
  // "" or what is wrong: no domain, rows out of order, shares that do not sum to 2^32 or are below
  // 1/macro_block.
  static std::string Problem(size_t domains, const std::vector<MixingRow>& table,
                             uint64_t macro_block = kMacroBlock);

  // Problem() must be "".
  MixedOrder(uint64_t seed, const std::vector<WindowSizes>& domains, std::vector<MixingRow> table,
             uint64_t macro_block = kMacroBlock);

  // Position below 2^62 / domains.
  OrderPlace At(uint64_t position) const;
  uint64_t Position(const OrderPlace& place) const;
  // How many of the first `block` macro-blocks' positions are of a domain.
  uint64_t CountBefore(uint64_t block, uint32_t domain) const;
  // Of any range of positions, by domain.
  std::vector<uint64_t> Count(uint64_t from, uint64_t to) const;
  uint64_t macro_block() const { return macro_block_; }

 private:
  struct Row {
    uint64_t first_block = 0;
    std::vector<uint64_t> cumulative;  // shares of domains 1..j, from 0 on: one more than domains
    std::vector<unsigned __int128> before;  // the same, times positions, summed over earlier rows
  };
  const Row& RowOf(uint64_t block) const;
  // Positions of domains 1..j before the block.
  uint64_t Prefix(const Row& row, uint64_t block, size_t j) const;
  Permutation Spread(uint64_t block) const;

  uint64_t key_;
  uint64_t macro_block_;
  std::vector<WindowOrder> orders_;
  std::vector<Row> rows_;
};

}  // namespace longhaul
