// A run's folder on disk, and how a run starts, starts again, or starts from a checkpoint.
//
//   run.toml  keys/  journal/  checkpoints/  reducer/  events/  endpoint  invitation  lock
//
// One process at a time: the folder is locked while a RunFolder lives.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/storage.h"
#include "coordinator/core/record.h"
#include "coordinator/core/state.h"
#include "coordinator/journal.h"
#include "model/checkpoint.h"
#include "model/llama.h"
#include "proto/run_config.h"
#include "sync/fragments.h"
#include "transport/keys.h"

namespace longhaul {

inline constexpr char kCheckpoints[] = "checkpoints";
inline constexpr char kReducerFolder[] = "reducer";
inline constexpr char kSliceFolder[] = "reducer/slices";  // that no worker takes
inline constexpr char kServerKey[] = "keys/server.key";
inline constexpr char kAdminKey[] = "keys/admin.key";
// One line for commands on the same machine: "host:port run-id addresses".
inline constexpr char kEndpoint[] = "endpoint";

class RunFolder {
 public:
  // Creates what is missing. FailedPrecondition when another process has it.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Open(const std::string& path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  Storage& storage() { return *storage_; }
  const CurveKeyPair& keys() const { return keys_; }
  const CurveKeyPair& admin_keys() const { return admin_keys_; }

 private:
  RunFolder() = default;
  std::string path_;
  int lock_ = -1;
  std::unique_ptr<Storage> storage_;
  CurveKeyPair keys_;
  CurveKeyPair admin_keys_;
};

// The state object of one version: what a joiner fetches; its root is the state hash.
ObjectInfo StateObject(const Generation& generation, FragmentId fragment, Version version,
                       uint64_t elements, const Digest& hash);

// One fragment of a flat vector; nothing of nothing.
std::vector<float> PartOf(const FragmentLayout& layout, std::span<const float> flat);

// A checkpoint's folder in the run folder: numbered by the outer steps in it, of all fragments
// together.
std::string FolderOf(const std::vector<CheckpointFragment>& fragments);

// Everything the coordinator's process starts from.
struct RunStart {
  std::unique_ptr<Journal> journal;
  State state;
  bool restarted = false;  // there was a journal
  Checkpoint checkpoint;   // newest intact one whose version is still covered by the kept commits
};

struct RunStartOptions {
  RunConfig config;
  LlamaShape shape;
  std::vector<FragmentLayout> layout;
  Digest data_identity{};
  uint64_t positions = 0;   // size of the ledger: training samples times data epochs
  std::string resume_from;  // a checkpoint folder anywhere; "" = continue, or begin
  std::string resume_path;  // the same, a path inside the run's storage
  JournalOptions journal;
  uint64_t random_run = 0;  // random numbers, used when a run or a generation begins
  uint64_t random_generation = 0;
  // May be empty. Each record that the start itself decides, before it is journaled, and the state
  // before it.
  std::function<void(const State& before, const Record& record)> on_decision;
};

// InvalidArgument when the journal is of another configuration or data (both are named), DataLoss
// when journal or checkpoints are damaged.
absl::StatusOr<RunStart> StartRun(Storage& storage, const RunStartOptions& options);

// The state of a run that no coordinator has open; nothing is written. NotFound when there is no
// run, DataLoss when the journal is damaged.
absl::StatusOr<State> ReadRunState(Storage& storage, const JournalOptions& options = {});

// Appends and syncs.
absl::Status AppendRecords(Journal& journal, const std::vector<Record>& records);

}  // namespace longhaul
