#include "transport/invitation.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sodium.h>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace longhaul {

namespace {

constexpr std::string_view kPrefix = "LH1-";
constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr int kBase64Variant = sodium_base64_VARIANT_URLSAFE_NO_PADDING;
constexpr size_t kMaxAddressBytes = 255;
constexpr size_t kMaxTextChars = 4096;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kLengthBytes = 2;

std::string Checksum(std::string_view bytes) {
  const Digest digest = Blake2b("LH-invitation-1" + std::string(bytes));
  return std::string(reinterpret_cast<const char*>(digest.data()), kChecksumBytes);
}

std::string ToBase64(std::string_view bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), kBase64Variant), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const uint8_t*>(bytes.data()),
                    bytes.size(), kBase64Variant);
  out.pop_back();  // the terminating zero
  return out;
}

// Empty when it is not the canonical text of any bytes. `text` has characters of kAlphabet only:
// libsodium's decoder takes some bytes above 127 for letters.
std::string FromBase64(std::string_view text) {
  std::string out(text.size(), '\0');
  size_t size = 0;
  const int rc = sodium_base642bin(reinterpret_cast<uint8_t*>(out.data()), out.size(), text.data(),
                                   text.size(), nullptr, &size, nullptr, kBase64Variant);
  out.resize(rc == 0 ? size : 0);
  return out;
}

std::string WithoutSpace(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, kMaxTextChars + 1)) {
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n') out.push_back(c);
  }
  return out;
}

// The bytes inside the text, checked for length and checksum.
absl::StatusOr<std::string> Unwrap(std::string_view text) {
  const std::string compact = WithoutSpace(text);
  if (compact.size() > kMaxTextChars) return absl::InvalidArgumentError("too long");
  if (!compact.starts_with(kPrefix)) {
    return absl::InvalidArgumentError(compact.starts_with("LH")
                                          ? "made by another version of this software"
                                          : "it must start with LH1-");
  }
  const std::string_view body = std::string_view(compact).substr(kPrefix.size());
  const size_t wrong = body.find_first_not_of(kAlphabet);
  if (wrong != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("character ", kPrefix.size() + wrong + 1, " cannot be part of it"));
  }
  const std::string bytes = FromBase64(body);
  const size_t expected = ByteReader(bytes).U16();
  if (bytes.size() < kLengthBytes + kChecksumBytes || bytes.size() < expected) {
    return absl::InvalidArgumentError("its end is cut off");
  }
  if (bytes.size() > expected) return absl::InvalidArgumentError("it is too long");
  const std::string content = bytes.substr(0, bytes.size() - kChecksumBytes);
  if (bytes.substr(content.size()) != Checksum(content)) {
    return absl::InvalidArgumentError("it was changed on the way (wrong checksum)");
  }
  return content.substr(kLengthBytes);
}

absl::StatusOr<Invitation> Parse(std::string_view content) {
  ByteReader in(content);
  Invitation out;
  const size_t addresses = in.U8();
  if (addresses > kMaxInvitationAddresses) return absl::InvalidArgumentError("too many addresses");
  for (size_t i = 0; i < addresses; ++i) out.addresses.push_back(in.String(kMaxAddressBytes));
  in.Read(out.server_key);
  in.Raw(out.run.data(), out.run.size());
  out.expires_unix_s = in.U64();
  out.uses = in.U32();
  in.Raw(out.one_off_secret.data(), out.one_off_secret.size());
  if (!in.AtEnd()) return absl::InvalidArgumentError("its content is damaged");
  return out;
}

absl::Status CheckAddresses(const std::vector<std::string>& addresses) {
  if (addresses.empty()) return absl::InvalidArgumentError("an invitation needs an address");
  if (addresses.size() > kMaxInvitationAddresses) {
    return absl::InvalidArgumentError("too many addresses");
  }
  for (const std::string& address : addresses) RETURN_IF_ERROR(CheckAddress(address));
  return absl::OkStatus();
}

}  // namespace

std::string InvitationId(const WorkerKey& one_off_public_key) {
  return ToHex(Blake2b(std::as_bytes(std::span(one_off_public_key.bytes)))).substr(0, 16);
}

std::string Invitation::run_id() const { return ToHex(std::as_bytes(std::span(run))); }
std::string Invitation::id() const { return InvitationId(one_off_keys().public_key); }

absl::StatusOr<std::string> EncodeInvitation(const Invitation& invitation) {
  RETURN_IF_ERROR(CheckAddresses(invitation.addresses));
  ByteWriter body;
  body.U8(static_cast<uint8_t>(invitation.addresses.size()));
  for (const std::string& address : invitation.addresses) body.String(address);
  body.Write(invitation.server_key);
  body.Raw(invitation.run.data(), invitation.run.size());
  body.U64(invitation.expires_unix_s);
  body.U32(invitation.uses);
  body.Raw(invitation.one_off_secret.data(), invitation.one_off_secret.size());
  ByteWriter whole;
  whole.U16(static_cast<uint16_t>(kLengthBytes + body.str().size() + kChecksumBytes));
  whole.Raw(body.str().data(), body.str().size());
  return std::string(kPrefix) + ToBase64(whole.str() + Checksum(whole.str()));
}

absl::StatusOr<Invitation> DecodeInvitation(std::string_view text) {
  const auto explained = [](const absl::Status& why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "this invitation cannot be used: ", why.message(), "; copy the whole line again"));
  };
  auto content = Unwrap(text);
  if (!content.ok()) return explained(content.status());
  auto invitation = Parse(*content);
  if (!invitation.ok()) return explained(invitation.status());
  if (absl::Status s = CheckAddresses(invitation->addresses); !s.ok()) return explained(s);
  return invitation;
}

std::string EnrollmentStatement(std::string_view run_id, std::string_view invitation_id,
                                const WorkerKey& curve_key,
                                const std::array<uint8_t, 32>& ed25519_public) {
  ByteWriter w;
  w.String("LH-enroll-1");
  w.String(run_id);
  w.String(invitation_id);
  w.Write(curve_key);
  w.Raw(ed25519_public.data(), ed25519_public.size());
  return w.Take();
}

absl::Status CheckAddress(std::string_view address, bool any_port) {
  const auto refused = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(address), "\" ", why));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return refused("is not host:port");
  if (address.size() > kMaxAddressBytes) return refused("is too long");
  for (char c : address) {
    if (c <= ' ' || c > '~' || c == '/' || c == ';' || c == '@') {
      return refused("has a character that no address has");
    }
  }
  const std::string_view digits = address.substr(colon + 1);
  uint32_t port = 0;
  for (char c : digits) {
    if (c < '0' || c > '9' || digits.size() > 5) return refused("has no valid port");
    port = port * 10 + static_cast<uint32_t>(c - '0');
  }
  if (digits.empty() || port > 65535 || (port == 0 && !any_port)) {
    return refused("has no valid port");
  }
  return absl::OkStatus();
}

absl::StatusOr<Invitation> MakeInvitation(std::vector<std::string> addresses,
                                          const WorkerKey& server_key, std::string_view run_id,
                                          const CurveKeyPair& one_off, uint32_t uses,
                                          uint64_t expires_unix_s) {
  Invitation invitation;
  invitation.addresses = std::move(addresses);
  invitation.server_key = server_key;
  if (!FromHex(run_id, invitation.run)) {
    return absl::InvalidArgumentError("a run id is 16 hex digits");
  }
  invitation.expires_unix_s = expires_unix_s;
  invitation.uses = uses;
  invitation.one_off_secret = one_off.secret;
  return invitation;
}

std::vector<std::string> ReachableAddresses(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (listen.substr(0, colon) != "0.0.0.0") return {listen};
  const std::string port = listen.substr(colon);
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) == 0) {
    for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
      if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
      if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0) continue;
      char text[INET_ADDRSTRLEN] = {};
      const auto* address = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      if (::inet_ntop(AF_INET, &address->sin_addr, text, sizeof text) == nullptr) continue;
      if (addresses.size() + 1 < kMaxInvitationAddresses) addresses.push_back(text + port);
    }
    ::freeifaddrs(list);
  }
  addresses.push_back("127.0.0.1" + port);
  return addresses;
}

}  // namespace longhaul
