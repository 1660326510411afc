// longhaul pcn relay: the coordinator of a network cut in blocks over machines.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_pcn.h"
#include "cli/exit_codes.h"
#include "cli/invitation_text.h"
#include "cli/signals.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/relay_coordinator.h"

namespace longhaul {
namespace {

struct Arguments {
  RelayCoordinatorOptions options;
  std::string codec = "float32";
  std::string json;
  std::vector<std::string> block_runs;  // files with invitations
  double lease_s = 3;
};

absl::Status ReadBlockRuns(Arguments& args) {
  for (const std::string& file : args.block_runs) {
    ASSIGN_OR_RETURN(const Invitation invitation, ReadInvitation("@" + file));
    ASSIGN_OR_RETURN(std::string text, EncodeInvitation(invitation));
    args.options.plan.block_runs.push_back(std::move(text));
  }
  return absl::OkStatus();
}

nlohmann::json ToJson(const pcn::StageBeat& s) {
  nlohmann::json discarded;
  for (size_t i = 0; i < pcn::kDiscards; ++i) {
    discarded[pcn::DiscardName(static_cast<pcn::Discard>(i))] = s.discarded[i];
  }
  const double busy = s.span_ns == 0 ? 0 : static_cast<double>(s.busy_ns) / s.span_ns;
  return {{"epoch", s.epoch},
          {"updates", s.version},
          {"accepted", s.accepted},
          {"trained", s.trained},
          {"open", s.open},
          {"discarded", discarded},
          {"gap_median", s.gap_median},
          {"gap_p95", s.gap_p95},
          {"fenced", s.fenced},
          {"resends", s.resends},
          {"bytes_up", s.bytes_up},
          {"bytes_down", s.bytes_down},
          {"utilisation", busy},
          {"seconds", static_cast<double>(s.span_ns) * 1e-9},
          {"loss", s.loss},
          {"parameters", ToHex(s.parameters)}};
}

int Run(Arguments& args) {
  if (const absl::Status status = ReadBlockRuns(args); !status.ok()) {
    LogError("--block-runs: " + std::string(status.message()));
    return ExitCodeFor(status);
  }
  const auto outcome = RunRelayCoordinator(args.options, StopCount());
  if (!outcome.ok()) {
    LogError(std::string(outcome.status().message()));
    return ExitCodeFor(outcome.status());
  }
  std::puts("stage   updates  trained  discarded  gap  utilisation    sent up   sent down");
  nlohmann::json stages = nlohmann::json::array();
  for (size_t k = 0; k < outcome->stages.size(); ++k) {
    const pcn::StageBeat& s = outcome->stages[k];
    uint64_t discarded = 0;
    for (uint64_t n : s.discarded) discarded += n;
    stages.push_back(ToJson(s));
    std::printf(
        "%5zu %9llu %8llu %10llu %4llu %11.1f %% %8.2f MB %8.2f MB\n", k,
        static_cast<unsigned long long>(s.version), static_cast<unsigned long long>(s.trained),
        static_cast<unsigned long long>(discarded), static_cast<unsigned long long>(s.gap_median),
        s.span_ns == 0 ? 0 : 100.0 * static_cast<double>(s.busy_ns) / s.span_ns,
        static_cast<double>(s.bytes_up) * 1e-6, static_cast<double>(s.bytes_down) * 1e-6);
  }
  if (!args.json.empty()) {
    std::ofstream file(args.json);
    file << nlohmann::json{{"complete", outcome->complete},
                           {"seconds", outcome->seconds},
                           {"stages", stages}}
                .dump(2)
         << "\n";
  }
  return outcome->complete ? kExitOk : kExitInterrupted;
}

void AddPlan(CLI::App& app, pcn::RelayPlan& plan) {
  app.add_option("--sizes", plan.sizes, "features of input, hidden layers and output")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--activation", plan.activation, "of the hidden layers")->capture_default_str();
  app.add_option("--stages", plan.stages, "blocks, one per machine")->capture_default_str();
  app.add_option("--first-layers", plan.first_layers,
                 "where the blocks begin, such as 0,2,4,6 (by the stages' speed and memory)")
      ->delimiter(',');
  app.add_option("--rows", plan.rows, "images of a micro-batch")->capture_default_str();
  app.add_option("--micro-batches", plan.micro_batches, "how long")->capture_default_str();
  app.add_option("--learning-rate", plan.learning_rate, "of AdamW")->capture_default_str();
  app.add_option("--weight-decay", plan.weight_decay, "decoupled")->capture_default_str();
  app.add_flag("--synchronous", plan.synchronous, "one micro-batch at a time");
  app.add_option("--full-rate-gap", plan.full_rate_gap, "G of the staleness rule min(1, G / gap)")
      ->capture_default_str();
  app.add_option("--gap-limit", plan.gap_limit, "credits beyond it are dropped")
      ->capture_default_str();
  app.add_option("--max-in-flight", plan.max_in_flight, "micro-batches that wait for credit")
      ->capture_default_str();
  app.add_option("--hop-ms", plan.hop_ms, "95th percentile of a message and a stage's work")
      ->capture_default_str();
  app.add_option("--warm-up", plan.warm_up, "micro-batches that a new holder only predicts")
      ->capture_default_str();
  app.add_option("--snapshot-every", plan.snapshot_every, "updates")->capture_default_str();
  app.add_option("--seed", plan.seed, "of weights and batches")->capture_default_str();
  app.add_option("--fold", plan.fold, "of five, that is not trained on")->capture_default_str();
  app.add_option("--generated-images", plan.generated_images,
                 "0: the IDX digits that the stages have")
      ->capture_default_str();
  app.add_option("--work-unit-ms", plan.work_unit_ms,
                 "a forward pass takes at least so long, a credit three of them: emulates machines")
      ->capture_default_str();
}

}  // namespace

void AddPcnRelay(CLI::App& pcn, Command& command) {
  CLI::App* relay =
      pcn.add_subcommand("relay", "Train a network cut in blocks over machines: coordinator");
  auto args = std::make_shared<Arguments>();
  AddPlan(*relay, args->options.plan);
  relay->add_option("--listen", args->options.listen, "address:port; port 0: any free one")
      ->capture_default_str();
  relay->add_option("--invitation", args->options.invitation_file, "file for the invitation")
      ->required();
  relay->add_option("--codec", args->codec, "of states and credits: float32, bf16 or int8")
      ->capture_default_str();
  relay->add_option("--lease", args->lease_s, "seconds of silence after which a stage is replaced")
      ->check(CLI::Range(1.0, 3600.0))
      ->capture_default_str();
  relay
      ->add_option("--block-runs", args->block_runs,
                   "files with invitations to the runs (train.mode = \"relay\") that average each "
                   "block with its replicas; trains until they are over")
      ->delimiter(',');
  relay->add_option("--json", args->json, "what became of it, as JSON");
  relay->footer(
      "Example:\n  longhaul pcn relay --stages 2 --generated-images 5000 --invitation i.txt\n"
      "  longhaul-worker pcn-stage @i.txt        (twice)");
  relay->callback([args, &command] {
    command.run = [args] {
      StartLogging(LogLevel::kInfo, "pcn-relay", "");
      const auto codec = pcn::ParseRowCodec(args->codec);
      if (!codec) {
        LogError("--codec " + args->codec + ": there are float32, bf16 and int8");
        return static_cast<int>(kExitUsage);
      }
      args->options.plan.codec = *codec;
      args->options.lease = Duration(static_cast<int64_t>(args->lease_s * 1e9));
      args->options.say = [](const std::string& text) { LogInfo(text); };
      return Run(*args);
    };
  });
}

}  // namespace longhaul
