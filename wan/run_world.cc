// The two tiers in which real processes run.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "transport/invitation.h"
#include "wan/emulate/relay.h"
#include "wan/run.h"
#include "wan/tun_lab.h"

namespace longhaul::wan {
namespace {

class TunWorld : public RunWorld {
 public:
  TunWorld(const Scenario& scenario, std::unique_ptr<TunLab> lab)
      : coordinator_(scenario.coordinator), lab_(std::move(lab)) {}

  // Networks of our own: every port is free.
  std::string ListenAddress() const override {
    return lab_->host(coordinator_).address() + ":7443";
  }
  absl::StatusOr<std::string> InvitationFor(uint32_t, const std::string& invitation) override {
    return invitation;
  }
  absl::StatusOr<std::unique_ptr<HostProcess>> Start(uint32_t node,
                                                     const HostCommand& command) override {
    return HostProcess::Start(&lab_->host(node), command);
  }
  void Apply(const Schedule::Step& step) override { lab_->Apply(step); }
  void ResetLateness() override { lab_->ResetLateness(); }
  EmulatorReport report() const override { return lab_->report(); }
  bool EmulatesPackets() const override { return true; }

 private:
  const uint32_t coordinator_;
  std::unique_ptr<TunLab> lab_;
};

// A port that was free a moment ago. The coordinator takes it, and takes it again after a kill.
uint16_t FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool bound =
      fd >= 0 && ::bind(fd, generic, size) == 0 && ::getsockname(fd, generic, &size) == 0;
  if (fd >= 0) ::close(fd);
  return bound ? ntohs(address.sin_port) : 0;
}

class RelayWorld : public RunWorld {
 public:
  RelayWorld(const Scenario& scenario, uint16_t port, std::unique_ptr<Relay> relay)
      : scenario_(scenario), port_(port), relay_(std::move(relay)) {}

  std::string ListenAddress() const override { return absl::StrCat("127.0.0.1:", port_); }
  absl::StatusOr<std::string> InvitationFor(uint32_t node, const std::string& text) override {
    ASSIGN_OR_RETURN(Invitation invitation, DecodeInvitation(text));
    invitation.addresses = {absl::StrCat("127.0.0.1:", relay_->port(node))};
    return EncodeInvitation(invitation);
  }
  absl::StatusOr<std::unique_ptr<HostProcess>> Start(uint32_t,
                                                     const HostCommand& command) override {
    return HostProcess::Start(nullptr, command);
  }
  void Apply(const Schedule::Step& step) override {
    relay_->Change([this, step](Network& network) { ApplyToNetwork(scenario_, step, network); });
  }
  void ResetLateness() override { relay_->ResetLateness(); }
  EmulatorReport report() const override { return relay_->report(); }
  bool EmulatesPackets() const override { return false; }

 private:
  const Scenario scenario_;
  const uint16_t port_;
  std::unique_ptr<Relay> relay_;
};

}  // namespace

const char* TierName(Tier tier) {
  switch (tier) {
    case Tier::kSim:
      return "sim";
    case Tier::kRelay:
      return "relay";
    case Tier::kTun:
      break;
  }
  return "tun";
}

absl::StatusOr<std::unique_ptr<RunWorld>> MakeWorld(Tier tier, const Scenario& scenario) {
  if (tier == Tier::kTun) {
    ASSIGN_OR_RETURN(std::unique_ptr<TunLab> lab, TunLab::Create(scenario));
    return std::make_unique<TunWorld>(scenario, std::move(lab));
  }
  const uint16_t port = FreePort();
  if (port == 0) return absl::UnavailableError("no free port on 127.0.0.1");
  ASSIGN_OR_RETURN(std::unique_ptr<Relay> relay,
                   Relay::Start(scenario.HostShapes(), scenario.BottleneckShapes(), scenario.seed,
                                scenario.coordinator, port));
  return std::make_unique<RelayWorld>(scenario, port, std::move(relay));
}

}  // namespace longhaul::wan
