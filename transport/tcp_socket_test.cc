#include "transport/tcp_socket.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

namespace longhaul {
namespace {

// Two ends of one loopback TCP connection.
struct Pair {
  int client = -1;
  int server = -1;
  Pair() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    EXPECT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size), 0);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(client, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    server = accept(listener, nullptr, nullptr);
    close(listener);
  }
  ~Pair() {
    close(client);
    close(server);
  }
};

TEST(TcpSocketTest, CountsBytes) {
  Pair pair;
  TcpSocket socket(pair.client);
  ASSERT_EQ(send(pair.client, "hello", 5, 0), 5);
  char buffer[8];
  ASSERT_EQ(recv(pair.server, buffer, sizeof buffer, 0), 5);
  ASSERT_EQ(send(pair.server, "hey", 3, 0), 3);
  ASSERT_EQ(recv(pair.client, buffer, sizeof buffer, 0), 3);
  auto stats = socket.Stats();
  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ(stats->bytes_sent, 5u);
  EXPECT_EQ(stats->bytes_received, 3u);
}

TEST(TcpSocketTest, TunesWhatItCan) {
  Pair pair;
  TcpSocket socket(pair.client);
  EXPECT_EQ(socket.Tune({.pacing_bytes_per_s = 123'456, .congestion_control = "reno"}), "reno");
  EXPECT_EQ(socket.Tune({.congestion_control = "no such thing"}), "reno");
  uint64_t rate = 0;
  socklen_t size = sizeof rate;
  ASSERT_EQ(getsockopt(pair.client, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &size), 0);
  EXPECT_EQ(rate, 123'456u);
}

TEST(TcpSocketTest, CutsBothDirections) {
  Pair pair;
  TcpSocket socket(pair.server);
  EXPECT_TRUE(socket.Cut());
  char buffer[8];
  EXPECT_EQ(recv(pair.client, buffer, sizeof buffer, 0), 0);
}

TEST(TcpSocketTest, LeavesAReusedDescriptorAlone) {
  Pair first;
  Pair second;
  TcpSocket socket(first.server);
  ASSERT_EQ(dup2(second.server, first.server), first.server);  // the same number, another peer
  EXPECT_FALSE(socket.Stats().has_value());
  EXPECT_FALSE(socket.Cut());
  EXPECT_EQ(socket.Tune({}), "");
  ASSERT_EQ(send(second.client, "alive", 5, 0), 5);
  char buffer[8];
  EXPECT_EQ(recv(second.server, buffer, sizeof buffer, 0), 5);
}

TEST(TcpSocketTest, IsHarmlessOnOtherDescriptors) {
  for (int fd : {-1, 9999}) {
    TcpSocket socket(fd);
    EXPECT_FALSE(socket.Stats().has_value());
    EXPECT_FALSE(socket.Cut());
    EXPECT_EQ(socket.Tune({}), "");
  }
}

}  // namespace
}  // namespace longhaul
