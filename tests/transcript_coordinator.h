// Commands for the coordinator's core, one event each, and its effects as text.
//
//   run rounds=3 fragments=1 ... samples=100     a new run (the first command)
//   enroll w1        invite i1 uses 1    enroll w1 with i1    revoke i1
//   hello w1 p1 [other-data]             a process of w1's owner says hello
//   join w1 w2 ...   all of them enroll, say hello (as p1, p2, ...), and state the newest versions
//   stated s1 [f0] v0 [v1 ...] [wrong]   which versions it holds: of fragments from f0 on; one
//   alone
//                                        without f0 is of every fragment
//   ready s1 f0 steps 4 [round N] [number N] [base vN] [fence N] [loss X] [bytes N] [generation N]
//                                        trained on the lowest samples that are leased to it
//   held s1/1 f0     refused s1/1 f0 WHY     lost f0 s1/1 ...     prepared f0 [round N] [attempt N]
//   stored           the checkpoint that was cut is durable       roll-back   to that checkpoint
//   done 1           request 1 is answered
//   leave s1 [hand-in]     silent s1 s2 ...     plan s1 8     late s1 ...    tick 5s     restart
// Questions, without effects: assignment s1, coverage, waiting-for, degraded.
#pragma once

#include <memory>
#include <string>

#include "coordinator/core/coordinator.h"
#include "tests/transcript.h"

namespace longhaul {

class CoordinatorScript {
 public:
  Lines Run(const std::string& command);

 private:
  using Command = void (CoordinatorScript::*)(Words&);
  static Command Find(const std::string& name);

  void Begin(Words& w);
  void EnrollWorker(Words& w);
  void Invite(Words& w);
  void Revoke(Words& w);
  void SayHello(Words& w);
  void JoinAll(Words& w);
  void Stated(Words& w);
  void Ready(Words& w);
  void Held(Words& w);
  void RefusedContent(Words& w);
  void Lost(Words& w);
  void Prepared(Words& w);
  void Slice(Words& w);
  void Holds(Words& w);
  void Stored(Words& w);
  void RollBack(Words& w);
  void Done(Words& w);
  void LeaveSession(Words& w);
  void Silent(Words& w);
  void Late(Words& w);
  void Plan(Words& w);
  void Link(Words& w);
  void Tick(Words& w);
  void Restart(Words& w);
  void ShowAssignment(Words& w);
  void ShowCoverage(Words& w);
  void ShowWaiting(Words& w);
  void ShowDegraded(Words& w);

  const State& state() const { return core_->state(); }
  // Nothing is fed when a word was not understood.
  void Feed(const Words& w, EventBody body);
  void Print(const Effects& effects);
  std::vector<LeaseRange> Lowest(SessionId session, FragmentId fragment, uint64_t positions) const;

  RunConfig config_;
  uint64_t samples_ = 0;
  std::unique_ptr<Coordinator> core_;
  std::vector<std::string> journal_;
  Timestamp now_;
  std::optional<Timestamp> wake_;
  std::optional<StoreCheckpoint> cut_;     // asked for, not stored
  std::optional<StoreCheckpoint> stored_;  // the newest one
  Lines out_;
};

}  // namespace longhaul
