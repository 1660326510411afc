#include "wan/emulate/host_process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace longhaul::wan {
namespace {

int CodeOf(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

constexpr int kNetworkRights[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE};

// Rights survive exec of an ordinary user's program only as ambient ones (capabilities(7)).
void KeepNetworkRights() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return;
  for (int right : kNetworkRights) data[0].inheritable |= 1u << right;
  if (::syscall(SYS_capset, &header, data) != 0) return;
  for (int right : kNetworkRights) {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, right, 0, 0);
  }
}

void Redirect(const HostCommand& command) {
  if (!command.foreground) ::dup2(::open("/dev/null", O_RDONLY), 0);
  int out = command.stdout_fd;
  int err = command.stderr_fd;
  if (!command.output_file.empty()) {
    const int file = ::open(command.output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (out < 0) out = file;
    if (err < 0) err = file;
  }
  if (out >= 0) ::dup2(out, 1);
  if (err >= 0) ::dup2(err, 2);
}

[[noreturn]] void Become(const LabHost* host, const HostCommand& command, char** argv, int pipe) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!command.foreground) ::setpgid(0, 0);
  for (int signal : {SIGINT, SIGTERM, SIGPIPE, SIGQUIT}) std::signal(signal, SIG_DFL);
  if (host != nullptr) {
    if (!host->Enter()) ::_exit(127);
    if (::unshare(CLONE_NEWUTS) == 0) {
      (void)!::sethostname(host->name().data(), host->name().size());
    }
  }
  if (command.network_rights) KeepNetworkRights();
  Redirect(command);
  for (const auto& [name, value] : command.environment) ::setenv(name.c_str(), value.c_str(), 1);
  ::execvp(argv[0], argv);
  const int error = errno;
  (void)!::write(pipe, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostProcess>> HostProcess::Start(const LabHost* host,
                                                                const HostCommand& command) {
  std::vector<char*> argv;
  for (const std::string& word : command.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("pipe: ", std::strerror(errno)));
  }
  const pid_t pid = ::fork();
  if (pid == 0) Become(host, command, argv.data(), ends[1]);
  const int fork_error = errno;
  ::close(ends[1]);
  int exec_error = 0;
  const ssize_t n = pid > 0 ? ::read(ends[0], &exec_error, sizeof exec_error) : 0;
  ::close(ends[0]);
  if (pid < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("fork: ", std::strerror(fork_error)));
  }
  auto process = std::unique_ptr<HostProcess>(new HostProcess(pid, !command.foreground));
  if (n == sizeof exec_error) {
    return absl::NotFoundError(
        absl::StrCat("cannot start ", command.argv[0], ": ", std::strerror(exec_error)));
  }
  return process;
}

HostProcess::~HostProcess() {
  Signal(SIGKILL);
  Wait();
}

void HostProcess::Signal(int signal) {
  // A group may outlive its first process; its number stays taken as long as a member lives.
  if (group_ && (!exit_ || signal == SIGKILL)) ::kill(-pid_, signal);
  if (!group_ && !exit_) ::kill(pid_, signal);
}

std::optional<int> HostProcess::Poll() {
  int status = 0;
  if (!exit_ && ::waitpid(pid_, &status, WNOHANG) == pid_) exit_ = CodeOf(status);
  return exit_;
}

int HostProcess::Wait() {
  int status = 0;
  while (!exit_) {
    const pid_t got = ::waitpid(pid_, &status, 0);
    if (got == pid_) exit_ = CodeOf(status);
    if (got < 0 && errno != EINTR) exit_ = 127;
  }
  return *exit_;
}

}  // namespace longhaul::wan
