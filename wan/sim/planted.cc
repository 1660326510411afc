#include "wan/sim/planted.h"

#include <algorithm>
#include <array>

namespace longhaul::sim {
namespace {

constexpr std::array<std::string_view, kPlantedBugs> kNames = {
    "none",
    "canary",
    "said_before_sync",
    "include_list_not_journaled",
    "stale_base_accepted",
    "fence_check_skipped",
    "held_too_early",
    "residual_kept_over_roll_back",
    "void_progress_sent",
    "included_taken_for_excluded",
    "excluded_taken_for_included",
    "folder_not_synced",
    "file_not_synced",
};

// Takes what is not held out of the claim, so that the rest is accepted.
void KeepWhatIsHeld(const State& state, SessionId session, ContributionReady& ready) {
  const uint64_t positions = [&] {
    uint64_t n = 0;
    for (const LeaseRange& l : ready.leases) n += l.to - l.from;
    return n;
  }();
  if (ready.steps == 0 || positions % ready.steps != 0) return;
  const uint64_t per_step = positions / ready.steps;
  const FragmentId fragment = ready.object.id.fragment;
  uint64_t kept = 0;
  std::erase_if(ready.leases, [&](const LeaseRange& l) {
    const bool held = state.leases.Holds(fragment, session, l.fence, l.from, l.to);
    kept += held ? l.to - l.from : 0;
    return !held;
  });
  ready.steps = kept / per_step;
}

class LazyFile : public AppendFile {
 public:
  explicit LazyFile(std::unique_ptr<AppendFile> file) : file_(std::move(file)) {}
  absl::Status Append(ByteSpan bytes) override { return file_->Append(bytes); }
  absl::Status Sync() override { return absl::OkStatus(); }

 private:
  std::unique_ptr<AppendFile> file_;
};

class LazyStorage : public Storage {
 public:
  LazyStorage(PlantedBug bug, Storage& disk) : bug_(bug), disk_(disk) {}

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path,
                                                         bool truncate) override {
    auto file = disk_.OpenAppend(path, truncate);
    if (!file.ok() || bug_ != PlantedBug::kFileNotSynced) return file;
    return std::unique_ptr<AppendFile>(std::make_unique<LazyFile>(std::move(*file)));
  }
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t offset,
                                   uint64_t size) override {
    return disk_.Read(path, offset, size);
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override { return disk_.Size(path); }
  bool Exists(const std::string& path) override { return disk_.Exists(path); }
  std::vector<std::string> List(const std::string& folder) override { return disk_.List(folder); }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return disk_.Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override { return disk_.Remove(path); }
  absl::Status MakeFolder(const std::string& folder) override { return disk_.MakeFolder(folder); }
  absl::Status SyncFolder(const std::string& folder) override {
    return bug_ == PlantedBug::kFolderNotSynced ? absl::OkStatus() : disk_.SyncFolder(folder);
  }

 private:
  const PlantedBug bug_;
  Storage& disk_;
};

}  // namespace

std::string_view PlantedName(PlantedBug bug) { return kNames[static_cast<size_t>(bug)]; }

void PlantInEvent(PlantedBug bug, const State& state, EventBody& event) {
  auto* contribution = std::get_if<ContributionEvent>(&event);
  if (!contribution) return;
  ContributionReady& ready = contribution->ready;
  const FragmentId fragment = ready.object.id.fragment;
  if (fragment.value >= state.fragments.size()) return;
  const Fragment& f = state.fragment(fragment);
  if (bug == PlantedBug::kStaleBaseAccepted && f.round) {
    ready.base_hash = f.state_hash;
    ready.object.id.version = f.version;
    ready.round = f.round->id;
  }
  if (bug == PlantedBug::kFenceCheckSkipped) KeepWhatIsHeld(state, contribution->session, ready);
}

void PlantInRecords(PlantedBug bug, std::vector<Record>& records) {
  if (bug != PlantedBug::kIncludeListNotJournaled) return;
  std::erase_if(records,
                [](const Record& r) { return std::holds_alternative<RoundClosed>(r.body); });
}

void PlantInJob(PlantedBug bug, WorkerRequest& job) {
  if (auto* reset = std::get_if<ResetProgress>(&job)) {
    if (bug == PlantedBug::kResidualKept) reset->residual = false;
    if (bug == PlantedBug::kVoidProgressSent && !reset->residual)
      job = ResolveContribution{FragmentId{0}, Outcome::kNotIncluded};
  } else if (auto* resolve = std::get_if<ResolveContribution>(&job)) {
    if (bug == PlantedBug::kIncludedTakenForExcluded && resolve->outcome == Outcome::kIncluded)
      resolve->outcome = Outcome::kNotIncluded;
    if (bug == PlantedBug::kExcludedTakenForIncluded && resolve->outcome == Outcome::kNotIncluded)
      resolve->outcome = Outcome::kIncluded;
  }
}

std::unique_ptr<Storage> PlantInStorage(PlantedBug bug, Storage& disk) {
  return std::make_unique<LazyStorage>(bug, disk);
}

}  // namespace longhaul::sim
