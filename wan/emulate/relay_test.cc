#include "wan/emulate/relay.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/rng.h"

namespace longhaul::wan {
namespace {

using Clock = std::chrono::steady_clock;

HostShape Access(uint64_t mbit, Duration delay) {
  HostShape host;
  host.up.bits_per_s = host.down.bits_per_s = mbit * 1'000'000;
  host.up.delay = host.down.delay = delay;
  return host;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

bool Readable(int fd, int timeout_ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, timeout_ms) == 1;
}

// A target, a relay from host 1 to it (host 0), and one connection through it.
class RelayTest : public testing::Test {
 protected:
  void Connect(const HostShape& shape) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener_, generic, size), 0);
    ASSERT_EQ(::listen(listener_, 8), 0);
    ASSERT_EQ(::getsockname(listener_, generic, &size), 0);
    auto relay = Relay::Start({shape, shape}, {}, 1, 0, ntohs(address.sin_port));
    ASSERT_TRUE(relay.ok()) << relay.status();
    relay_ = *std::move(relay);
    EXPECT_EQ(relay_->port(0), 0);
    client_ = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in port = Loopback(relay_->port(1));
    ASSERT_EQ(::connect(client_, reinterpret_cast<const sockaddr*>(&port), sizeof port), 0);
    ASSERT_TRUE(Readable(listener_, 5000));
    server_ = ::accept(listener_, nullptr, nullptr);
  }
  void TearDown() override {
    for (int fd : {listener_, client_, server_}) {
      if (fd >= 0) ::close(fd);
    }
  }
  // Milliseconds until `to` has all of it, unchanged.
  double Move(int from, int to, size_t bytes) {
    std::vector<uint8_t> data(bytes), got;
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(Draw(1, {i}));
    const auto begin = Clock::now();
    std::thread sending([&] {
      for (size_t sent = 0; sent < bytes;) {
        const ssize_t n = ::send(from, &data[sent], bytes - sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        sent += static_cast<size_t>(n);
      }
    });
    std::vector<uint8_t> block(65536);
    while (got.size() < bytes && Readable(to, 10'000)) {
      const ssize_t n = ::recv(to, block.data(), block.size(), 0);
      if (n <= 0) break;
      got.insert(got.end(), block.begin(), block.begin() + n);
    }
    sending.join();
    EXPECT_TRUE(got == data);
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  }

  int listener_ = -1, client_ = -1, server_ = -1;
  std::unique_ptr<Relay> relay_;
};

TEST_F(RelayTest, DelayEachWay) {
  Connect(Access(1000, Milliseconds(10)));
  EXPECT_GE(Move(client_, server_, 10), 20);
  EXPECT_GE(Move(server_, client_, 10), 20);
}

TEST_F(RelayTest, RateEachWay) {
  Connect(Access(40, Milliseconds(1)));
  const double ms = Move(client_, server_, 2'000'000);  // 400 ms, and headers
  EXPECT_GE(ms, 400);
  EXPECT_LE(ms, 1500);
  EXPECT_GE(Move(server_, client_, 1'000'000), 200);
}

TEST_F(RelayTest, OutageHoldsBytesBack) {
  Connect(Access(100, Milliseconds(1)));
  relay_->Change([](Network& network) { network.up(1).SetDown(true); });
  // The answer of the other direction shows that the change has been made.
  Move(server_, client_, 1000);
  ASSERT_EQ(::send(client_, "held", 4, 0), 4);
  EXPECT_FALSE(Readable(server_, 50));
  relay_->Change([](Network& network) { network.up(1).SetDown(false); });
  EXPECT_TRUE(Readable(server_, 5000));
}

TEST_F(RelayTest, EndOfOneSideReachesTheOther) {
  Connect(Access(100, Milliseconds(1)));
  ASSERT_EQ(::send(client_, "last", 4, 0), 4);
  ::close(client_);
  client_ = -1;
  char text[16];
  EXPECT_TRUE(Readable(server_, 5000));
  EXPECT_EQ(::recv(server_, text, sizeof text, MSG_WAITALL), 4);
  EXPECT_EQ(::recv(server_, text, sizeof text, 0), 0);
}

}  // namespace
}  // namespace longhaul::wan
