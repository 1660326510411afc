// For tests: peers that speak to a server without ZeroMQ, so that they can break its rules.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "transport/keys.h"

namespace longhaul {

// A TCP connection to a port of this machine. Reads give up after half a minute.
class RawTcp {
 public:
  explicit RawTcp(uint16_t port);
  RawTcp(RawTcp&& other) noexcept;
  RawTcp(const RawTcp&) = delete;
  RawTcp& operator=(const RawTcp&) = delete;
  ~RawTcp();
  bool Write(std::string_view bytes);                // false when the connection is gone
  bool Read(void* out, size_t size);                 // all of it
  bool AtEnd();                                      // waits for the other side to close
  const std::string& sent() const { return sent_; }  // the first kRemembered bytes written

 private:
  static constexpr size_t kRemembered = 4096;
  int fd_;
  std::string sent_;
};

// A port of this machine that is nobody's: it answers what it is told, or does not even listen.
class RawListener {
 public:
  explicit RawListener(bool listening = true);
  RawListener(const RawListener&) = delete;
  RawListener& operator=(const RawListener&) = delete;
  ~RawListener();
  uint16_t port() const { return port_; }
  // Waits for a connection, sends the bytes, closes.
  void AnswerOnce(std::string_view bytes);

 private:
  int fd_;
  uint16_t port_ = 0;
};

// A CURVE client as in ZeroMQ RFC 26 over ZMTP 3.0 (RFC 23).
class RawCurveClient {
 public:
  RawCurveClient(uint16_t port, const WorkerKey& server_key, const CurveKeyPair& keys);

  // What the client says about itself, beside its keys.
  struct Claims {
    std::string routing_id;
    std::string user;
  };
  bool SayHello();  // greeting, HELLO, WELCOME
  // And INITIATE, READY; false when the server refuses.
  bool Handshake(const Claims& claims);
  bool Handshake() { return Handshake({}); }
  // One part of a message; `more`: others follow.
  bool SendPart(std::string_view payload, bool more);
  void tamper_with_next_part() { tamper_ = true; }
  bool WaitForClose() { return tcp_.AtEnd(); }
  const std::string& sent() const { return tcp_.sent(); }

 private:
  using Key = std::array<uint8_t, 32>;

  bool SendFrame(bool command, std::string_view body);
  bool ReadFrame(std::string* body);
  std::string NextNonce();
  static std::string Box(std::string_view plain, std::string_view nonce, const Key& to,
                         const Key& from_secret);
  static std::string Open(std::string_view box, std::string_view nonce, const Key& from,
                          const Key& to_secret);

  RawTcp tcp_;
  Key server_key_;
  CurveKeyPair keys_;
  CurveKeyPair transient_ = CurveKeyPair::Generate();
  Key server_transient_{};
  std::string cookie_;
  uint64_t nonce_ = 0;
  bool tamper_ = false;
};

}  // namespace longhaul
