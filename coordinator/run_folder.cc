#include "coordinator/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "common/log.h"
#include "common/rng.h"
#include "common/status_macros.h"
#include "coordinator/core/coordinator.h"
#include "model/hugging_face.h"
#include "model/parameter_table.h"
#include "proto/chunk.h"
#include "proto/codec.h"
#include "sync/state_hash.h"

namespace longhaul {
namespace {

constexpr char kDamagedSuffix[] = ".damaged";

std::string Hex16(uint64_t value) {
  ByteWriter w;
  w.U64(value);
  return ToHex(AsBytes(w.str()));
}

// What must not change between starts of one run. Addresses and where files are may.
RunConfig Fixed(RunConfig config) {
  config.network = {};
  config.run.output_dir.clear();
  config.run.rounds = 0;
  config.run.min_workers = 0;
  config.run.patience = 0;
  config.checkpoint = {};
  config.data.train.clear();
  config.data.manifest.clear();  // its identity decides
  return config;
}

absl::Status CheckSameRun(const State& state, const RunStartOptions& options) {
  ASSIGN_OR_RETURN(RunConfig before, DecodeRunConfig(AsBytes(state.run_config)));
  if (Fixed(before) != Fixed(options.config)) {
    return absl::InvalidArgumentError(
        "this run folder holds a run with other settings (model, data, train, sync or round). "
        "Use the old settings, another run.output_dir, or --resume with a checkpoint in a new "
        "folder");
  }
  if (state.data_identity != options.data_identity) {
    return absl::InvalidArgumentError("this run trains on data " + ToHex(state.data_identity) +
                                      ", but the data here is " + ToHex(options.data_identity));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> FirstParameters(const RunStartOptions& options) {
  if (options.config.model.init_from.empty()) {
    return InitialParameters(MakeParameterTable(options.shape), options.config.run.seed);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> folder,
                   OpenFileStorage(options.config.model.init_from));
  ASSIGN_OR_RETURN(HuggingFaceModel model, ReadHuggingFace(*folder, ""));
  return std::move(model.parameters);
}

Generation NextGeneration(const State& state, const RunStartOptions& options) {
  return {state.generation.counter + 1, options.random_generation};
}

// Version 0 of a new run, as a checkpoint and the first record.
absl::StatusOr<Record> BeginRun(Storage& storage, const RunStartOptions& options) {
  ASSIGN_OR_RETURN(std::vector<float> parameters, FirstParameters(options));
  const std::vector<float> momentum(parameters.size());
  RunStarted started;
  started.run_id = Hex16(options.random_run);
  started.run_config = EncodeRunConfig(options.config);
  started.generation = {1, options.random_generation};
  started.data_identity = options.data_identity;
  started.positions = options.positions;
  CheckpointState state{.run = started.run_id,
                        .generation = started.generation,
                        .round = 0,
                        .data_identity = options.data_identity,
                        .seed = options.config.run.seed};
  for (uint64_t i = 0; i < options.layout.size(); ++i) {
    const FragmentLayout& layout = options.layout[i];
    const Digest hash = StateHash(PartOf(layout, parameters), PartOf(layout, momentum));
    started.elements.push_back(layout.elements);
    started.snapshots.push_back(
        StateObject(started.generation, FragmentId{i}, Version{0}, layout.elements, hash));
    state.fragments.push_back({Version{0}, hash});
  }
  ByteWriter leases;
  LeaseBook(options.positions, static_cast<uint32_t>(options.layout.size())).Encode(leases);
  CheckpointContents contents{.shape = options.shape,
                              .parameters = parameters,
                              .momentum = momentum,
                              .ledger = leases.str(),
                              .state = state};
  const std::string path = CheckpointFolder(kCheckpoints, 0);
  RETURN_IF_ERROR(storage.Remove(path));  // of a start that did not get as far as the journal
  RETURN_IF_ERROR(WriteCheckpoint(storage, path, contents));
  return Record{Timestamp{}, std::move(started)};
}

CheckpointContents ContentsOf(const Checkpoint& c) {
  return {c.shape, c.parameters, c.momentum, c.residual, c.ledger, c.state};
}

absl::StatusOr<Checkpoint> ReadResumeFrom(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    return absl::InvalidArgumentError("--resume " + path + ": there is no such folder");
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> source, OpenFileStorage(path));
  absl::StatusOr<Checkpoint> checkpoint = ReadCheckpoint(*source, "");
  if (checkpoint.ok()) return checkpoint;
  return absl::DataLossError("--resume " + path + ": " +
                             std::string(checkpoint.status().message()) + "; use an older one");
}

std::vector<ObjectInfo> SnapshotsOf(const CheckpointState& checkpoint, const Generation& generation,
                                    const std::vector<FragmentLayout>& layout) {
  std::vector<ObjectInfo> snapshots;
  for (uint64_t i = 0; i < layout.size(); ++i) {
    const CheckpointFragment& f = checkpoint.fragments.at(i);
    snapshots.push_back(
        StateObject(generation, FragmentId{i}, f.version, layout[i].elements, f.state_hash));
  }
  return snapshots;
}

// A new generation from a checkpoint, ours or another run's. Later checkpoints of this folder are
// void.
absl::StatusOr<Record> BeginGeneration(Storage& storage, const RunStartOptions& options,
                                       const State& state) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, options.resume_path.empty()
                                              ? ReadResumeFrom(options.resume_from)
                                              : ReadCheckpoint(storage, options.resume_path));
  if (checkpoint.shape != options.shape) {
    return absl::InvalidArgumentError(options.resume_from +
                                      " holds another model than run.toml describes");
  }
  if (checkpoint.state.fragments.size() != options.layout.size()) {
    return absl::InvalidArgumentError(
        options.resume_from + " has " + std::to_string(checkpoint.state.fragments.size()) +
        " fragments; set sync.fragments to that, or init a new run from it (model.init_from)");
  }
  ByteReader reader(checkpoint.ledger);
  const std::optional<LeaseBook> leases = LeaseBook::Decode(reader);
  if (!leases || leases->total() != options.positions ||
      leases->fragments() != options.layout.size()) {
    return absl::InvalidArgumentError(options.resume_from + " counts other data than is given now");
  }
  if (checkpoint.state.data_identity != options.data_identity) {
    return absl::InvalidArgumentError(options.resume_from + " was trained on data " +
                                      ToHex(checkpoint.state.data_identity) +
                                      ", but the data here is " + ToHex(options.data_identity));
  }
  const std::string path = FolderOf(checkpoint.state.fragments);
  for (const std::string& other : ListCheckpoints(storage, kCheckpoints)) {
    if (other > path) RETURN_IF_ERROR(storage.Remove(other));
  }
  // One that came back after a loss of power would count as the newest, and be kept for a good one.
  RETURN_IF_ERROR(storage.SyncFolder(kCheckpoints));
  // Another run's checkpoint may have the same number as one of ours.
  absl::StatusOr<Checkpoint> ours = ReadCheckpoint(storage, path);
  if (!ours.ok() || ours->state.fragments != checkpoint.state.fragments) {
    RETURN_IF_ERROR(storage.Remove(path));
    RETURN_IF_ERROR(WriteCheckpoint(storage, path, ContentsOf(checkpoint)));
  }
  RETURN_IF_ERROR(storage.Remove(kReducerFolder));
  const Generation generation = NextGeneration(state, options);
  return Record{
      state.now,
      GenerationStarted{generation, SnapshotsOf(checkpoint.state, generation, options.layout),
                        checkpoint.ledger}};
}

// The kept commits lead from this checkpoint to the current versions.
bool Fits(const CheckpointState& checkpoint, const State& state) {
  if (checkpoint.fragments.size() != state.fragments.size()) return false;
  for (size_t i = 0; i < state.fragments.size(); ++i) {
    const CheckpointFragment& f = checkpoint.fragments[i];
    auto hash = state.fragments[i].hashes.find(f.version);
    if (hash == state.fragments[i].hashes.end() || hash->second != f.state_hash) return false;
  }
  return true;
}

// The newest intact checkpoint from which the kept commits lead to the current version. Damaged
// ones are set aside, so that they count no more as kept.
absl::StatusOr<Checkpoint> FindCheckpoint(Storage& storage, const State& state) {
  std::string problems;
  std::vector<std::string> damaged;
  for (const std::string& path : ListCheckpoints(storage, kCheckpoints)) {
    absl::StatusOr<Checkpoint> checkpoint = ReadCheckpoint(storage, path);
    if (!checkpoint.ok()) {
      problems += "\n  " + std::string(checkpoint.status().message());
      LogWarning("checkpoint passed over: " + std::string(checkpoint.status().message()));
      damaged.push_back(path);
      continue;
    }
    if (!Fits(checkpoint->state, state)) continue;
    for (const std::string& old : damaged) {
      const std::string aside = old + kDamagedSuffix;
      RETURN_IF_ERROR(storage.Remove(aside));
      RETURN_IF_ERROR(storage.Rename(old, aside));
    }
    return checkpoint;
  }
  return absl::DataLossError("no intact checkpoint fits the journal" + problems);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunFolder>> RunFolder::Open(const std::string& path) {
  std::unique_ptr<RunFolder> folder(new RunFolder);
  folder->path_ = path;
  ASSIGN_OR_RETURN(folder->storage_, OpenFileStorage(path));
  folder->lock_ = ::open((path + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (folder->lock_ < 0 || ::flock(folder->lock_, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError("another coordinator is running in " + path +
                                         "; stop it first");
  }
  RETURN_IF_ERROR(folder->storage_->MakeFolder("keys"));
  for (const auto& [name, keys] :
       {std::pair(kServerKey, &folder->keys_), std::pair(kAdminKey, &folder->admin_keys_)}) {
    if (!folder->storage_->Exists(name)) {
      absl::Status made = WriteKeyFile(path + "/" + name, CurveKeyPair::Generate());
      if (!made.ok()) {
        return absl::UnavailableError(std::string(made.message()) +
                                      " (check this disk, then start again)");
      }
    }
    ASSIGN_OR_RETURN(*keys, ReadCurveKeyFile(path + "/" + name));
  }
  return folder;
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

ObjectInfo StateObject(const Generation& generation, FragmentId fragment, Version version,
                       uint64_t elements, const Digest& hash) {
  return {.id = {ObjectKind::kState, generation, fragment, version, {}},
          .chunks = static_cast<uint32_t>((elements + kChunkElements - 1) / kChunkElements),
          .bytes = 2 * sizeof(float) * elements,
          .root = hash};
}

std::vector<float> PartOf(const FragmentLayout& layout, std::span<const float> flat) {
  std::vector<float> part(flat.empty() ? 0 : layout.elements);
  if (!part.empty()) Gather(layout, flat, 0, part);
  return part;
}

std::string FolderOf(const std::vector<CheckpointFragment>& fragments) {
  uint64_t steps = 0;
  for (const CheckpointFragment& f : fragments) steps += f.version.value;
  return CheckpointFolder(kCheckpoints, steps);
}

absl::Status AppendRecords(Journal& journal, const std::vector<Record>& records) {
  for (const Record& record : records) RETURN_IF_ERROR(journal.Append(EncodeRecord(record)));
  return records.empty() ? absl::OkStatus() : journal.Sync();
}

namespace {

// The newest snapshot, and every record since.
absl::StatusOr<State> Replay(const Journal::Opened& opened) {
  State state;
  if (opened.snapshot) {
    std::optional<State> decoded = DecodeState(AsBytes(*opened.snapshot));
    if (!decoded)
      return absl::DataLossError("the snapshot was written by another version of longhaul");
    state = std::move(*decoded);
  }
  for (const std::string& payload : opened.payloads) {
    ASSIGN_OR_RETURN(Record record, DecodeRecord(AsBytes(payload)));
    Coordinator::Apply(state, record);
  }
  return state;
}

}  // namespace

absl::StatusOr<State> ReadRunState(Storage& storage, const JournalOptions& options) {
  ASSIGN_OR_RETURN(const Journal::Opened opened, Journal::Read(storage, options));
  ASSIGN_OR_RETURN(State state, Replay(opened));
  if (!state.started) return absl::NotFoundError("there is no run in this folder");
  return state;
}

absl::StatusOr<RunStart> StartRun(Storage& storage, const RunStartOptions& options) {
  RunStart start;
  ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(storage, options.journal));
  for (const std::string& problem : opened.set_aside) LogWarning(problem);
  start.restarted = !opened.empty();
  if (opened.cut_bytes > 0) {
    LogWarning("the journal ended in " + std::to_string(opened.cut_bytes) +
               " torn bytes, which were cut off");
  }
  ASSIGN_OR_RETURN(start.state, Replay(opened));
  start.journal = std::move(opened.journal);
  if (start.state.started) RETURN_IF_ERROR(CheckSameRun(start.state, options));
  auto append = [&](const Record& record) {
    if (options.on_decision) options.on_decision(start.state, record);
    Coordinator::Apply(start.state, record);
    return AppendRecords(*start.journal, {record});
  };
  if (!start.state.started) {
    ASSIGN_OR_RETURN(Record begin, BeginRun(storage, options));
    RETURN_IF_ERROR(append(begin));
  }
  if (!options.resume_from.empty() || !options.resume_path.empty()) {
    ASSIGN_OR_RETURN(Record begin, BeginGeneration(storage, options, start.state));
    RETURN_IF_ERROR(append(begin));
  }
  ASSIGN_OR_RETURN(start.checkpoint, FindCheckpoint(storage, start.state));
  CheckpointStored found{
      SnapshotsOf(start.checkpoint.state, start.state.generation, options.layout), {}};
  uint64_t steps = 0;
  for (const ObjectInfo& snapshot : found.snapshots) steps += snapshot.id.version.value;
  if (steps != start.state.snapshot_steps()) {
    // The newest one is damaged, or was written just before the end and never journaled. Either way
    // joiners get this one, and the commits since.
    for (const Fragment& f : start.state.fragments) found.oldest_kept.push_back(f.oldest_snapshot);
    RETURN_IF_ERROR(append(Record{start.state.now, std::move(found)}));
  }
  return start;
}

}  // namespace longhaul
