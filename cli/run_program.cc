#include "cli/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

class Pipe {
 public:
  Pipe() { ok_ = ::pipe2(ends_, O_CLOEXEC) == 0; }
  ~Pipe() {
    CloseWriter();
    if (ok_) ::close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  bool ok() const { return ok_; }
  int reader() const { return ends_[0]; }
  int writer() const { return ends_[1]; }
  void CloseWriter() {
    if (ok_ && ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
  bool ok_ = false;
};

absl::StatusOr<pid_t> Spawn(const std::string& path, const std::vector<std::string>& arguments,
                            int output) {
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, path.c_str(), &actions, nullptr, argv.data(), ::environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::NotFoundError("cannot start " + path + ": " + strerror(error));
  return pid;
}

// Reads until the program closes its output; false when the time is over.
bool ReadAll(int descriptor, Clock::time_point end, std::string& text) {
  char buffer[4096];
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    pollfd entry{descriptor, POLLIN, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count(), 60'000)));
    if (ready <= 0) continue;
    const ssize_t n = ::read(descriptor, buffer, sizeof buffer);
    if (n == 0) return true;
    if (n < 0) continue;
    text.append(buffer, std::min<size_t>(n, kMaxProgramOutput - text.size()));
  }
}

}  // namespace

absl::StatusOr<ProgramOutput> RunProgram(const std::string& path,
                                         const std::vector<std::string>& arguments,
                                         Duration timeout) {
  const auto end = Clock::now() + timeout;
  Pipe pipe;
  if (!pipe.ok()) return absl::ResourceExhaustedError(std::string("pipe: ") + strerror(errno));
  const absl::StatusOr<pid_t> pid = Spawn(path, arguments, pipe.writer());
  if (!pid.ok()) return pid.status();
  pipe.CloseWriter();
  ProgramOutput out;
  const bool ended = ReadAll(pipe.reader(), end, out.text);
  if (!ended) ::kill(*pid, SIGKILL);
  int state = 0;
  while (::waitpid(*pid, &state, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return absl::DeadlineExceededError(path + " did not end in time");
  out.exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  return out;
}

}  // namespace longhaul
