// An invitation: one line of text, "LH1-...", that a lab gives to whoever may lend a machine. It
// holds the addresses and the key of the coordinator, and a one-off CURVE key that is good for
// enrolling only (DESIGN section 12). Whoever holds the text can use it: it is a secret.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "transport/keys.h"

namespace longhaul {

inline constexpr size_t kMaxInvitationAddresses = 8;

struct Invitation {
  std::vector<std::string> addresses;  // host:port, tried in order; at least one
  WorkerKey server_key;
  std::array<uint8_t, 8> run{};
  uint64_t expires_unix_s = 0;
  uint32_t uses = 0;
  std::array<uint8_t, 32> one_off_secret{};

  CurveKeyPair one_off_keys() const { return CurveKeyPair::FromSecret(one_off_secret); }
  std::string run_id() const;  // 16 hex digits, as in Envelope.run
  std::string id() const;      // InvitationId of the one-off public key
  auto operator<=>(const Invitation&) const = default;
};

// First 16 hex digits of BLAKE2b of the one-off public key: what the coordinator keeps.
std::string InvitationId(const WorkerKey& one_off_public_key);

// InvalidArgument when there are no or too many addresses, or one is not host:port.
absl::StatusOr<std::string> EncodeInvitation(const Invitation& invitation);
// White space is ignored, so that a line broken by a terminal or a mail still works. Everything
// else that was changed, cut off or mistyped is refused with the reason.
absl::StatusOr<Invitation> DecodeInvitation(std::string_view text);

// A new invitation to the run with this id (16 hex digits). InvalidArgument for another id.
absl::StatusOr<Invitation> MakeInvitation(std::vector<std::string> addresses,
                                          const WorkerKey& server_key, std::string_view run_id,
                                          const CurveKeyPair& one_off, uint32_t uses,
                                          uint64_t expires_unix_s);

// Where others may reach a server that listens on `listen` (host:port): for 0.0.0.0 the IPv4
// addresses of this machine that are not loopback, then 127.0.0.1; otherwise `listen` itself. At
// most kMaxInvitationAddresses.
std::vector<std::string> ReachableAddresses(const std::string& listen);

// What a worker signs to enroll (Enroll.signature).
std::string EnrollmentStatement(std::string_view run_id, std::string_view invitation_id,
                                const WorkerKey& curve_key,
                                const std::array<uint8_t, 32>& ed25519_public);

// "host:port" with a port from 1 to 65535 (0 too when `any_port`).
absl::Status CheckAddress(std::string_view address, bool any_port = false);

}  // namespace longhaul
