// Which workers failed on which sample positions: an interval map from positions to sets of at most
// kMaxLeaseFailures worker numbers. Bounded: a map that is full takes no new entry, so a range that
// is hard to train is given out more often, and nothing else changes.
//
// Pure; owned by one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/bytes.h"

namespace longhaul {

inline constexpr size_t kMaxLeaseFailures = 3;         // distinct workers
inline constexpr size_t kMaxFailureIntervals = 65536;  // about 5 MB

class FailureMap {
 public:
  // Worker numbers, ascending; unused places at the end are 0.
  using Workers = std::array<uint32_t, kMaxLeaseFailures>;
  struct Entry {
    uint64_t from = 0;
    uint64_t to = 0;
    Workers workers{};
  };

  explicit FailureMap(uint64_t total);

  // `worker` (not 0) is added wherever fewer than kMaxLeaseFailures others are. False, with nothing
  // changed, when the map is full. [from, to) is not empty and inside [0, total).
  bool Add(uint64_t from, uint64_t to, uint32_t worker);
  void Forget(uint64_t from, uint64_t to);
  // The entry at a position below `total`; no workers: nobody failed there.
  Entry At(uint64_t position) const;
  // Those with workers, in order of position.
  std::vector<Entry> Entries() const;
  static bool Full(const Workers& workers) { return workers.back() != 0; }

  void Encode(ByteWriter& out) const;
  // Nothing unless the bytes are what Encode writes for some map over [0, total).
  static std::optional<FailureMap> Decode(ByteReader& in, uint64_t total);

  bool operator==(const FailureMap&) const = default;

 private:
  using Intervals = std::map<uint64_t, Workers>;  // by first position; equal neighbours are merged

  void SplitAt(uint64_t position);
  void MergeAt(uint64_t position);
  uint64_t EndOf(Intervals::const_iterator it) const;

  uint64_t total_;
  Intervals intervals_;
};

}  // namespace longhaul
