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
// Arithmetic in double, independent of the code that it checks.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class Provenance : public Watcher {
 public:
  Provenance(const RunConfig& config, uint64_t elements);
  const char* name() const override { return "provenance"; }
  void OnRecord(const Record& record, const State& after) override;
  void OnCoded(size_t process, const ObjectInfo& object,
               const std::vector<std::string>& chunks) override;
  void OnResidualLost(size_t process) override;
  void OnPrepared(const ObjectInfo& aggregate, const std::vector<std::string>& chunks) override;
  void OnReducer(const ReducerView& view, bool residual_reset) override;

  uint64_t committed_positions() const { return times_.size(); }
  uint64_t twice() const { return twice_; }

 private:
  using Values = std::vector<double>;
  struct Coded {
    size_t process = 0;
    Generation generation;
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
  struct Model {  // after a version
    Values parameters;
    Values momentum;
    Values residual;  // of the reducer
  };

  void Commit(const CommitView& commit);
  void CheckContribution(const Claim& claim, const Coded& coded);
  void CheckAggregate(const CommitView& commit, const Values& mean);
  // |got - wanted| within the rounding of the codec.
  bool Close(const Values& wanted, const std::vector<float>& got, const std::string& codec,
             double slack) const;

  const RunConfig config_;
  const uint64_t elements_;
  Generation generation_;
  std::map<Digest, Coded> coded_;           // by root
  std::map<size_t, Owed> owed_;             // e, by process
  std::map<ContributionId, Claim> claims_;  // to the open round
  std::vector<ContributionId> included_;
  uint64_t divisor_ = 0;
  std::map<Digest, std::vector<float>> aggregates_;  // decoded, by root
  std::map<Version, Model> models_;
  Version version_;
  std::map<uint64_t, Version> times_;  // committed position -> version that it came with
  uint64_t twice_ = 0;
};

}  // namespace longhaul::sim
