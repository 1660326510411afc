// Both cores in one thread, wired by a queue of messages: no sockets, no threads, a clock that the
// test moves. Trainer and reducer are answered at once with made-up results. Whoever runs it
// decides what is lost, killed and restarted.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"
#include "worker/core/worker.h"

namespace longhaul {

class CoreWorld {
 public:
  explicit CoreWorld(const RunConfig& config, uint64_t positions = 1'000'000);

  // A new worker process; `key` names its owner (the same key twice: two processes of one owner).
  int AddWorker(uint8_t key);
  void KillWorker(int worker);  // its session falls silent
  void LeaveWorker(int worker, bool hand_in = false);
  void Silence(std::vector<int> workers);  // the shell finds all these silent now
  // The coordinator's process dies and comes back from its journal.
  void RestartCoordinator();
  // Delivers and ticks until `version` of every fragment is committed; nobody trains beyond it.
  // Gives up after max_ticks.
  void RunUntil(uint64_t version, int max_ticks = 1000);
  void Tick(Duration step);
  void Deliver();

  const State& state() const { return coordinator_->state(); }
  uint64_t version() const { return state().lowest_version().value; }
  std::string WaitingFor() const { return coordinator_->WaitingFor(); }
  Timestamp now() const { return now_; }
  // As the shell would call it; the effects are carried out.
  Effects Feed(EventBody body);
  const Worker& worker(int i) const { return *workers_.at(i).core; }
  const std::optional<ExitWorker>& exit_of(int i) const { return workers_.at(i).exit; }
  const std::vector<std::string>& journal() const { return journal_; }
  std::vector<std::string> JournalText() const;
  std::vector<Record> Records() const;

  // Switches for tests.
  std::function<bool(int worker)> may_step = [](int) { return true; };
  // False: nothing that this worker's trainer or fetching does is answered.
  std::function<bool(int worker)> may_answer = [](int) { return true; };
  std::function<double(int worker)> loss = [](int) { return 1.0; };
  bool reducer_works = true;
  bool reducer_closes = true;  // false: it holds, but never adds up
  // What was trained and committed on each fragment: position -> how often.
  std::map<FragmentId, std::map<uint64_t, int>> committed;
  // Steps of every included contribution, in commit order.
  std::vector<uint64_t> included_steps;

 private:
  struct WorkerProcess {
    WorkerKey key;
    std::unique_ptr<Worker> core;
    bool alive = true;
    std::optional<ExitWorker> exit;
    std::vector<FragmentState> stated;
    std::deque<WorkerEvent> answers;
  };

  void FeedWorker(int i, const WorkerEvent& event);
  void Receive(int i, const Message& message);
  void Answer(int i, const WorkerRequest& request);
  void Do(const Request& request);
  // As a reducer of slices that has all it needs would.
  void FollowOrders(SessionId reducer, const std::vector<SliceOrder>& orders);
  void CountCommitted(FragmentId fragment);
  void SendTo(int i, const Message& message);
  int WorkerOf(SessionId session) const;
  static Digest HashOf(FragmentId fragment, Version version);
  static ObjectInfo Snapshot(const Generation& g, FragmentId fragment, Version v);

  RunConfig config_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::string> journal_;
  std::vector<WorkerProcess> workers_;
  std::deque<std::function<void()>> queue_;
  Timestamp now_;
  uint64_t sequence_ = 0;
  uint64_t step_limit_ = UINT64_MAX;
  uint64_t next_process_ = 1;
  std::map<ContributionId, std::vector<LeaseRange>> leases_of_;
  std::map<ContributionId, uint64_t> steps_of_;
  std::map<FragmentId, std::vector<ContributionId>> included_;  // in the newest attempt
};

RunConfig SmallConfig(uint32_t fragments = 1);

}  // namespace longhaul
