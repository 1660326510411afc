#include "worker/describe.h"

namespace longhaul {
namespace {

std::string Text(FragmentId f) { return "fragment " + std::to_string(f.value); }
std::string Text(const ObjectId& o) {
  return "version " + std::to_string(o.version.value) + " of " + Text(o.fragment);
}

struct Describer {
  std::string operator()(const LoadData&) { return "looks for the data"; }
  std::string operator()(const FetchObject& x) { return "fetches " + Text(x.object.id); }
  std::string operator()(const StopFetching&) { return "stops fetching"; }
  std::string operator()(const LoadState& x) { return "loads " + Text(x.object.id); }
  std::string operator()(const ApplyCommit& x) { return "applies " + Text(x.commit.aggregate.id); }
  std::string operator()(const TrainStep& x) {
    return "trains step " + std::to_string(x.step) + " on " + std::to_string(x.positions.size()) +
           " samples";
  }
  std::string operator()(const CodeContribution& x) {
    return "codes contribution " + Describe(x.id) + " to " + Text(x.fragment);
  }
  std::string operator()(const ResolveContribution& x) {
    static constexpr const char* kNames[] = {"", "included", "not included", "dropped"};
    return "its contribution to " + Text(x.fragment) + " was " +
           kNames[static_cast<int>(x.outcome) % 4];
  }
  std::string operator()(const ResetProgress&) { return "drops its progress"; }
  std::string operator()(const UnloadFragment& x) { return "unloads " + Text(x.fragment); }
  std::string operator()(const SaveSnapshot&) { return "saves its snapshot"; }
  std::string operator()(const LoadSnapshot&) { return "loads its snapshot"; }
  std::string operator()(const RunRequest& x) {
    return x.request.kind == RequestKind::kEvaluate ? "evaluates" : "samples";
  }
  std::string operator()(const ExitWorker& x) { return "ends: " + x.reason; }
};

}  // namespace

std::string Describe(const WorkerRequest& request) { return std::visit(Describer{}, request); }

std::string Describe(const ContributionId& id) {
  return std::to_string(id.session.value) + "/" + std::to_string(id.sequence);
}

}  // namespace longhaul
