// longhaul doctor: can this machine take part, and if not, what helps?
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/doctor.h"
#include "cli/verdict.h"
#include "common/bytes.h"
#include "proto/codec.h"
#include "transport/invitation.h"
#include "transport/link_probe.h"

namespace longhaul {
namespace {

struct Arguments {
  std::string invitation;
  std::string folder = ".";
  std::string run;
  double step_ms = 0;
  double least_computing = 0;
  bool json = false;
  bool no_training = false;
};

// Connects with the invitation's key, as a joining worker would, and measures.
absl::StatusOr<LinkFacts> Visit(const Invitation& invitation, const std::string& address,
                                Duration timeout) {
  LinkProbeOptions probe;
  probe.client.address = address;
  probe.client.server_key = invitation.server_key;
  probe.client.keys = invitation.one_off_keys();
  probe.connect_timeout = timeout;
  const auto rates = MeasureLink(std::move(probe));
  LinkFacts facts;
  if (!rates.ok()) {
    if (!absl::IsUnavailable(rates.status())) return rates.status();
    facts.problem = std::string(rates.status().message());  // it let us in
    return facts;
  }
  facts.round_trip_ms = rates->round_trip_ms;
  facts.congestion_control = rates->congestion_control;
  facts.up_bytes_per_s = rates->up_bytes_per_s;
  facts.down_bytes_per_s = rates->down_bytes_per_s;
  facts.note = rates->note;
  return facts;
}

// The coordinator's settings, unless a file was given.
absl::StatusOr<RunConfig> SettingsOf(const std::optional<RunConfig>& file, const LinkFacts& link) {
  if (file) return *file;
  if (link.note.empty()) {
    return absl::NotFoundError("the run's settings are not known: --run FILE gives them");
  }
  return DecodeRunConfig(AsBytes(link.note));
}

CheckResult Verdict(const Arguments& args, const std::optional<RunConfig>& file,
                    const LinkFacts& link) {
  const auto unknown = [&](const absl::Status& why) {
    const bool asked = args.least_computing > 0;
    return CheckResult{asked ? CheckLevel::kFail : CheckLevel::kWarn, "computing",
                       std::string(why.message()), ""};
  };
  const auto config = SettingsOf(file, link);
  if (!config.ok()) return unknown(config.status());
  const double step_ms = args.step_ms > 0 ? args.step_ms : config->train.toy_step_ms;
  const auto verdict = JudgeLink(*config, link, step_ms / 1000);
  if (!verdict.ok()) return unknown(verdict.status());
  return DescribeVerdict(*verdict, args.least_computing);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "longhaul: %s\n", std::string(status.message()).c_str());
  return kExitUsage;
}

int Doctor(const Arguments& args, const Command& command) {
  DoctorOptions options;
  options.version = LONGHAUL_VERSION;
  options.program_folder = command.program_folder;
  options.run_folder = args.folder;
  options.training = !args.no_training;
  std::optional<RunConfig> file;
  if (!args.run.empty()) {
    auto loaded = LoadRunConfig(args.run, {CollectEnvironment(command.environment), {}});
    if (!loaded.ok()) return Fail(loaded.status());
    file = std::move(loaded->config);
  }
  if (!args.invitation.empty()) {
    auto invitation = DecodeInvitation(args.invitation);
    if (!invitation.ok()) return Fail(invitation.status());
    const std::string address = invitation->addresses[0];
    options.coordinator = SplitAddress(address).value();
    options.handshake = [invitation = *invitation, address, timeout = options.connect_timeout](
                            const HostPort&) { return Visit(invitation, address, timeout); };
    if (options.training) {
      options.verdict = [&](const LinkFacts& link) { return Verdict(args, file, link); };
    }
  }
  const std::vector<CheckResult> results = RunDoctor(options);
  std::fputs((args.json ? DoctorJson(results) + "\n" : FormatDoctor(results)).c_str(), stdout);
  return DoctorExitCode(results);
}

}  // namespace

void AddDoctor(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* doctor = app.add_subcommand("doctor", "Check this machine, and the way to a coordinator");
  auto* invitation =
      doctor->add_option("invitation", args->invitation,
                         "LH1-...: also check address, key, rates, and what they mean");
  doctor->add_option("--folder", args->folder, "where the run will be kept")->capture_default_str();
  doctor->add_option("--run", args->run, "run.toml to judge by, instead of the coordinator's")
      ->needs(invitation);
  doctor->add_option("--step-ms", args->step_ms, "time of an inner step on this machine")
      ->check(CLI::PositiveNumber);
  doctor
      ->add_option("--least-computing", args->least_computing,
                   "fail when this machine would compute less than this percentage of the time")
      ->check(CLI::Range(0.0, 100.0))
      ->needs(invitation);
  doctor->add_flag("--coordinator-only", args->no_training, "this machine will not train");
  doctor->add_flag("--json", args->json, "as JSON");
  doctor->footer(
      "Examples:\n  longhaul doctor\n  longhaul doctor LH1-...\n"
      "  longhaul doctor LH1-... --step-ms 120 --least-computing 80 || echo too slow");
  doctor->callback(
      [args, &command] { command.run = [args, &command] { return Doctor(*args, command); }; });
}

}  // namespace longhaul
