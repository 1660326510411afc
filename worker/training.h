// The trainer thread: runs the worker core's trainer jobs one after the other on the trainer and
// the replica, and posts each answer back.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/bounded_queue.h"
#include "worker/core/worker.h"
#include "worker/replica.h"
#include "worker/samples.h"
#include "worker/snapshot.h"
#include "worker/trainer.h"

namespace longhaul {

inline constexpr size_t kMaxTrainerJobs = 64;          // the core starts a handful at most
inline constexpr uint64_t kMaxEvaluationSamples = 32;  // of the validation split, from its start

class TrainingThread {
 public:
  struct Options {
    RunConfig config;
    std::unique_ptr<Trainer> trainer;
    std::shared_ptr<Samples> samples;  // null: the toy trainer, which needs none
    std::vector<FragmentLayout> layout;
    std::vector<std::vector<TensorSpan>> tensors;  // of each fragment
    std::string snapshot_folder;             // of this worker's own snapshot; "": none is kept
    std::optional<WorkerSnapshot> snapshot;  // that an earlier process left
  };
  // An answer for the core; `chunks` with ContributionCoded only. Called on the trainer thread.
  using Post = std::function<void(WorkerEvent, Chunks)>;

  TrainingThread(Options options, Post post);
  ~TrainingThread();  // finishes the job in hand

  // `fetched`: what a LoadState or ApplyCommit job needs; the job may empty it.
  void Start(WorkerRequest job, Fetched fetched);

  // For heartbeats; any thread.
  struct Progress {
    uint64_t steps = 0;
    uint64_t computing_ns = 0;
    uint64_t total_ns = 0;
    double loss = 0;
  };
  Progress progress() const;

 private:
  struct Job {
    WorkerRequest request;
    Fetched fetched;
  };

  void Run();
  void Do(const TrainStep& job, const Fetched& fetched);
  void Do(const CodeContribution& job, const Fetched& fetched);
  void Do(const ApplyCommit& job, const Fetched& fetched);
  void Do(const LoadState& job, const Fetched& fetched);
  void Do(const ResolveContribution& job, const Fetched& fetched);
  void Do(const ResetProgress& job, const Fetched& fetched);
  void Do(const UnloadFragment& job, const Fetched& fetched);
  void Do(const SaveSnapshot& job, const Fetched& fetched);
  void Do(const LoadSnapshot& job, const Fetched& fetched);
  void Do(const RunRequest& job, const Fetched& fetched);
  template <class T>
  void Do(const T&, const Fetched&) {}  // not a trainer job
  absl::StatusOr<std::vector<uint16_t>> TokensAt(const std::vector<uint64_t>& positions);
  Replica& Part(FragmentId fragment) { return *replicas_.at(fragment.value); }
  // θ̄ of the whole model; a view where that is possible.
  std::span<const float> Global();
  RequestDone Evaluate(const WorkRequest& request);
  RequestDone Sample(const WorkRequest& request);

  const RunConfig config_;
  const std::unique_ptr<Trainer> trainer_;
  const std::shared_ptr<Samples> samples_;
  const std::vector<FragmentLayout> layout_;
  const std::string snapshot_folder_;
  std::optional<WorkerSnapshot> snapshot_;
  std::vector<std::unique_ptr<Replica>> replicas_;  // by fragment
  std::vector<float> global_;                       // of Global; only with several fragments
  const Post post_;
  BoundedQueue<Job> jobs_{kMaxTrainerJobs};

  std::atomic<uint64_t> steps_{0};
  std::atomic<uint64_t> computing_ns_{0};
  std::atomic<int64_t> first_step_ns_{0};  // monotonic clock; 0: none yet
  std::atomic<int64_t> last_ns_{0};        // end of the last job
  std::atomic<double> loss_{0};
  std::thread thread_;
};

}  // namespace longhaul
