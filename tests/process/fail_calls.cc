// Preloaded into a program under test (LD_PRELOAD): lets one of its file calls fail, or ends the
// program there. What tells it so are two environment variables:
//
//   LONGHAUL_FAULT=CALL:PATH:WHEN:ACTION
//     CALL    write, fdatasync, fsync, rename, or any of them: any
//     PATH    text that the file's path must hold; only files with a path count, no sockets
//     WHEN    3 = the third such call of the process, 3+ = the third and all that follow
//     ACTION  kill (SIGKILL before the call), torn (half of a write, then SIGKILL), EIO, ENOSPC
//   LONGHAUL_FAULT_LOG=FILE   a line "CALL PATH" for each such call of a file with a path
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

enum class Action { kNone, kKill, kTorn, kFail };

struct Fault {
  std::string call, path;
  unsigned long when = 0;
  bool from_then_on = false;
  Action action = Action::kNone;
  int error = 0;
  int log = -1;
  std::atomic<unsigned long> calls{0};
};

[[noreturn]] void Die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

std::string NextWord(std::string& text) {
  const size_t colon = text.find(':');
  std::string word = text.substr(0, colon);
  text = colon == std::string::npos ? "" : text.substr(colon + 1);
  return word;
}

Fault* ReadFault() {
  auto* fault = new Fault;
  if (const char* log = std::getenv("LONGHAUL_FAULT_LOG"))
    fault->log = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const char* text = std::getenv("LONGHAUL_FAULT");
  if (text == nullptr) return fault;
  std::string rest = text;
  fault->call = NextWord(rest);
  fault->path = NextWord(rest);
  const std::string when = NextWord(rest);
  fault->when = std::strtoul(when.c_str(), nullptr, 10);
  fault->from_then_on = !when.empty() && when.back() == '+';
  if (rest == "kill") fault->action = Action::kKill;
  if (rest == "torn") fault->action = Action::kTorn;
  if (rest == "EIO" || rest == "ENOSPC") fault->action = Action::kFail;
  fault->error = rest == "EIO" ? EIO : ENOSPC;
  if (fault->action == Action::kNone || fault->when == 0) {
    std::fprintf(stderr, "LONGHAUL_FAULT=%s makes no sense\n", text);
    std::abort();
  }
  return fault;
}

Fault& TheFault() {
  static Fault* fault = ReadFault();
  return *fault;
}

std::string PathOf(int descriptor) {
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t n = ::readlink(link.c_str(), path, sizeof path);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : "";
}

Action Next(const char* call, const std::string& path) {
  Fault& f = TheFault();
  if (path.empty() || path[0] != '/') return Action::kNone;
  if (f.log >= 0) {
    const std::string line = std::string(call) + " " + path + "\n";
    syscall(SYS_write, f.log, line.data(), line.size());
  }
  if (f.action == Action::kNone || (f.call != "any" && f.call != call) ||
      path.find(f.path) == std::string::npos)
    return Action::kNone;
  const unsigned long number = ++f.calls;
  if (number != f.when && !(f.from_then_on && number > f.when)) return Action::kNone;
  if (f.action == Action::kKill) Die();
  return f.action;
}

int Fail() {
  errno = TheFault().error;
  return -1;
}

template <class F>
F* Real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED ssize_t write(int descriptor, const void* bytes, size_t size) {
  switch (Next("write", PathOf(descriptor))) {
    case Action::kFail:
      return Fail();
    case Action::kTorn:
      syscall(SYS_write, descriptor, bytes, size / 2);
      Die();
    default:
      return syscall(SYS_write, descriptor, bytes, size);
  }
}

EXPORTED int fdatasync(int descriptor) {
  static auto* const real = Real<int(int)>("fdatasync");
  return Next("fdatasync", PathOf(descriptor)) == Action::kFail ? Fail() : real(descriptor);
}

EXPORTED int fsync(int descriptor) {
  static auto* const real = Real<int(int)>("fsync");
  return Next("fsync", PathOf(descriptor)) == Action::kFail ? Fail() : real(descriptor);
}

EXPORTED int rename(const char* from, const char* to) noexcept {
  static auto* const real = Real<int(const char*, const char*)>("rename");
  char full[PATH_MAX];
  const std::string path = from[0] == '/' || !getcwd(full, sizeof full)
                               ? std::string(from)
                               : std::string(full) + "/" + from;
  return Next("rename", path) == Action::kFail ? Fail() : real(from, to);
}
