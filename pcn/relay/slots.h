// Who holds which block of a Relay run: takes in what stages say and decides when a slot changes
// hands. Pure: the caller brings messages and time.
//
//   - It waits for as many stages as the plan has, puts fast ones below and slow ones on top (what
//     is far from the top sees the longer gaps), and cuts the network by speed and memory.
//   - A holder that is silent for a lease (three heartbeats) has lost its slot. Whoever waits gets
//   the slot,
//     at a higher epoch; without anybody it stays vacant and the others wait behind their limits.
//   - Books of former holders are kept: what was open when one vanished is booked as reset.
//
// Thread rule: one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/time.h"
#include "pcn/relay/control.h"
#include "pcn/relay/cut.h"

namespace longhaul::pcn {

inline constexpr Duration kBeatEvery = Milliseconds(1000);
inline constexpr Duration kLease = 3 * kBeatEvery;

class RelaySlots {
 public:
  explicit RelaySlots(RelayPlan plan, Duration lease = kLease);

  void OnBeat(const WorkerKey& from, const StageBeat& beat, Duration now);
  void OnTick(Duration now);

  const StageTable& table() const { return table_; }
  uint64_t changes() const { return changes_; }  // of the table
  // All holders know that it is over, or are gone.
  bool over() const;
  size_t waiting() const;  // stages without a slot
  // Of slot k: all holders' books, and the rest as the latest holder said.
  StageBeat Summary(size_t k) const;

 private:
  struct Member {
    StageBeat beat;
    Duration heard{0};
    uint64_t joined = 0;  // order
  };
  void Start();
  void FillVacancies();
  void Vacate(size_t k);
  void Advance();
  void Fail(const std::string& problem);
  bool Holds(const WorkerKey& key) const;

  const Duration lease_;
  StageTable table_;
  std::map<WorkerKey, Member> members_;
  std::vector<StageBeat> past_;  // sums of former holders
  uint64_t changes_ = 0, next_ = 0;
};

// Costs of the plan's layers: work in multiply-adds per row, memory with gradient and optimizer.
std::vector<LayerCost> LayerCosts(const RelayPlan& plan);

}  // namespace longhaul::pcn
