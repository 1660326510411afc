#include "wan/sim/checkers/replicas.h"

namespace longhaul::sim {

void Replicas::Agree(const Key& key, const Digest& hash, const std::string& who) {
  const auto [it, is_new] = states_.emplace(key, hash);
  if (is_new || it->second == hash) return;
  Complain(who + " holds another state of version " + std::to_string(std::get<2>(key).value) +
           ": " + ShortHex(hash) + ", committed is " + ShortHex(it->second));
}

void Replicas::OnCommit(const CommitView& commit) {
  ++commits_;
  Version& newest = newest_[commit.fragment];
  if (commit.version != newest.Next())
    Complain("version " + std::to_string(commit.version.value) + " was committed after " +
             std::to_string(newest.value));
  newest = commit.version;
  const Key key{generation_, commit.fragment, commit.version};
  if (states_.contains(key))
    Complain("version " + std::to_string(commit.version.value) + " was committed twice");
  states_[key] = commit.state_hash;
}

void Replicas::Start(const Generation& generation, const std::vector<ObjectInfo>& snapshots) {
  generation_ = generation;
  for (const ObjectInfo& snapshot : snapshots) {
    newest_[snapshot.id.fragment] = snapshot.id.version;
    Agree({generation, snapshot.id.fragment, snapshot.id.version}, snapshot.root, "the snapshot");
  }
}

void Replicas::OnRecord(const Record& record, const State&) {
  if (const auto* r = std::get_if<RunStarted>(&record.body)) {
    Start(r->generation, r->snapshots);
  } else if (const auto* r = std::get_if<GenerationStarted>(&record.body)) {
    if (r->generation.counter <= generation_.counter) Complain("a generation number came again");
    Start(r->generation, r->snapshots);
  } else if (const auto* r = std::get_if<RoundOpened>(&record.body)) {
    if (r->round <= last_round_)
      Complain("round number " + std::to_string(r->round.value) + " was used again");
    last_round_ = r->round;
  } else if (const auto* r = std::get_if<RoundCommitted>(&record.body)) {
    OnCommit(r->commit);
  } else if (const auto* r = std::get_if<CheckpointStored>(&record.body)) {
    for (const ObjectInfo& o : r->snapshots)
      Agree({generation_, o.id.fragment, o.id.version}, o.root, "the checkpoint");
  }
}

void Replicas::OnReplica(size_t process, const Generation& generation, const FragmentState& state) {
  const Key key{generation, state.fragment, state.version};
  if (!states_.contains(key))
    return Complain("process " + std::to_string(process) + " holds version " +
                    std::to_string(state.version.value) + ", which was never committed");
  Agree(key, state.state_hash, "process " + std::to_string(process));
}

void Replicas::OnReducer(const ReducerView& view, bool) {
  const Key key{view.generation, view.fragment, view.version};
  Agree(key, view.hash, "the reducer");
}

}  // namespace longhaul::sim
