// The coordinator's shell: receives, decodes, steps the core, makes the decisions durable, and only
// then sends and starts what follows from them. One loop (the caller of Run) owns the core; sockets
// and the reducer have threads of their own.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "blobs/blob_directory.h"
#include "blobs/blob_server.h"
#include "common/bounded_queue.h"
#include "coordinator/core/coordinator.h"
#include "coordinator/data_origin.h"
#include "coordinator/http_metrics.h"
#include "coordinator/http_status.h"
#include "coordinator/reducer_thread.h"
#include "coordinator/relay.h"
#include "coordinator/report.h"
#include "coordinator/round_planner.h"
#include "coordinator/run_folder.h"
#include "transport/invitation.h"
#include "transport/server.h"

namespace longhaul {

inline constexpr size_t kMaxShellEvents = 65536;
inline constexpr Duration kTickEvery = Milliseconds(100);
// How long a finished coordinator stays to tell its workers.
inline constexpr Duration kFarewell = Seconds(3);

class CoordinatorService {
 public:
  struct Options {
    RunConfig config;
    std::string folder;
    LlamaShape shape;
    std::vector<FragmentLayout> layout;            // which parameters each fragment has
    std::vector<std::vector<TensorSpan>> tensors;  // of each fragment; empty: matrices
    Digest data_identity{};
    uint64_t positions = 0;
    std::shared_ptr<DataOrigin> data;  // of a run with a manifest; its identity is data_identity
    std::string resume_from;
    Duration worker_wait{0};  // end when no worker has joined after this long; 0: wait for ever
    uint64_t random = 0;      // of the operating system's generator; names a new run or generation
  };
  // What happens, for whoever shows it. All on the loop's thread.
  struct Observer {
    std::function<void(const RoundReport&)> on_round;
    std::function<void(uint64_t version, double loss)> on_evaluation;
    std::function<void(const Record&)> on_record;
  };
  struct Outcome {
    bool finished = false;  // all rounds are done
    RunSummary summary;
  };

  static absl::StatusOr<std::unique_ptr<CoordinatorService>> Start(const Options& options,
                                                                   Observer observer);
  ~CoordinatorService();

  // Until the run is finished, `stop` is not 0, or something makes it impossible to go on.
  absl::StatusOr<Outcome> Run(const std::atomic<int>& stop);

  // Any thread, also before Run.
  absl::StatusOr<std::string> Invite(uint32_t uses, uint64_t expires_unix_s);
  std::string address() const { return server_->address(); }
  const std::string& run_id() const { return run_id_; }
  const StatusBoard& status_board() const { return board_; }
  const Metrics& metrics() const { return metrics_; }

 private:
  struct Peer {  // of a live session
    std::string name;
    std::string route;
    Timestamp last_heard;
    Heartbeat heartbeat;
    std::vector<FragmentState> stated;
    uint64_t bytes_up_at_round = 0;
    uint64_t bytes_down_at_round = 0;
  };
  struct Failure {
    absl::Status status;
  };
  using ShellEvent = std::variant<Inbound, EventBody, Failure>;

  CoordinatorService(Options options, Observer observer);
  absl::Status Open();
  void StartBlobs();
  absl::Status StartServer();
  absl::StatusOr<std::vector<std::unique_ptr<Reducer>>> OpenReducers(const RunStart& start);
  void StartReducers(std::vector<std::unique_ptr<Reducer>> reducers, const CheckpointState& newest);
  void OnMessage(Inbound&& inbound);

  void Handle(ShellEvent&& event);
  void HandleInbound(const Inbound& inbound);
  void HandleEnvelope(const Inbound& inbound, const Envelope& envelope);
  void HandleSession(const Inbound& inbound, const Envelope& envelope);
  void HandleHeartbeat(SessionId session, const Heartbeat& heartbeat);
  void HandleFetchBlob(const Inbound& inbound, const FetchBlob& fetch);
  void NoteOffer(const WorkerKey& key, const std::string& address);
  void AddReaders(std::vector<PeerView>& peers) const;
  void HandleEnroll(const Inbound& inbound, const Enroll& enroll);
  void HandleAdmin(const Inbound& inbound, const Envelope& envelope);
  void HandleHello(const Inbound& inbound, const Hello& hello);
  void CountHashCheck(const std::vector<FragmentState>& before, const FragmentState& stated);
  void Step(EventBody body);
  bool Do(const Request& request);  // false: a queue is full
  bool DoCheckpoint(const StoreCheckpoint& request);
  bool DoExpect(const ExpectContribution& request);
  WorkerRow RowOf(const Session& session, const Peer& peer) const;
  void OnRecord(const Record& record);
  void OnCommitted(const CommitView& commit);
  void TellRelay();
  void TellPlacement(FragmentId fragment);
  std::string PredictedTime() const;
  void MeasureLinks();
  std::string ReducedBy() const;
  void PlanRounds();
  void SendTo(const std::string& route, const Message& message, SessionId session = {});
  void SendAssignment(SessionId session);
  void CheckSilence();
  void PublishStatus();
  uint64_t Tokens() const;  // trained into the committed model
  double ComputingPercent() const;
  Outcome MakeOutcome() const;
  std::vector<std::string> JoinAddresses() const;
  Timestamp Now() const;

  const Options options_;
  const Observer observer_;
  std::string run_id_;  // these two are fixed once the run is open: any thread may read them
  Generation generation_;
  std::unique_ptr<RunFolder> folder_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Coordinator> core_;
  KeyTable key_table_;
  BoundedQueue<ShellEvent> events_{kMaxShellEvents};
  std::unique_ptr<BlobServer> blobs_;  // with a manifest only
  BlobDirectory directory_;
  std::unique_ptr<ReducerThread> reducer_;
  Relay relay_{[this](const std::string& route, std::vector<Frame>&& frames) {
    RouterServer* server = serving_;  // the first messages come before Start has returned
    return server && server->Send(route, std::move(frames));
  }};
  std::atomic<RouterServer*> serving_{nullptr};
  std::unique_ptr<RouterServer> server_;
  StatusBoard board_;
  Metrics metrics_;

  bool restarted_ = false;
  std::atomic<uint64_t> sequence_{0};
  Timestamp epoch_;  // the core's time when this process's clock read zero_ns_
  int64_t zero_ns_ = 0;
  std::map<SessionId, Peer> peers_;
  std::vector<SessionId> late_;              // as the core knows it
  std::map<uint64_t, std::string> replies_;  // of the step in hand: token -> route
  std::optional<absl::Status> failure_;
  std::optional<ShutDown> over_;
  Timestamp over_since_;
  bool anybody_joined_ = false;

  // For reports.
  struct RoundTimes {
    Timestamp opened;
    std::optional<Timestamp> first_ready;
    uint64_t members = 0;
  };
  std::map<FragmentId, RoundTimes> rounds_;
  std::map<FragmentId, std::string> placement_;  // as it was said last
  std::optional<double> predicted_seconds_;      // of the newest round
  std::optional<double> first_loss_;
  double last_loss_ = 0;
  std::optional<double> first_validation_;
  std::optional<double> validation_loss_;
  std::optional<double> new_validation_loss_;  // not shown in a round's line yet
  std::string sample_;
  uint64_t hash_checks_ = 0;
  uint64_t hash_mismatches_ = 0;
  Heartbeat ended_;  // sums over sessions that ended
  uint32_t most_workers_ = 0;
  std::vector<LossPoint> history_;
  std::vector<DomainCoverage> domains_;
  RoundPlanner planner_;
  bool plan_due_ = false;  // who takes part, or what is measured, has changed
  std::optional<RoundReport> last_report_;
};

}  // namespace longhaul
