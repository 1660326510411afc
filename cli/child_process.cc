#include "cli/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace longhaul {
namespace {

int CodeOf(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& argv, const std::string& log_file) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  if (::access(words[0], X_OK) != 0)
    return absl::NotFoundError("cannot start " + argv[0] + ": " + std::strerror(errno));
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return absl::ResourceExhaustedError(std::string("fork: ") + std::strerror(errno));
  if (pid > 0) return std::unique_ptr<ChildProcess>(new ChildProcess(pid));
  // The child: only calls that are safe after fork in a program with threads.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);
  ::setpgid(0, 0);  // Ctrl-C reaches us alone; we tell the children
  const int in = ::open("/dev/null", O_RDONLY);
  const int out = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execv(words[0], words.data());
  ::_exit(127);
}

ChildProcess::~ChildProcess() {
  if (Poll()) return;
  Signal(SIGKILL);
  Wait();
}

void ChildProcess::Signal(int signal) {
  if (!exit_) ::kill(pid_, signal);
}

std::optional<int> ChildProcess::Poll() {
  int status = 0;
  if (!exit_ && ::waitpid(pid_, &status, WNOHANG) == pid_) exit_ = CodeOf(status);
  return exit_;
}

int ChildProcess::Wait() {
  int status = 0;
  while (!exit_) {
    if (::waitpid(pid_, &status, 0) == pid_) exit_ = CodeOf(status);
  }
  return *exit_;
}

}  // namespace longhaul
