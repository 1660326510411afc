// longhaul invite: a new invitation to a running run, or the end of one. Talks to the coordinator
// with the run folder's admin.key, on the machine where that folder is.
#include <CLI/CLI.hpp>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "common/status_macros.h"
#include "coordinator/run_folder.h"
#include "proto/codec.h"
#include "transport/client.h"
#include "transport/invitation.h"

namespace longhaul {
namespace {

constexpr auto kAnswerTime = std::chrono::seconds(10);

struct Arguments {
  std::string folder;
  uint32_t uses = 1;
  double days = 7;
  std::string revoke;
};

struct Endpoint {
  std::string address;
  std::string run_id;
  std::vector<std::string> join_addresses;
};

absl::StatusOr<Endpoint> ReadEndpoint(const std::string& folder) {
  std::ifstream file(folder + "/" + kEndpoint);
  Endpoint endpoint;
  if (!(file >> endpoint.address >> endpoint.run_id)) {
    return absl::NotFoundError(folder + " is not the folder of a run that has been started");
  }
  for (std::string address; file >> address;) endpoint.join_addresses.push_back(address);
  return endpoint;
}

// One request and its answer. The connection's events and messages come on its own thread.
class AdminCall {
 public:
  absl::Status Run(const std::string& folder, const Endpoint& endpoint, const Message& request) {
    ASSIGN_OR_RETURN(CurveKeyPair server, ReadCurveKeyFile(folder + "/" + kServerKey));
    ClientOptions options;
    options.address = endpoint.address;
    options.server_key = server.public_key;
    ASSIGN_OR_RETURN(options.keys, ReadCurveKeyFile(folder + "/" + kAdminKey));
    options.on_message = [this](std::vector<Frame>&& frames) { OnMessage(frames); };
    options.on_event = [this](const ConnectionEvent& e) { OnEvent(e); };
    ASSIGN_OR_RETURN(std::unique_ptr<DealerClient> client, DealerClient::Start(std::move(options)));
    RETURN_IF_ERROR(WaitFor([this] { return connected_; }));
    ASSIGN_OR_RETURN(std::string bytes,
                     EncodeEnvelope({.run = endpoint.run_id, .sequence = 1, .body = request}));
    std::vector<Frame> frames;
    frames.emplace_back(std::move(bytes));
    if (!client->Send(std::move(frames))) return absl::UnavailableError("the connection is gone");
    RETURN_IF_ERROR(WaitFor([this] { return done_.has_value(); }));
    return done_->empty() ? absl::OkStatus() : absl::NotFoundError(*done_);
  }

 private:
  template <class Condition>
  absl::Status WaitFor(Condition condition) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kAnswerTime, [&] { return condition() || problem_.has_value(); });
    if (condition()) return absl::OkStatus();
    return absl::UnavailableError("no coordinator answers" +
                                  (problem_ ? ": " + *problem_ : std::string()) +
                                  "; is it running?");
  }

  void OnEvent(const ConnectionEvent& e) {
    std::lock_guard lock(mutex_);
    connected_ = e.change == ConnectionChange::kConnected;
    if (!connected_) problem_ = e.reason;
    changed_.notify_all();
  }

  void OnMessage(const std::vector<Frame>& frames) {
    auto envelope = DecodeEnvelope(frames[0].bytes());
    if (!envelope.ok()) return;
    std::lock_guard lock(mutex_);
    if (const auto* done = std::get_if<AdminDone>(&envelope->body)) done_ = done->error;
    if (const auto* no = std::get_if<Refused>(&envelope->body)) problem_ = no->reason;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool connected_ = false;
  std::optional<std::string> done_;
  std::optional<std::string> problem_;
};

absl::Status Invite(const Arguments& args) {
  ASSIGN_OR_RETURN(Endpoint endpoint, ReadEndpoint(args.folder));
  AdminCall call;
  if (!args.revoke.empty()) {
    // Either the id, or the invitation itself.
    auto invitation = DecodeInvitation(args.revoke);
    const std::string id = invitation.ok() ? invitation->id() : args.revoke;
    RETURN_IF_ERROR(call.Run(args.folder, endpoint, AdminRevoke{id}));
    std::printf("invitation %s is revoked; workers that enrolled with it stay\n", id.c_str());
    return absl::OkStatus();
  }
  const auto expires =
      static_cast<uint64_t>(std::time(nullptr)) + static_cast<uint64_t>(args.days * 86400);
  ASSIGN_OR_RETURN(CurveKeyPair server, ReadCurveKeyFile(args.folder + "/" + kServerKey));
  ASSIGN_OR_RETURN(Invitation invitation,
                   MakeInvitation(endpoint.join_addresses, server.public_key, endpoint.run_id,
                                  CurveKeyPair::Generate(), args.uses, expires));
  ASSIGN_OR_RETURN(std::string text, EncodeInvitation(invitation));
  RETURN_IF_ERROR(call.Run(
      args.folder, endpoint,
      AdminInvite{invitation.id(), invitation.one_off_keys().public_key, expires, args.uses}));
  std::printf("%s\n", text.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddInvite(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* invite = app.add_subcommand("invite", "Make (or revoke) an invitation to a running run");
  invite->add_option("folder", args->folder, "the run's folder")->required();
  invite->add_option("--uses", args->uses, "workers that may enrol with it")
      ->check(CLI::Range(1u, 1000000u))
      ->capture_default_str();
  invite->add_option("--days", args->days, "how long it is good")
      ->check(CLI::Range(0.0, 3650.0))
      ->capture_default_str();
  invite->add_option("--revoke", args->revoke, "end this invitation (its id or its text)");
  invite->footer(
      "Examples:\n  longhaul invite runs/my-run --uses 20\n"
      "  longhaul invite runs/my-run --revoke LH1-...");
  invite->callback([args, &command] {
    command.run = [args]() -> int {
      absl::Status status = Invite(*args);
      if (status.ok()) return kExitOk;
      std::fprintf(stderr, "longhaul: %s\n", std::string(status.message()).c_str());
      return ExitCodeFor(status);
    };
  });
}

}  // namespace longhaul
