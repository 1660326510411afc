#include "cli/run_command.h"

#include <sodium.h>

#include <cstring>
#include <ctime>

#include "cli/config.h"
#include "cli/run_inputs.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/human.h"
#include "coordinator/tensorboard.h"

namespace longhaul {
namespace {

// The ledger's size in data epochs: more than any run makes. Rounds end a run, not data.
constexpr uint64_t kDataEpochs = 1'000'000;
constexpr uint64_t kToyPositions = uint64_t{1} << 40;

double WallSeconds() { return static_cast<double>(std::time(nullptr)); }

absl::Status LoadManifest(const RunConfig& config, CoordinatorService::Options& options) {
  auto data = OpenDataOrigin(config);
  if (!data.ok()) {
    return absl::Status(
        absl::IsInvalidArgument(data.status()) ? absl::StatusCode::kInvalidArgument
                                               : absl::StatusCode::kNotFound,
        "data.manifest = " + config.data.manifest + ": " + std::string(data.status().message()));
  }
  const Manifest& manifest = (*data)->manifest();
  uint64_t samples = 0;
  for (uint32_t d = 0; d < manifest.domains.size(); ++d) {
    samples += manifest.DomainSamples(d) - manifest.domains[d].validation_samples;
  }
  options.data_identity = manifest.Identity();
  options.positions = samples * kDataEpochs;
  LogInfo("data: manifest " + ShortHex((*data)->manifest_id()) + ", " +
          std::to_string(manifest.domains.size()) + " domains, " + std::to_string(samples) +
          " training samples of " + std::to_string(kSampleTokens) + " tokens");
  options.data = std::move(*data);
  return absl::OkStatus();
}

absl::Status LoadData(const RunConfig& config, CoordinatorService::Options& options) {
  if (!config.data.manifest.empty()) return LoadManifest(config, options);
  if (IsToyRun(config) || IsBlockRun(config)) {
    options.positions = kToyPositions;
    return absl::OkStatus();
  }
  auto corpus = Corpus::Open(config.data.train, WheelFolder(), CorpusOptionsOf(config));
  if (!corpus.ok()) {
    return absl::Status(absl::StatusCode::kNotFound,
                        "data.train: " + std::string(corpus.status().message()));
  }
  options.data_identity = corpus->Identity();
  options.positions = corpus->samples() * kDataEpochs;
  LogInfo("data: " + corpus->Describe() + ", " + std::to_string(corpus->samples()) +
          " training samples of " + std::to_string(kSampleTokens) + " tokens");
  return absl::OkStatus();
}

}  // namespace

CoordinatorRun::~CoordinatorRun() = default;

absl::StatusOr<std::unique_ptr<CoordinatorRun>> CoordinatorRun::Start(
    RunConfig config, const std::string& resume_from, Duration worker_wait, const RunView& view) {
  RETURN_IF_ERROR(ResolveModel(config));
  if (config.run.output_dir.empty()) config.run.output_dir = "runs/" + config.run.name;
  std::unique_ptr<CoordinatorRun> run(new CoordinatorRun);
  run->config_ = config;
  run->view_ = view;
  CoordinatorService::Options options{.config = config,
                                      .folder = config.run.output_dir,
                                      .shape = ShapeOf(config),
                                      .layout = LayoutOf(config),
                                      .tensors = TensorsOf(config),
                                      .resume_from = resume_from,
                                      .worker_wait = worker_wait};
  RETURN_IF_ERROR(LoadData(config, options));
  randombytes_buf(&options.random, sizeof options.random);
  CoordinatorService::Observer observer;
  observer.on_round = [r = run.get()](const RoundReport& report) { r->ShowRound(report); };
  observer.on_evaluation = [r = run.get()](uint64_t version, double loss) {
    if (r->events_)
      (void)r->events_->AddScalar("loss/validation", static_cast<int64_t>(version),
                                  static_cast<float>(loss), WallSeconds());
  };
  ASSIGN_OR_RETURN(run->service_, CoordinatorService::Start(options, std::move(observer)));
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> folder, OpenFileStorage(config.run.output_dir));
  ASSIGN_OR_RETURN(run->events_, EventWriter::Create(*folder, "events", WallSeconds()));
  RETURN_IF_ERROR(WriteAtomically(*folder, "run.toml", AsBytes(ResolvedToml(config))));
  if (options.data)
    RETURN_IF_ERROR(WriteAtomically(*folder, kRunManifest, AsBytes(options.data->encoded())));
  if (!config.network.http.empty()) {
    ASSIGN_OR_RETURN(HostPort http, SplitAddress(config.network.http));
    auto server = HttpServer::Start(http.host, http.port, &run->service_->status_board(),
                                    &run->service_->metrics());
    if (!server.ok()) return absl::FailedPreconditionError(server.status().message());
    run->http_ = std::move(*server);
    const std::string address = run->dashboard();
    RETURN_IF_ERROR(WriteAtomically(*folder, "http.address", AsBytes(address)));
  }
  return run;
}

std::string CoordinatorRun::dashboard() const {
  if (!http_) return "";
  return "http://" + SplitAddress(config_.network.http)->host + ":" + std::to_string(http_->port());
}

absl::Status CoordinatorRun::KeepInvitation(const std::string& invitation) {
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> folder, OpenFileStorage(config_.run.output_dir));
  return WriteAtomically(*folder, "invitation", AsBytes(invitation + "\n"));
}

void CoordinatorRun::ShowRound(const RoundReport& report) {
  std::printf("%s\n", (view_.json_lines ? ToJsonLine(report) : FormatRoundLine(report)).c_str());
  std::fflush(stdout);
  const auto step = static_cast<int64_t>(report.round);
  const double now = WallSeconds();
  if (events_) {
    (void)events_->AddScalar("loss/train", step, static_cast<float>(report.loss), now);
    (void)events_->AddScalar("tokens", step, static_cast<float>(report.tokens), now);
    (void)events_->AddScalar("bytes_up_per_worker", step,
                             static_cast<float>(report.bytes_up_per_worker), now);
    (void)events_->AddScalar("computing_percent", step,
                             static_cast<float>(report.computing_percent), now);
  }
  if (on_round) on_round(report);
}

}  // namespace longhaul
