// The control messages as plain structs. proto/codec.h turns an Envelope into Protobuf bytes and
// back; nobody else sees Protobuf. docs/PROTOCOL.md explains who sends what and when.
//
// Control is level-triggered: a worker's Heartbeat states what it has, the coordinator's Assignment
// states all that this worker should have now. Either may be lost, repeated or overtaken; the next
// one repairs it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/time.h"
#include "proto/run_config.h"

namespace longhaul {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint64_t kMaxControlBytes = 64 * 1024;
inline constexpr uint32_t kMaxLeasesPerMessage = 256;
inline constexpr uint32_t kMaxCommitsPerMessage = 64;
inline constexpr uint32_t kMaxRequestsPerMessage = 8;
inline constexpr uint32_t kMaxMissingRuns = 256;
inline constexpr uint32_t kMaxBlobPartBytes = 1024 * 1024;
inline constexpr uint32_t kMaxBlobHolders = 3;  // that one answer names
inline constexpr uint32_t kMaxFragmentsPerMessage = 256;  // every list with one entry per fragment
inline constexpr uint32_t kMaxSlices = 64;                // of one fragment
inline constexpr uint32_t kMaxReduceMembers = 128;        // of a round that workers reduce
inline constexpr uint32_t kMaxPeers = 256;
inline constexpr uint32_t kMaxOrders = 64;

// A large object that travels in chunks, named fully. Parts of blobs (FetchBlob) have no ObjectId.
enum class ObjectKind : uint8_t { kContribution = 1, kAggregate = 2, kState = 3, kBlob = 4 };
struct ObjectId {
  ObjectKind kind = ObjectKind::kContribution;
  Generation generation;
  FragmentId fragment;
  Version version;  // contribution: base; aggregate: the version it leads to; state: its version
  ContributionId contribution;  // contributions only
  // The part of it that begins at this chunk of the fragment; how long it is, ObjectInfo says.
  uint32_t first_chunk = 0;
  auto operator<=>(const ObjectId&) const = default;
};
struct ObjectInfo {
  ObjectId id;
  uint32_t chunks = 0;
  uint64_t bytes = 0;  // payload bytes of all chunks
  Digest root{};       // RootDigest over the chunk payloads
  auto operator<=>(const ObjectInfo&) const = default;
};

// One slice of an object: what one reducer handles of it.
struct SlicePart {
  uint32_t chunks = 0;
  uint64_t bytes = 0;
  Digest root{};  // over the slice's chunks
  auto operator<=>(const SlicePart&) const = default;
};

// Sample positions [from, to) held under a fence.
struct LeaseRange {
  Fence fence;
  uint64_t from = 0;
  uint64_t to = 0;
  auto operator<=>(const LeaseRange&) const = default;
};

// ---- worker -> coordinator ----

// First message on a connection made with an invitation's one-off key.
struct Enroll {
  std::string invitation;                    // its id
  WorkerKey key;                             // the CURVE key the worker will use from now on
  std::array<uint8_t, 32> ed25519_public{};  // signs
  std::array<uint8_t, 64> signature{};       // over ("LH-enroll-1", run id, invitation, both keys)
  std::string name;
  auto operator<=>(const Enroll&) const = default;
};

// First message of a connection with the worker's own key; repeated until Welcome or Refused.
struct Hello {
  ProcessId process;
  std::string name;
  std::string software;  // version text
  uint64_t memory_bytes = 0;
  uint32_t threads = 0;
  bool toy = false;        // longhaul-worker-toy
  Digest data_identity{};  // all zero: not known yet
  std::string
      data_origin;  // what the worker holds, for messages ("built-in wheel text, 8,000,000 bytes")
  // Of the worker's own snapshot of an earlier process: its residual accounts for everything up to
  // these contributions, one per fragment (session 0: none was included). Empty: no snapshot.
  Generation saved_generation;
  std::vector<ContributionId> saved_included;
  // host:port where other workers may reach this one; not empty: it offers to reduce.
  std::string peer_address;
  auto operator<=>(const Hello&) const = default;
};

struct FragmentState {
  FragmentId fragment;
  Version version;
  Digest state_hash{};
  auto operator<=>(const FragmentState&) const = default;
};

// How a worker reaches a reducer.
struct PeerLink {
  WorkerKey key;
  bool direct = false;       // no: through the coordinator's port
  uint64_t bytes_per_s = 0;  // what it carries, as the kernel measures; 0: not known
  auto operator<=>(const PeerLink&) const = default;
};

struct Heartbeat {
  std::vector<FragmentState> fragments;  // empty until a state has been loaded
  uint64_t steps = 0;                    // inner steps since this process started
  uint64_t computing_ns = 0;             // time inside inner steps
  uint64_t total_ns = 0;                 // time since the first inner step
  double loss = 0;                       // mean of the latest steps
  uint64_t bytes_sent = 0;               // socket bytes of this process
  uint64_t bytes_received = 0;
  uint64_t up_bytes_per_s = 0;  // what its busiest connection carries, as the kernel measures; 0: ?
  std::vector<PeerLink> links;  // to the reducers that it was told of
  auto operator<=>(const Heartbeat&) const = default;
};

struct ContributionReady {
  ObjectInfo object;
  RoundId round;
  Digest base_hash{};  // state hash of the base version
  std::vector<LeaseRange> leases;
  uint64_t steps = 0;
  double loss = 0;                // mean training loss over these steps
  std::vector<SlicePart> slices;  // as RoundView cuts it; empty: it is not cut
  auto operator<=>(const ContributionReady&) const = default;
};

// A reducer of a slice states what it has of it; repeated with every heartbeat while ordered.
struct SliceReport {
  RoundId round;
  FragmentId fragment;
  uint32_t slice = 0;
  std::vector<ContributionId> held;     // complete
  std::vector<ContributionId> lost;     // cannot be had: the sender is gone, or it is damaged here
  std::vector<ContributionId> refused;  // content that cannot be
  std::string reason;                   // of the refusals
  uint32_t attempt = 0;                 // that `aggregate` is of; 0: none is ready
  ObjectInfo aggregate;                 // the slice of it
  bool failed = false;                  // it cannot reduce this slice
  auto operator<=>(const SliceReport&) const = default;
};

// This worker holds all of an aggregate that is not committed yet; repeated until it is.
struct AggregateHeld {
  ObjectInfo object;
  auto operator<=>(const AggregateHeld&) const = default;
};

struct RequestDone {
  RequestId request;
  double loss = 0;
  uint64_t tokens = 0;
  std::string text;
  std::string error;  // not empty: it could not be done
  auto operator<=>(const RequestDone&) const = default;
};

// A planned leave. The worker repeats it until it hears that its session is over, or a short time
// is over.
struct Leave {
  std::string reason;
  bool hand_in = false;  // not yet: it trains no more, but what it has trained shall be included
  auto operator<=>(const Leave&) const = default;
};

// ---- operator (admin.key) -> coordinator, and the answer ----

struct AdminInvite {
  std::string invitation;  // its id
  WorkerKey one_off_key;
  uint64_t expires_unix_s = 0;
  uint32_t uses = 0;
  auto operator<=>(const AdminInvite&) const = default;
};
struct AdminRevoke {
  std::string invitation;
  auto operator<=>(const AdminRevoke&) const = default;
};
struct AdminDone {
  std::string error;  // empty: it is durable
  auto operator<=>(const AdminDone&) const = default;
};

// ---- both ways ----

// The receiver of a large object asks for chunks. `attempt` is new for every connection; within an
// attempt `granted_bytes` only grows, and the sender may have sent at most that many payload bytes
// since the attempt began.
struct ChunkRun {
  uint32_t first = 0;
  uint32_t count = 0;
  auto operator<=>(const ChunkRun&) const = default;
};
struct Fetch {
  ObjectId object;
  uint64_t attempt = 0;
  std::vector<ChunkRun> missing;  // read only when the attempt is new; increasing, not overlapping
  uint64_t granted_bytes = 0;
  auto operator<=>(const Fetch&) const = default;
};
// The sender does not have this object (any more).
struct FetchRefused {
  ObjectId object;
  std::string reason;
  auto operator<=>(const FetchRefused&) const = default;
};

// ---- training data: worker -> coordinator or another worker, and the answer ----

// Bytes of a shard, or of the manifest (by its id). Comes as one chunk of kind kBlob with this
// `transfer`, as BlobRefused or as BlobElsewhere. What was lost is asked for again.
struct FetchBlob {
  uint64_t transfer = 0;  // new for every part that a process asks for
  Digest blob_id{};
  uint64_t offset = 0;
  uint32_t bytes = 0;   // 1 to kMaxBlobPartBytes
  bool urgent = false;  // training waits for it; the rest gives way to the exchange of the model
  bool direct = false;  // bytes, not a BlobElsewhere: we do not share, or no holder gave them
  auto operator<=>(const FetchBlob&) const = default;
};
struct BlobRefused {
  uint64_t transfer = 0;
  std::string reason;
  auto operator<=>(const BlobRefused&) const = default;
};

// ---- coordinator -> worker ----

enum class RefusalCode : uint8_t {
  kVersionMismatch = 1,
  kInvitationUnknown = 2,
  kInvitationExpired = 3,
  kInvitationUsedUp = 4,
  kInvitationRevoked = 5,
  kBadSignature = 6,
  kNotEnrolled = 7,
  kSuperseded = 8,  // a newer process has this key: exit, never reconnect
  kFenced = 9,      // this session is over: say Hello again
  kWrongData = 10,  // both identities are in the reason
  kRunOver = 11,
  kFull = 12,
  kWrongGeneration = 13,
};
struct Refused {
  RefusalCode code = RefusalCode::kFenced;
  std::string reason;
  auto operator<=>(const Refused&) const = default;
};

struct Enrolled {
  auto operator<=>(const Enrolled&) const = default;
};

struct Welcome {
  SessionId session;
  ProcessId process;  // whom this answers
  RunConfig config;
  Digest data_identity{};
  uint64_t parameters = 0;  // of the whole model
  Duration heartbeat_every{0};
  Duration silence_limit{0};   // after this long without our answer, reconnect
  bool keep_residual = false;  // the snapshot that Hello named is still right
  Digest manifest_id{};        // of the data; all zero: the run has no manifest
  uint64_t manifest_bytes = 0;
  auto operator<=>(const Welcome&) const = default;
};

struct RoundView {
  RoundId round;
  FragmentId fragment;
  Version base;
  uint64_t own_steps =
      0;  // send a contribution when this many steps have been made since the last send
  std::vector<uint32_t> slices;  // chunks of each, in order; empty: it is not cut
  auto operator<=>(const RoundView&) const = default;
};

// A committed outer step: all a replica needs besides the aggregate's chunks.
struct CommitView {
  RoundId round;
  uint32_t attempt = 0;
  FragmentId fragment;
  Version version;  // the new one
  ObjectInfo aggregate;
  uint32_t outer_lr_bits = 0;        // float32
  uint32_t outer_momentum_bits = 0;  // float32
  Digest state_hash{};
  auto operator<=>(const CommitView&) const = default;
};

// The decided part of the past, per fragment, as it concerns one worker key.
struct OutcomeView {
  FragmentId fragment;
  RoundId decided;  // every round up to this one is committed or aborted
  ContributionId
      included;  // last included contribution of this key in this generation (session 0: none)
  ContributionId dropped;  // this session's, carried over too often: its progress is void
  auto operator<=>(const OutcomeView&) const = default;
};

enum class RequestKind : uint8_t { kEvaluate = 1, kSample = 2 };
struct WorkRequest {
  RequestId id;
  RequestKind kind = RequestKind::kEvaluate;
  Version version;  // evaluate the global parameters of this version or a later one
  std::string prompt;
  uint32_t tokens = 0;
  auto operator<=>(const WorkRequest&) const = default;
};

// A live session that takes part in reducing: as a reducer, or as one that a reducer deals with.
struct PeerView {
  SessionId session;
  WorkerKey key;
  std::string address;  // of a reducer; "": only to be let in
  auto operator<=>(const PeerView&) const = default;
};

struct SliceContribution {
  ContributionId id;
  uint64_t bytes = 0;  // of the slice
  Digest root{};
  uint32_t weight = 0;
  auto operator<=>(const SliceContribution&) const = default;
};

// What the reducer of a slice shall do now. Replaces every earlier one.
struct SliceOrder {
  RoundId round;
  FragmentId fragment;
  Version base;
  uint32_t slice = 0;
  uint32_t first_chunk = 0;
  uint32_t chunks = 0;
  bool continues = false;  // it has the residual that belongs to `base`; no: from zero
  std::vector<SliceContribution> contributions;
  uint32_t attempt = 0;                  // 0: collecting; otherwise add up these:
  std::vector<ContributionId> included;  // ascending
  uint64_t divisor = 0;                  // sum of their weights
  auto operator<=>(const SliceOrder&) const = default;
};

// An aggregate that reducers serve, committed or about to be.
struct SliceSource {
  SlicePart part;
  WorkerKey reducer;  // zero: the coordinator
  auto operator<=>(const SliceSource&) const = default;
};
struct AggregateView {
  ObjectInfo object;
  std::vector<SliceSource> slices;  // in order
  auto operator<=>(const AggregateView&) const = default;
};

// Other workers have these bytes, or will soon; ask the first, then the next.
struct BlobElsewhere {
  uint64_t transfer = 0;
  std::vector<PeerView> holders;  // 1 to kMaxBlobHolders
  auto operator<=>(const BlobElsewhere&) const = default;
};

enum class Phase : uint8_t { kWaiting = 1, kRunning = 2, kFinished = 3, kStopped = 4, kLeft = 5 };

// All that one session should know now. Replaces every earlier one (Envelope.sequence orders them).
struct Assignment {
  Phase phase = Phase::kWaiting;
  std::string reason;                  // why we wait or stopped, for people
  std::vector<FragmentState> current;  // newest committed version of each fragment
  std::vector<ObjectInfo> snapshots;  // newest stored state objects (kind kState), one per fragment
  std::vector<CommitView>
      commits;  // consecutive versions after what this worker last stated, or after the snapshot
  std::vector<RoundView> rounds;  // open now, own part
  std::vector<OutcomeView> outcomes;
  std::vector<LeaseRange> leases;  // every range this session holds now, in order of position
  std::vector<WorkRequest> requests;
  // Only in a run that workers reduce: whom to know, what to reduce, where aggregates are.
  std::vector<PeerView> peers;
  std::vector<SliceOrder> orders;
  std::vector<AggregateView> aggregates;
  auto operator<=>(const Assignment&) const = default;
};

using Message =
    std::variant<Enroll, Hello, Heartbeat, ContributionReady, RequestDone, Leave, Fetch,
                 FetchRefused, Refused, Enrolled, Welcome, Assignment, AdminInvite, AdminRevoke,
                 AdminDone, FetchBlob, BlobRefused, SliceReport, AggregateHeld, BlobElsewhere>;

struct Envelope {
  uint32_t protocol_version = kProtocolVersion;
  std::string run;  // run id: hex, 16 digits
  Generation generation;
  SessionId session;      // 0 before Welcome
  uint64_t sequence = 0;  // grows per sender and session
  Message body;
};

}  // namespace longhaul
