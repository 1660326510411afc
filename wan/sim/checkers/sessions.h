// Who may join and who is sent away: a superseded process never comes back, nobody counts as silent
// who was heard of within the limit (time in which the coordinator was down does not count), and
// many at once only after a freeze.
#pragma once

#include <map>
#include <set>
#include <utility>

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class Sessions : public Watcher {
 public:
  explicit Sessions(const RunConfig& config);
  const char* name() const override { return "sessions"; }
  void OnHeard(SessionId session, Timestamp now) override { heard_[session] = now; }
  void OnRecord(const Record& record, const State& after) override;

 private:
  struct Live {
    WorkerKey key;
    ProcessId process;
  };

  void Ended(const SessionEnded& r, Timestamp now);
  void CheckSilent(SessionId session, Timestamp now);

  const Duration limit_;
  std::map<SessionId, Live> live_;
  std::map<SessionId, Timestamp> heard_;
  std::set<std::pair<WorkerKey, ProcessId>> superseded_;
  Timestamp life_began_;
  Timestamp thawed_;  // when the newest freeze ended; the beginning of time: never
  // The silent ones that were ended at one time.
  Timestamp batch_at_;
  uint64_t batch_of_ = 0;  // sessions that lived when it began
  uint64_t batch_ = 0;
};

}  // namespace longhaul::sim
