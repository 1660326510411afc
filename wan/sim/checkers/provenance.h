// Provenance and residual accounting: which sample positions are in the committed model, and how
// often.
//
// The closed-form trainer moves known elements for each position, so a contribution's values are
// known beforehand: βe − Σ moves(p) over the positions p that it claims, where e is what coding
// dropped from the contributions of this process that were included so far. For every included
// contribution the bytes that the worker coded must be that, within the codec's rounding; the
// aggregate must be the weighted mean of the included ones and what the reducer still owed; the
// model must be the outer steps over these aggregates. Then the committed model's positions are
// those claimed, and every one must be there once.
//
// A round that workers reduce owes what the reducer of that slice owed, or nothing.
//
// Arithmetic in double, independent of the code that it checks.
#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "sync/fragments.h"
#include "wan/sim/watcher.h"

namespace longhaul::sim {

class Provenance : public Watcher {
 public:
  Provenance(const RunConfig& config, const std::vector<FragmentLayout>& layout);
  const char* name() const override { return "provenance"; }
  void OnRecord(const Record& record, const State& after) override;
  void OnCoded(size_t process, const ObjectInfo& object,
               const std::vector<std::string>& chunks) override;
  void OnResidualSaved(size_t process) override;
  void OnResidualLoaded(size_t process, size_t saved_by) override;
  void OnResidualLost(size_t process) override;
  void OnPrepared(const ObjectInfo& aggregate, const std::vector<std::string>& chunks) override;
  void OnReducer(const ReducerView& view, bool residual_reset) override;

  // Different positions in the committed model.
  uint64_t committed_positions(FragmentId fragment) const;
  uint64_t twice() const { return twice_; }

 private:
  using Values = std::vector<double>;
  struct Coded {
    size_t process = 0;
    ObjectId id;
    std::vector<float> decoded;
  };
  struct Claim {
    Digest root{};
    std::vector<LeaseRange> leases;
    uint32_t weight = 0;
  };
  struct Owed {
    Generation generation;
    Values values;
  };
  // A residual on a worker's own disk. It may be used by one process at a time, and only as long as
  // nothing that was sent after it is included.
  struct Saved {
    std::map<FragmentId, Owed> owed;
    size_t owner = 0;
    bool spent = false;
  };
  // A state of one fragment that was reached, and how. Roll-backs make a tree of them.
  struct Model {
    Version version;
    Digest before{};
    std::vector<uint64_t> positions;  // that came with it
    Values parameters;                // empty: not seen yet
    Values momentum;
    Values residual;        // of the reducer
    Values slice_residual;  // of the worker that reduced it; empty: there was none
  };
  struct Part {  // of one fragment
    uint64_t elements = 0;
    std::map<ContributionId, Claim> claims;  // to the open round
    std::vector<ContributionId> included;
    uint64_t divisor = 0;
    bool by_worker = false;  // the open round: reduced in one slice, because models are tiny
    bool continues = false;  // with the residual that this worker has
    std::map<Digest, std::vector<float>> aggregates;  // decoded, by root
    std::map<Digest, Model> models;                   // by state hash
    Digest now{};                                     // the committed one
    std::set<uint64_t> positions;                     // in it
  };

  Part& Of(FragmentId fragment) { return parts_.at(fragment.value); }
  void GoBack(const ObjectInfo& snapshot);
  void Commit(const CommitView& commit);
  void Spend(size_t process);
  void CheckContribution(const CommitView& commit, const Claim& claim, const Coded& coded);
  void CheckAggregate(const CommitView& commit, const Values& mean, Model& next);

  const RunConfig config_;
  std::vector<Part> parts_;                             // by fragment
  std::map<Digest, Coded> coded_;                       // by root
  std::map<std::pair<size_t, FragmentId>, Owed> owed_;  // e, by process and fragment
  std::map<size_t, Saved> saved_;                       // by the process that stored it
  std::map<size_t, size_t> saved_by_;                   // process -> whose it has
  uint64_t twice_ = 0;
};

}  // namespace longhaul::sim
