// longhaul doctor: can this machine take part, and if not, what helps?
#include <CLI/CLI.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/doctor.h"
#include "transport/client.h"
#include "transport/invitation.h"

namespace longhaul {
namespace {

constexpr Duration kStatsWait = Seconds(1);

struct Arguments {
  std::string invitation;
  std::string folder = ".";
  bool json = false;
  bool no_training = false;
};

// Connects with the invitation's key, as a joining worker would.
absl::StatusOr<LinkFacts> Handshake(const Invitation& invitation, const std::string& address,
                                    Duration timeout) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<ConnectionEvent> event;
  ClientOptions options;
  options.address = address;
  options.server_key = invitation.server_key;
  options.keys = invitation.one_off_keys();
  options.on_message = [](std::vector<Frame>&&) {};
  options.on_event = [&](const ConnectionEvent& e) {
    std::lock_guard lock(mutex);
    if (!event) event = e;
    changed.notify_one();
  };
  auto client = DealerClient::Start(std::move(options));
  if (!client.ok()) return client.status();
  std::unique_lock lock(mutex);
  if (!changed.wait_for(lock, timeout, [&] { return event.has_value(); })) {
    return absl::DeadlineExceededError("no handshake in time");
  }
  if (event->change != ConnectionChange::kConnected) {
    return absl::PermissionDeniedError(event->reason);
  }
  LinkFacts facts;
  facts.congestion_control = (*client)->congestion_control();
  // The kernel's numbers are looked at a few times a second.
  const auto until = std::chrono::steady_clock::now() + kStatsWait;
  while (facts.round_trip_ms == 0 && std::chrono::steady_clock::now() < until) {
    changed.wait_for(lock, Milliseconds(20));
    facts.round_trip_ms = (*client)->stats().min_rtt_us / 1000.0;
  }
  return facts;
}

int Doctor(const Arguments& args, const Command& command) {
  DoctorOptions options;
  options.version = LONGHAUL_VERSION;
  options.program_folder = command.program_folder;
  options.run_folder = args.folder;
  options.training = !args.no_training;
  if (!args.invitation.empty()) {
    auto invitation = DecodeInvitation(args.invitation);
    if (!invitation.ok()) {
      std::fprintf(stderr, "longhaul: %s\n", std::string(invitation.status().message()).c_str());
      return kExitUsage;
    }
    const std::string address = invitation->addresses[0];
    options.coordinator = SplitAddress(address).value();
    options.handshake = [invitation = *invitation, address, timeout = options.connect_timeout](
                            const HostPort&) { return Handshake(invitation, address, timeout); };
  }
  const std::vector<CheckResult> results = RunDoctor(options);
  std::fputs((args.json ? DoctorJson(results) + "\n" : FormatDoctor(results)).c_str(), stdout);
  return DoctorExitCode(results);
}

}  // namespace

void AddDoctor(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* doctor = app.add_subcommand("doctor", "Check this machine, and the way to a coordinator");
  doctor->add_option("invitation", args->invitation, "LH1-...: also check address and key");
  doctor->add_option("--folder", args->folder, "where the run will be kept")->capture_default_str();
  doctor->add_flag("--coordinator-only", args->no_training, "this machine will not train");
  doctor->add_flag("--json", args->json, "as JSON");
  doctor->footer("Examples:\n  longhaul doctor\n  longhaul doctor LH1-...");
  doctor->callback(
      [args, &command] { command.run = [args, &command] { return Doctor(*args, command); }; });
}

}  // namespace longhaul
