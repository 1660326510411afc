// Real kernels and sockets over the emulated network.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "wan/emulate/emulator.h"
#include "wan/emulate/host_process.h"
#include "wan/emulate/namespaces.h"

namespace longhaul::wan {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint16_t kPort = 5201;  // of namespaces of our own: free

HostShape Access(uint64_t mbit, Duration delay) {
  HostShape host;
  host.up.bits_per_s = host.down.bits_per_s = mbit * 1'000'000;
  host.up.delay = host.down.delay = delay;
  return host;
}

sockaddr_in AddressOf(const LabHost& host) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  inet_pton(AF_INET, host.address().c_str(), &address.sin_addr);
  return address;
}

// Two hosts and the network between them; inside a lab.
struct World {
  explicit World(const HostShape& shape, HostKernel kernel = HostKernel::kTuned) {
    for (uint32_t i = 0; i < 2; ++i) {
      HostOptions options;
      options.name = i == 0 ? "a" : "b";
      options.index = i;
      options.kernel = kernel;
      auto host = LabHost::Create(options);
      if (!host.ok()) std::fprintf(stderr, "%s\n", host.status().ToString().c_str());
      hosts.push_back(*std::move(host));
    }
    Network network({shape, shape}, {}, 1);
    emulator = *Emulator::Start({hosts[0].tun(), hosts[1].tun()}, std::move(network));
  }
  int SocketOn(size_t host, int type) {
    hosts[host].Enter();
    return ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  }
  std::vector<LabHost> hosts;
  std::unique_ptr<Emulator> emulator;
};

// What `body` returns, inside a lab. Skips where labs are forbidden.
int InLab(const std::function<int()>& body) {
  const auto code = RunInLab(body);
  EXPECT_TRUE(code.ok()) << code.status();
  return code.ok() ? *code : -1;
}

class LabTest : public testing::Test {
 protected:
  void SetUp() override {
    static const LabProbe probe = ProbeLab();
    if (!probe.possible) GTEST_SKIP() << probe.problem << "; try: " << probe.remedy;
  }
};

bool Readable(int fd, int timeout_ms) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, timeout_ms) == 1;
}

// Microseconds of a round trip, or -1.
int64_t Ping(int from, int to, const sockaddr_in& address) {
  char text[64] = "ping";
  sockaddr_in sender{};
  socklen_t size = sizeof sender;
  const auto begin = Clock::now();
  ::sendto(from, text, sizeof text, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (!Readable(to, 2000)) return -1;
  if (::recvfrom(to, text, sizeof text, 0, reinterpret_cast<sockaddr*>(&sender), &size) < 0) {
    return -1;
  }
  ::sendto(to, text, sizeof text, 0, reinterpret_cast<sockaddr*>(&sender), size);
  if (!Readable(from, 2000) || ::recv(from, text, sizeof text, 0) < 0) return -1;
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count();
}

TEST_F(LabTest, RoundTripIsWhatWasAskedFor) {
  EXPECT_EQ(InLab([] {
              World world(Access(1000, Milliseconds(5)));
              const int a = world.SocketOn(0, SOCK_DGRAM);
              const int b = world.SocketOn(1, SOCK_DGRAM);
              const sockaddr_in address = AddressOf(world.hosts[1]);
              ::bind(b, reinterpret_cast<const sockaddr*>(&address), sizeof address);
              std::vector<int64_t> times;
              for (int i = 0; i < 20; ++i) times.push_back(Ping(a, b, address));
              std::sort(times.begin(), times.end());
              std::fprintf(stderr, "median round trip %.3f ms, 20 asked for\n",
                           static_cast<double>(times[10]) / 1000);
              // Never early; on a busy machine most may be late, but not all.
              return times[0] >= 20'000 && times[0] <= 22'000 ? 0 : 1;
            }),
            0);
}

// What `bytes` take from a to b over TCP, in seconds; negative when it fails.
double Transfer(World& world, uint64_t bytes) {
  const int listener = world.SocketOn(1, SOCK_STREAM);
  const int sender = world.SocketOn(0, SOCK_STREAM);
  const sockaddr_in address = AddressOf(world.hosts[1]);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 1) != 0) {
    return -1;
  }
  if (::connect(sender, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return -1;
  }
  const int receiver = ::accept(listener, nullptr, nullptr);
  const auto begin = Clock::now();
  std::thread sending([&] {
    std::vector<char> block(1 << 18);
    for (uint64_t sent = 0; sent < bytes;) {
      const ssize_t n = ::send(sender, block.data(), std::min<uint64_t>(block.size(), bytes - sent),
                               MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<uint64_t>(n);
    }
  });
  std::vector<char> block(1 << 18);
  uint64_t received = 0;
  while (received < bytes && Readable(receiver, 10'000)) {
    const ssize_t n = ::recv(receiver, block.data(), block.size(), 0);
    if (n <= 0) break;
    received += static_cast<uint64_t>(n);
  }
  ::shutdown(receiver, SHUT_RDWR);
  sending.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  for (int fd : {listener, sender, receiver}) ::close(fd);
  return received == bytes ? seconds : -1;
}

TEST_F(LabTest, TcpIsHeldToTheRate) {
  EXPECT_EQ(InLab([] {
              World world(Access(20, Milliseconds(1)));
              const double seconds = Transfer(world, 2'000'000);  // 0.8 s at 20 Mbit/s
              std::fprintf(stderr, "2 MB at 20 Mbit/s: %.3f s\n", seconds);
              return seconds > 0.75 && seconds < 1.6 ? 0 : 1;
            }),
            0);
}

TEST_F(LabTest, TcpSurvivesLosses) {
  EXPECT_EQ(InLab([] {
              HostShape shape = Access(200, Milliseconds(1));
              shape.up.loss = shape.down.loss = 0.01;
              World world(shape);
              const double seconds = Transfer(world, 3'000'000);
              const EmulatorReport report = world.emulator->report();
              uint64_t losses = 0;
              for (const LinkCounters& link : report.links) losses += link.losses;
              std::fprintf(stderr, "3 MB with 2 %% losses: %.3f s, %lu segments lost\n", seconds,
                           static_cast<unsigned long>(losses));
              return seconds > 0 && losses > 10 ? 0 : 1;
            }),
            0);
}

TEST_F(LabTest, StockHostRefusesBbr) {
  EXPECT_EQ(InLab([] {
              World world(Access(100, Milliseconds(1)), HostKernel::kStock);
              const int listener = world.SocketOn(1, SOCK_STREAM);
              const int a = world.SocketOn(0, SOCK_STREAM);
              const sockaddr_in address = AddressOf(world.hosts[1]);
              ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address);
              ::listen(listener, 1);
              if (::connect(a, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
                return 2;
              }
              const int b = ::accept(listener, nullptr, nullptr);
              for (int fd : {a, b}) {
                char name[16] = {};
                socklen_t size = sizeof name;
                if (::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3) == 0) return 3;
                ::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size);
                if (std::strcmp(name, "cubic") != 0) return 4;
              }
              return 0;
            }),
            0);
}

TEST_F(LabTest, ProgramRunsOnItsHostAndDiesWithTheLab) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_EQ(InLab([&] {
              World world(Access(100, Milliseconds(1)));
              HostCommand command;
              command.argv = {"sh", "-c", "hostname; cat /proc/net/dev | grep -c wan0"};
              command.stdout_fd = ends[1];
              auto process = HostProcess::Start(&world.hosts[1], command);
              if (!process.ok()) return 2;
              if ((*process)->Wait() != 0) return 3;
              command.argv = {"no-such-program-anywhere"};
              if (HostProcess::Start(&world.hosts[1], command).ok()) return 4;
              // Left running in a session of its own; holds the pipe until it dies.
              command.argv = {"setsid", "sleep", "1000"};
              return HostProcess::Start(&world.hosts[0], command).ok() ? 7 : 5;
            }),
            7);
  ::close(ends[1]);
  std::string text;
  char block[256];
  ssize_t n;
  while (Readable(ends[0], 30'000) && (n = ::read(ends[0], block, sizeof block)) > 0) {
    text.append(block, static_cast<size_t>(n));
  }
  ::close(ends[0]);
  EXPECT_EQ(text, "b\n1\n");
}

}  // namespace
}  // namespace longhaul::wan
