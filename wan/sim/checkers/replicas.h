// Replica equality and one committed state per version: whoever holds version v of a fragment in
// one generation holds the same state, and it is the committed one; versions grow by one, round
// numbers are never used again, not even after a roll-back.
#pragma once

#include <map>
#include <tuple>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class Replicas : public Watcher {
 public:
  const char* name() const override { return "replicas"; }
  void OnRecord(const Record& record, const State& after) override;
  void OnReplica(size_t process, const Generation& generation, const FragmentState& state) override;
  void OnReducer(const ReducerView& view, bool residual_reset) override;
  uint64_t commits() const { return commits_; }

 private:
  using Key = std::tuple<Generation, FragmentId, Version>;
  void Agree(const Key& key, const Digest& hash, const std::string& who);
  void Start(const Generation& generation, const std::vector<ObjectInfo>& snapshots);
  void OnCommit(const CommitView& commit);

  Generation generation_;
  std::map<Key, Digest> states_;
  std::map<FragmentId, Version> newest_;
  RoundId last_round_;
  uint64_t commits_ = 0;
};

}  // namespace longhaul::sim
