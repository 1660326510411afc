#include "wan/emulate/namespaces.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "wan/emulate/rtnetlink.h"

namespace longhaul::wan {
namespace {

constexpr uint32_t kNetwork = 0x0A4D0000;  // 10.77.0.0/24
constexpr uint8_t kPrefixBits = 24;
constexpr char kDevice[] = "wan0";
constexpr uint32_t kQueuePackets = 10'000;
constexpr int kMtu = 1500;
constexpr char kTunFile[] = "/dev/net/tun";

absl::Status Refused(const char* what) {
  return absl::FailedPreconditionError(absl::StrCat(what, ": ", std::strerror(errno)));
}

bool WriteFile(const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(fd);
  errno = error;
  return written;
}

std::string ReadLine(const char* path) {
  char text[64] = {};
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  const ssize_t n = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  std::string out(text, n > 0 ? static_cast<size_t>(n) : 0);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// Our own user and group keep their numbers inside, so that files keep their owners.
absl::Status MapOurselves(uid_t uid, gid_t gid) {
  WriteFile("/proc/self/setgroups", "deny");
  if (!WriteFile("/proc/self/gid_map", absl::StrCat(gid, " ", gid, " 1")) ||
      !WriteFile("/proc/self/uid_map", absl::StrCat(uid, " ", uid, " 1"))) {
    return Refused("the system gives no rights inside a user namespace");
  }
  return absl::OkStatus();
}

// The administrator needs no user namespace, where the machine does not take that right away.
absl::Status EnterNamespaces() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  constexpr int kOthers = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET;
  if (uid == 0 && ::unshare(kOthers) == 0) return absl::OkStatus();
  if (::unshare(CLONE_NEWUSER) != 0) return Refused("user namespaces are forbidden here");
  RETURN_IF_ERROR(MapOurselves(uid, gid));
  if (::unshare(kOthers) != 0) return Refused("network namespaces are forbidden here");
  return absl::OkStatus();
}

absl::Status Control(int fd, unsigned long request, void* argument, const char* what) {
  return ::ioctl(fd, request, argument) == 0 ? absl::OkStatus() : Refused(what);
}

ifreq RequestFor(const char* device) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

void PutAddress(ifreq* request, uint32_t address) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(address);
  std::memcpy(&request->ifr_addr, &in, sizeof in);
}

absl::StatusOr<int> OpenTun() {
  const int fd = ::open(kTunFile, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return Refused(kTunFile);
  ifreq request = RequestFor(kDevice);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  absl::Status status = Control(fd, TUNSETIFF, &request, "cannot make a TUN device");
  if (status.ok() && ::ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) != 0) {
    status = Refused("cannot set up a TUN device");
  }
  if (status.ok()) return fd;
  ::close(fd);
  return status;
}

absl::Status BringUp(int socket, const char* device) {
  ifreq request = RequestFor(device);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return Control(socket, SIOCSIFFLAGS, &request, "cannot start a network interface");
}

absl::Status Configure(int socket, const HostOptions& options) {
  const uint32_t address = kNetwork + options.index + 1;
  ifreq request = RequestFor(kDevice);
  request.ifr_mtu = kMtu;
  RETURN_IF_ERROR(Control(socket, SIOCSIFMTU, &request, "cannot set the packet size"));
  PutAddress(&request, address);
  RETURN_IF_ERROR(Control(socket, SIOCSIFADDR, &request, "cannot set an address"));
  PutAddress(&request, ~uint32_t{0} << (32 - kPrefixBits));
  RETURN_IF_ERROR(Control(socket, SIOCSIFNETMASK, &request, "cannot set a netmask"));
  RETURN_IF_ERROR(SetInterface(kDevice, kQueuePackets, options.max_offload_bytes));
  RETURN_IF_ERROR(BringUp(socket, "lo"));
  RETURN_IF_ERROR(BringUp(socket, kDevice));
  const bool stock = options.kernel == HostKernel::kStock;
  return SetRoute(kDevice, kNetwork, kPrefixBits, address, stock ? "cubic" : "bbr", stock);
}

struct KernelSetting {
  const char* file;
  const char* stock;
  const char* tuned;
};
constexpr KernelSetting kSettings[] = {
    {"/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456", "4096 131072 67108864"},
    {"/proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304", "4096 16384 67108864"},
    {"/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "0"},
    // What one run learnt about a path must not change the next.
    {"/proc/sys/net/ipv4/tcp_no_metrics_save", "1", "1"},
};

absl::Status SetKernel(HostKernel kernel) {
  for (const KernelSetting& setting : kSettings) {
    const char* value = kernel == HostKernel::kStock ? setting.stock : setting.tuned;
    if (!WriteFile(setting.file, value)) return Refused(setting.file);
  }
  WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");  // absent without IPv6
  return absl::OkStatus();
}

std::string RemedyFor(const absl::Status& status) {
  const std::string what(status.message());
  if (what.find(kTunFile) != std::string::npos) {
    return ::access(kTunFile, F_OK) == 0
               ? "sudo chmod 666 /dev/net/tun"
               : "sudo modprobe tun   (in a container: --device /dev/net/tun)";
  }
  if (what.find("congestion control") != std::string::npos) {
    return "sudo modprobe -a tcp_bbr tcp_cubic";
  }
  if (ReadLine("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  }
  if (ReadLine("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    return "sudo sysctl -w kernel.unprivileged_userns_clone=1";
  }
  if (ReadLine("/proc/sys/user/max_user_namespaces") == "0") {
    return "sudo sysctl -w user.max_user_namespaces=10000";
  }
  return "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
         "--device /dev/net/tun, or --privileged";
}

// The process in the middle: it owns the namespaces, waits for the body and passes signals on.
volatile pid_t body_pid = 0;  // read by its signal handler
void PassOn(int signal) {
  if (body_pid > 0) ::kill(body_pid, signal);
}

int ExitCodeOf(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int WaitFor(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return ExitCodeOf(status);
}

void TellProblem(int pipe, const absl::Status& status) {
  const std::string text(status.message());
  (void)!::write(pipe, text.data(), text.size());
}

[[noreturn]] void Keep(int pipe, const std::function<int()>& body) {
  if (absl::Status status = EnterNamespaces(); !status.ok()) {
    TellProblem(pipe, status);
    ::_exit(127);
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const pid_t pid = ::fork();
  if (pid < 0) {
    TellProblem(pipe, Refused("fork"));
    ::_exit(127);
  }
  if (pid > 0) {
    body_pid = pid;
    std::signal(SIGINT, SIG_IGN);  // the terminal tells the body, too
    std::signal(SIGTERM, PassOn);
    ::close(pipe);
    ::_exit(WaitFor(pid));
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  // Refused in some containers; then /proc shows the processes outside.
  ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  ::close(pipe);
  const int code = body();
  std::fflush(nullptr);
  ::_exit(code);
}

}  // namespace

absl::StatusOr<int> RunInLab(const std::function<int()>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Refused("pipe");
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return Refused("fork");
  if (pid == 0) {
    ::close(ends[0]);
    Keep(ends[1], body);
  }
  ::close(ends[1]);
  auto* old_interrupt = std::signal(SIGINT, SIG_IGN);
  body_pid = pid;
  auto* old_terminate = std::signal(SIGTERM, PassOn);
  char problem[512];
  const ssize_t n = ::read(ends[0], problem, sizeof problem);
  ::close(ends[0]);
  const int code = WaitFor(pid);
  body_pid = 0;
  std::signal(SIGINT, old_interrupt);
  std::signal(SIGTERM, old_terminate);
  if (n <= 0) return code;
  const absl::Status status =
      absl::FailedPreconditionError(std::string(problem, static_cast<size_t>(n)));
  return absl::FailedPreconditionError(
      absl::StrCat(std::string(status.message()), "; try: ", RemedyFor(status)));
}

LabProbe ProbeLab() {
  LabProbe out;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {false, std::strerror(errno), ""};
  const auto ran = RunInLab([write_end = ends[1]] {
    for (HostKernel kernel : {HostKernel::kTuned, HostKernel::kStock}) {
      HostOptions options;
      options.name = "probe";
      options.kernel = kernel;
      if (auto host = LabHost::Create(options); !host.ok()) {
        TellProblem(write_end, host.status());
        return 1;
      }
    }
    return 0;
  });
  ::close(ends[1]);
  char problem[512];
  const ssize_t n = ::read(ends[0], problem, sizeof problem);
  ::close(ends[0]);
  if (ran.ok() && *ran == 0) return {true, "", ""};
  const absl::Status status =
      n > 0 ? absl::FailedPreconditionError(std::string(problem, static_cast<size_t>(n)))
            : ran.status();
  out.problem = std::string(status.message());
  out.problem = out.problem.substr(0, out.problem.find("; try: "));
  out.remedy = RemedyFor(status);
  return out;
}

std::string HostAddress(uint32_t index) { return absl::StrCat("10.77.0.", index + 1); }

uint32_t HostOfAddress(uint32_t address) {
  const uint32_t index = address - kNetwork - 1;
  return index < kMaxHosts ? index : kMaxHosts;
}

absl::StatusOr<LabHost> LabHost::Create(const HostOptions& options) {
  LabHost host;
  host.name_ = options.name;
  host.address_ = HostAddress(options.index);
  if (::unshare(CLONE_NEWNET) != 0) return Refused("network namespaces are forbidden here");
  host.network_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (host.network_ < 0) return Refused("/proc/thread-self/ns/net");
  RETURN_IF_ERROR(SetKernel(options.kernel));
  ASSIGN_OR_RETURN(host.tun_, OpenTun());
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return Refused("socket");
  const absl::Status status = Configure(socket, options);
  ::close(socket);
  if (!status.ok()) return status;
  return host;
}

LabHost::LabHost(LabHost&& other) noexcept { *this = std::move(other); }

LabHost& LabHost::operator=(LabHost&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(address_, other.address_);
  std::swap(tun_, other.tun_);
  std::swap(network_, other.network_);
  return *this;
}

LabHost::~LabHost() {
  if (tun_ >= 0) ::close(tun_);
  if (network_ >= 0) ::close(network_);
}

bool LabHost::Enter() const { return ::setns(network_, CLONE_NEWNET) == 0; }

absl::Status NameHosts(const std::vector<std::string>& names) {
  char path[] = "/tmp/longhaul-hosts-XXXXXX";
  const int fd = ::mkstemp(path);
  if (fd < 0) return Refused("a temporary file");
  std::string text = "127.0.0.1 localhost\n";
  for (uint32_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&text, HostAddress(i), " ", names[i], "\n");
  }
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::fchmod(fd, 0644);
  ::close(fd);
  const bool mounted = written && ::mount(path, "/etc/hosts", nullptr, MS_BIND, nullptr) == 0;
  const absl::Status status = mounted ? absl::OkStatus() : Refused("/etc/hosts");
  ::unlink(path);
  return status;
}

}  // namespace longhaul::wan
