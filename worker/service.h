// A worker's shell: connects (and enrolls when its key is not known yet), steps the core, fetches
// objects, sends chunks, and runs the trainer thread. One loop (the caller of Run) owns the core.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "blobs/blob_server.h"
#include "common/bounded_queue.h"
#include "common/time.h"
#include "data/corpus.h"
#include "reducer/parted_fetch.h"
#include "sharding/order/mixed_order.h"
#include "transport/client.h"
#include "transport/credit_windows.h"
#include "transport/invitation.h"
#include "transport/keys.h"
#include "transport/transfer.h"
#include "worker/coordinator_source.h"
#include "worker/core/worker.h"
#include "worker/peers.h"
#include "worker/reducing.h"
#include "worker/samples.h"
#include "worker/source_links.h"
#include "worker/training.h"

namespace longhaul {

inline constexpr size_t kMaxWorkerEvents = 16384;
// How long another worker's request waits for a block that is on its way here.
inline constexpr Duration kHoldRequest = Seconds(4);
inline constexpr size_t kMaxUploads =
    256;  // coded contributions kept; one per fragment is undecided

class WorkerService {
 public:
  struct Options {
    Invitation invitation;
    CurveKeyPair keys;
    SigningKeyPair signing_keys;
    ProcessId process;  // random, drawn once per process
    std::string name;
    uint32_t threads = 1;
    uint64_t memory_bytes = 0;
    uint64_t uplink_bytes_per_s = 0;  // 0: no cap
    // Where residual and inner state are kept for a later process; "": nowhere. One worker's, of
    // one run.
    std::string snapshot_folder;
    // Where other workers may reach this one; "": it offers neither to reduce nor to share training
    // data. Needs snapshot_folder, for what it holds.
    std::string peer_listen;     // address:port
    std::string peer_advertise;  // host:port that others are told; "": from peer_listen
    Duration give_up{0};         // without ever having joined; 0: never
    bool toy = false;
    // Finds the run's data by its identity; null for the toy trainer. On the loop's thread, once.
    // Not for a run with a manifest: its blocks come from `sources`, then from the coordinator, and
    // are kept below `blocks_folder`.
    std::function<absl::StatusOr<std::shared_ptr<const Corpus>>(const RunConfig&,
                                                                const Digest& identity)>
        load_data;
    std::vector<std::shared_ptr<BlobSource>> sources;
    std::string blocks_folder;
    uint64_t blocks_bytes = 0;  // of disk that they may take
    // The order of a run with this manifest; refuses one that the run cannot be trained on.
    std::function<absl::StatusOr<MixedOrder>(const RunConfig&, const Manifest&)> make_order;
    // Makes the trainer for `parameters` parameters. Refuses what does not fit this machine.
    std::function<absl::StatusOr<std::unique_ptr<Trainer>>(const RunConfig&, uint64_t parameters)>
        make_trainer;
    // Which parameters each fragment has.
    std::function<std::vector<FragmentLayout>(const RunConfig&)> make_layout;
    std::function<std::vector<std::vector<TensorSpan>>(const RunConfig&)> make_tensors;
    std::function<void(const std::string&)> say;  // progress for people
  };
  struct Outcome {
    bool success = false;
    std::optional<RefusalCode> refusal;
    std::string reason;
  };

  explicit WorkerService(Options options);
  ~WorkerService();

  // Until the run ends, the coordinator refuses us for good, or `stop` is 1 (what is trained is
  // handed in first, for a minute at most) or more (a clean leave at once).
  // An error status: what was missing here (data, memory, a coordinator that never answered).
  absl::StatusOr<Outcome> Run(const std::atomic<int>& stop);

 private:
  struct Connection {
    bool bulk = false;
    ConnectionEvent event;
  };
  struct Inbox {
    std::vector<Frame> frames;
  };
  struct Answer {
    WorkerEvent event;
    Chunks chunks;
  };
  struct Room {};
  struct FeedReady {
    absl::Status status;
  };
  struct PeerInbox {
    WorkerKey from;
    std::vector<Frame> frames;
  };
  struct PeerConnected {
    WorkerKey peer;
  };
  struct PeerMessage {  // of the reducing thread
    WorkerKey to;
    Message message;
  };
  struct HolderRequest {  // of ours, to another worker
    PeerView holder;
    FetchBlob fetch;
  };
  struct HolderChange {
    WorkerKey holder;
    bool up = false;
  };
  struct DataRequest {  // of another worker
    std::string route;
    Frame envelope;
  };
  struct DataAnswer {  // of the thread that serves blocks
    std::string route;
    Message message;
  };
  struct RouteRoom {
    std::string route;
  };
  struct BlockKept {};
  using Reports = std::vector<SliceReport>;
  using ShellEvent = std::variant<Connection, Inbox, Answer, Room, FetchBlob, FeedReady, PeerInbox,
                                  PeerConnected, PeerMessage, Reports, HolderRequest, HolderChange,
                                  DataRequest, DataAnswer, RouteRoom, BlockKept>;
  struct Upload {
    ObjectId object;
    Chunks chunks;
  };
  // Of an upload, or a slice of it, to one receiver.
  struct Sending {
    Outgoing::Sizes sizes;
    Outgoing outgoing;
    std::optional<Fetch> waiting;  // came before the bulk connection
  };
  using SendingId = std::pair<WorkerKey, ObjectId>;  // zero key: to the coordinator

  absl::Status Connect(bool enrolling);
  absl::StatusOr<std::unique_ptr<DealerClient>> StartClient(bool bulk, const CurveKeyPair& keys,
                                                            const std::string& address);
  void Handle(ShellEvent&& event);
  void OnConnection(const Connection& connection);
  void OnFrames(std::vector<Frame>&& frames);
  void OnChunk(const WorkerKey& from, const std::vector<Frame>& frames);
  void OnMessage(const Envelope& envelope);
  void OnPeer(const WorkerKey& from, std::vector<Frame>&& frames);
  void OnFetch(const WorkerKey& from, const Fetch& fetch);
  void OnRefused(const WorkerKey& from, const ObjectId& object);
  void OnReports(Reports reports);
  void FollowOrders();
  void StartReducing(const LoadData& load);
  bool IsReducer(const WorkerKey& key) const;
  static Timestamp Now();  // monotonic
  void Step(const WorkerEvent& event);
  void Do(const WorkerRequest& request);
  void Load(const LoadData& load);
  absl::Status OpenFeed(const LoadData& load);
  void OnFeedReady(const absl::Status& status);
  bool Shares() const { return !options_.peer_listen.empty(); }
  void StartSharing();
  bool HandleData(ShellEvent& event);  // false: it is of something else
  void OnDataRequest(DataRequest&& request);
  bool OnBlobMessage(const WorkerKey& from, const Message& message);
  void StartTraining(const LoadData& load, const DataLoaded& loaded);
  void StartDownload(const FetchObject& fetch);
  void CheckDownload();
  void Pump(const SendingId& id, Sending& sending);
  bool Send(DealerClient* client, const Message& message);
  bool SendPeer(const WorkerKey& to, const Message& message);
  std::optional<std::vector<Frame>> Encode(const Message& message);
  void SendEnroll();
  Duration BeatEvery() const;
  void SendHeartbeat();
  void Beat();
  void Fail(absl::Status status);

  const Options options_;
  std::optional<WorkerSnapshot> snapshot_;  // of an earlier process
  std::unique_ptr<Worker> core_;
  BoundedQueue<ShellEvent> events_{kMaxWorkerEvents};
  std::shared_ptr<CoordinatorSource> coordinator_blobs_;  // of a run with a manifest
  std::unique_ptr<BlockFeed> feed_;                       // until it is ready
  std::optional<LoadData> loading_;
  std::shared_ptr<Samples> samples_;
  std::unique_ptr<Trainer> trainer_;  // until training starts
  std::unique_ptr<TrainingThread> training_;
  std::unique_ptr<DealerClient> control_;
  std::shared_ptr<DealerClient> bulk_;
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<SourceLinks> sources_;      // holders of blocks
  std::unique_ptr<BlobServer> sharing_;       // null: this worker gives no blocks to others
  std::unique_ptr<Storage> storage_;          // of the slices that it reduces
  std::unique_ptr<ReducingThread> reducing_;  // null: this worker does not reduce
  std::vector<PeerView> known_peers_;
  Reports reports_;
  bool try_again_ = false;  // connect anew with the next heartbeat
  int wrong_server_ = 0;    // handshakes that failed before we joined
  bool bulk_up_ = false;    // its kConnected was seen, and no end since
  bool enrolling_ = false;
  bool switch_key_ = false;  // connect again with the other key
  size_t address_ = 0;
  uint64_t sequence_ = 0;
  uint64_t transfers_;  // numbers them; grows over the lives of this worker
  std::optional<PartedFetch> download_;
  CreditWindows credit_{kFetchWindowBytes};
  std::map<FragmentId, Fetched> fetched_;  // what the core has been told is here
  std::map<ContributionId, Upload> uploads_;
  std::map<SendingId, Sending> sendings_;
  std::vector<FragmentLayout> layout_;
  uint32_t codec_up_ = 0;
  Digest manifest_id_{};
  uint64_t manifest_bytes_ = 0;
  std::optional<absl::Status> failure_;
  std::optional<ExitWorker> exit_;
  bool joined_ = false;
  std::string last_problem_;  // of connecting, for people
  std::string said_;
  int64_t last_heard_ns_ = 0;
  uint64_t old_bytes_sent_ = 0;  // of clients that were replaced
  uint64_t old_bytes_received_ = 0;
};

}  // namespace longhaul
