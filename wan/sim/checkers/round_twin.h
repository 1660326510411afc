// A second, naive model of the rounds' rules: which contribution is taken and which is refused,
// when a round may close or be given up, and with what numbers. It follows the durable records,
// computes with the configuration alone, and must agree with the core on every contribution that is
// announced, on every quorum, weight, grace, deadline, carry bound and contract.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "wan/sim/checkers/ledger_twin.h"
#include "wan/sim/watcher.h"

namespace longhaul::sim {

class RoundTwin : public Watcher {
 public:
  // `ledger` outlives this, and hears of every record before this does.
  RoundTwin(const RunConfig& config, const LedgerTwin& ledger) : config_(config), ledger_(ledger) {}
  const char* name() const override { return "rounds"; }
  void OnEvent(const EventBody& event, const Effects& effects) override;
  void OnRecord(const Record& record, const State& after) override;

 private:
  struct Session {
    WorkerKey key;
    bool ready = false;
    bool finishing = false;
    std::map<FragmentId, uint64_t> last_sequence;
    std::map<FragmentId, uint32_t> carried;  // rounds
  };
  struct Taken {
    ObjectInfo object;
    WorkerKey key;
    uint64_t tokens = 0;
    uint64_t quorum_tokens = 0;
    bool held = false;
    std::set<uint32_t> held_slices;
  };
  struct Round {
    RoundOpened opened;
    Timestamp at;
    Timestamp deadline;
    std::map<SessionId, Taken> taken;
    std::optional<Timestamp> quorum_since;
    std::vector<ContributionId> list;  // empty: collecting
    uint32_t attempt = 0;
    std::vector<uint32_t> slices;   // chunks of each; empty: it is not cut
    std::set<ContributionId> lost;  // as reducers say
    bool IsMember(SessionId session) const;
    bool Lists(const ContributionId& id) const;
    std::set<SessionId> Held() const;
    bool QuorumHeld() const;
  };
  struct Part {  // one fragment
    uint64_t elements = 0;
    Version version;
    Digest state_hash{};
    std::optional<Round> round;
  };
  struct Reader;  // one function per record

  bool Takes(SessionId session, const ContributionReady& ready) const;
  void NoteLost(FragmentId fragment, RoundId id, const std::vector<ContributionId>& lost);
  // The parts of a contribution are cut as the round is, and make up the whole.
  bool IsCutAs(const Part& part, const ContributionReady& ready) const;
  void CheckOpened(const RoundOpened& r);
  void CheckTaken(const ContributionAccepted& r);
  void CheckClosing(const RoundClosed& r, const Round& round, Timestamp now);
  void CheckAborted(const RoundAborted& r, const Round& round, Timestamp now);
  bool NobodyToWaitFor(const Round& round) const;
  bool ContractKept(const Round& round) const;
  void Decide(Part& part, FragmentId fragment, const std::set<ContributionId>& included);

  const RunConfig config_;
  const LedgerTwin& ledger_;
  Generation generation_;
  std::vector<Part> parts_;
  std::map<WorkerKey, std::string> names_;
  std::map<SessionId, Session> sessions_;
  std::set<SessionId> late_;
  bool degraded_ = false;
};

}  // namespace longhaul::sim
