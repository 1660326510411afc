// Commands for the worker's core, one event each, and its effects as text.
//
//   worker inner_steps=2 fragments=1 ...    a new process (the first command)
//   connected      tick      leave [hand-in]
//   welcome s5 [generation N]    refuse CODE WHY (PROTOCOL.md has the codes)
//   assign CHANGE; CHANGE; ...   the next Assignment: the last one with these changes
//     waiting | running | finished | stopped     the phase
//     round 1 f0 steps 2       opened, from the current version; close f0: a round is closed
//     decide f0 round 1 [included s5/1] [dropped s5/1]      the outcomes
//     commit f0 [vN] round 1 [included s5/1]     one version more, and the outcome
//     forget f0 v2             commits up to it are not kept; the snapshot is at it
//     lease 1 0-8 | unlease 1              by fence
//     evaluate 1 v0 | unask 1              requests
//   again          the same Assignment, as it was sent: it was overtaken on its way
// Answers to what the core asked for last:
//   data    fetched    gone    loaded [wrong]    applied [wrong]    stepped [nan]
//   coded [empty]      done    answered
// A question: state.
#pragma once

#include <memory>
#include <string>

#include "tests/transcript.h"
#include "worker/core/worker.h"

namespace longhaul {

class WorkerScript {
 public:
  Lines Run(const std::string& command);

 private:
  using Command = void (WorkerScript::*)(Words&);
  static Command Find(const std::string& name);

  void Begin(Words& w);
  void Connected(Words& w);
  void Tick(Words& w);
  void LeaveRun(Words& w);
  void WelcomeTo(Words& w);
  void Refuse(Words& w);
  void Assign(Words& w);
  void Again(Words& w);
  void Data(Words& w);
  void Fetched(Words& w);
  void Gone(Words& w);
  void Loaded(Words& w);
  void Applied(Words& w);
  void Stepped(Words& w);
  void Coded(Words& w);
  void Done(Words& w);
  void Answered(Words& w);
  void ShowState(Words& w);

  void Change(Words& w);
  void ChangeRound(Words& w);
  void ChangeCommit(Words& w);
  void ChangeLease(Words& w);
  OutcomeView& Outcome(FragmentId fragment, Words& w);
  void Include(FragmentId fragment, Words& w);

  // Takes the oldest request of this kind that was not answered.
  template <class T>
  std::optional<T> Asked(Words& w);
  void Receive(const Words& w, const Message& message, uint64_t sequence);
  void Receive(const Words& w, const Message& message) { Receive(w, message, ++sequence_); }
  void Feed(const Words& w, const WorkerEvent& event);

  RunConfig config_;
  std::unique_ptr<Worker> core_;
  Generation generation_{1, 42};
  uint64_t sequence_ = 0;
  Assignment assignment_;
  std::vector<WorkerRequest> asked_;
  Lines out_;
};

}  // namespace longhaul
