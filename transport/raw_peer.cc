#include "transport/raw_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace longhaul {

namespace {

constexpr uint8_t kLong = 2, kCommand = 4;  // frame flags

std::string_view View(const std::array<uint8_t, 32>& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

const uint8_t* Bytes(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

std::string BigEndian(uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
  return out;
}

std::string Property(std::string_view name, std::string_view value) {
  return BigEndian(name.size(), 1) + std::string(name) + BigEndian(value.size(), 4) +
         std::string(value);
}

}  // namespace

RawTcp::RawTcp(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience{30, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  LONGHAUL_CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0, "no connection");
}

RawTcp::RawTcp(RawTcp&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), sent_(std::move(other.sent_)) {}

RawTcp::~RawTcp() {
  if (fd_ >= 0) close(fd_);
}

bool RawTcp::Write(std::string_view bytes) {
  sent_.append(bytes.substr(0, kRemembered - std::min(kRemembered, sent_.size())));
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool RawTcp::Read(void* out, size_t size) {
  return recv(fd_, out, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

bool RawTcp::AtEnd() {
  char buffer[4096];
  for (;;) {
    const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) continue;
    return n == 0 || errno == ECONNRESET;
  }
}

RawListener::RawListener(bool listening) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  LONGHAUL_CHECK(bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0, "no port");
  LONGHAUL_CHECK(!listening || listen(fd_, 16) == 0, "cannot listen");
  LONGHAUL_CHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size) == 0, "no port");
  port_ = ntohs(at.sin_port);
}

RawListener::~RawListener() { close(fd_); }

void RawListener::AnswerOnce(std::string_view bytes) {
  const int peer = accept(fd_, nullptr, nullptr);
  (void)!send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  close(peer);
}

RawCurveClient::RawCurveClient(uint16_t port, const WorkerKey& server_key, const CurveKeyPair& keys)
    : tcp_(port), server_key_(server_key.bytes), keys_(keys) {}

bool RawCurveClient::SendFrame(bool command, std::string_view body) {
  const bool is_long = body.size() > 255;
  const uint8_t flags = static_cast<uint8_t>((command ? kCommand : 0) | (is_long ? kLong : 0));
  return tcp_.Write(std::string(1, static_cast<char>(flags)) +
                    BigEndian(body.size(), is_long ? 8 : 1) + std::string(body));
}

bool RawCurveClient::ReadFrame(std::string* body) {
  uint8_t head[2];
  if (!tcp_.Read(head, 2) || (head[0] & kLong) != 0) return false;
  body->resize(head[1]);
  return tcp_.Read(body->data(), body->size());
}

std::string RawCurveClient::NextNonce() { return BigEndian(++nonce_, 8); }

std::string RawCurveClient::Box(std::string_view plain, std::string_view nonce, const Key& to,
                                const Key& from_secret) {
  LONGHAUL_CHECK(nonce.size() == crypto_box_NONCEBYTES, "a nonce of 24 bytes");
  std::string out(plain.size() + crypto_box_MACBYTES, '\0');
  LONGHAUL_CHECK(crypto_box_easy(reinterpret_cast<uint8_t*>(out.data()), Bytes(plain), plain.size(),
                                 Bytes(nonce), to.data(), from_secret.data()) == 0,
                 "box");
  return out;
}

std::string RawCurveClient::Open(std::string_view box, std::string_view nonce, const Key& from,
                                 const Key& to_secret) {
  std::string out(box.size() - crypto_box_MACBYTES, '\0');
  const int rc = crypto_box_open_easy(reinterpret_cast<uint8_t*>(out.data()), Bytes(box),
                                      box.size(), Bytes(nonce), from.data(), to_secret.data());
  return rc == 0 ? out : "";
}

bool RawCurveClient::SayHello() {
  // Signature, version 3.0, mechanism, not a server, filler; the server's has the same length.
  const std::string greeting = std::string("\xFF\0\0\0\0\0\0\0\x01\x7F\x03\x00", 12) + "CURVE" +
                               std::string(15 + 1 + 31, '\0');
  char theirs[64];
  if (!tcp_.Write(greeting) || !tcp_.Read(theirs, sizeof theirs)) return false;
  const std::string nonce = NextNonce();
  const std::string box =
      Box(std::string(64, '\0'), "CurveZMQHELLO---" + nonce, server_key_, transient_.secret);
  if (!SendFrame(true, "\x05HELLO" + std::string("\1\0", 2) + std::string(72, '\0') +
                           std::string(View(transient_.public_key.bytes)) + nonce + box)) {
    return false;
  }
  std::string welcome;
  if (!ReadFrame(&welcome) || welcome.size() != 168 || !welcome.starts_with("\x07WELCOME")) {
    return false;
  }
  const std::string plain =
      Open(welcome.substr(24), "WELCOME-" + welcome.substr(8, 16), server_key_, transient_.secret);
  if (plain.size() != 128) return false;
  std::memcpy(server_transient_.data(), plain.data(), 32);
  cookie_ = plain.substr(32);
  return true;
}

bool RawCurveClient::Handshake(const Claims& claims) {
  if (!SayHello()) return false;
  const std::string vouch_nonce(16, 'v');
  const std::string vouch =
      Box(std::string(View(transient_.public_key.bytes)) + std::string(View(server_key_)),
          "VOUCH---" + vouch_nonce, server_transient_, keys_.secret);
  const std::string nonce = NextNonce();
  const std::string box =
      Box(std::string(View(keys_.public_key.bytes)) + vouch_nonce + vouch +
              Property("Socket-Type", "DEALER") + Property("Identity", claims.routing_id) +
              (claims.user.empty() ? "" : Property("User-Id", claims.user)),
          "CurveZMQINITIATE" + nonce, server_transient_, transient_.secret);
  std::string answer;
  return SendFrame(true, "\x08INITIATE" + cookie_ + nonce + box) && ReadFrame(&answer) &&
         answer.starts_with("\x05READY");
}

bool RawCurveClient::SendPart(std::string_view payload, bool more) {
  if (cookie_.empty()) return false;  // never welcomed: there is no key to send with
  const std::string nonce = NextNonce();
  std::string box = Box(std::string(1, more ? '\1' : '\0') + std::string(payload),
                        "CurveZMQMESSAGEC" + nonce, server_transient_, transient_.secret);
  if (std::exchange(tamper_, false)) box[0] = static_cast<char>(box[0] ^ 1);
  return SendFrame(false, "\x07MESSAGE" + nonce + box);
}

}  // namespace longhaul
