// Preloaded into a program under test (LD_PRELOAD): lets one of its file calls fail, or ends the
// program there. What tells it so are two environment variables:
//
//   LONGHAUL_FAULT=CALL:PATH:WHEN:ACTION
//     CALL    write, fdatasync, fsync, rename, or any of them: any; log: a line on stderr
//     PATH    text that the file's path must hold, at its end when it ends in $; only files with a
//             path count, no sockets. log: text that the line must hold
//     WHEN    3 = the third such call of the process, 3+ = the third and all that follow
//     ACTION  kill (SIGKILL before the call), after (SIGKILL after it), torn (half of a write, then
//             SIGKILL), power (before the call; what the files got since they were synced last is
//             lost), EIO (of a sync: what the file got since it was synced last is lost), ENOSPC;
//             log: kill or stop (SIGSTOP), after the line
//   LONGHAUL_FAULT_LOG=FILE   a line "CALL PATH" for each such call of a file with a path
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace {

enum class Action { kNone, kKill, kAfter, kTorn, kPower, kFail, kStop };

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
  if (rest == "after") fault->action = Action::kAfter;
  if (rest == "power") fault->action = Action::kPower;
  if (rest == "stop") fault->action = Action::kStop;
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

// How much of each file that was written to is on the disk.
class Durable {
 public:
  void BeforeWrite(const std::string& path, int descriptor) {
    const std::lock_guard lock(mutex_);
    const off_t size = SizeOf(descriptor);
    auto [file, is_new] = sizes_.try_emplace(path, size);
    if (size < file->second) file->second = size;  // truncated, or another file of that name
  }
  void Synced(const std::string& path, int descriptor) {
    const std::lock_guard lock(mutex_);
    auto file = sizes_.find(path);
    if (file != sizes_.end()) file->second = SizeOf(descriptor);
  }
  // A file, or a folder with all that is in it.
  void Renamed(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    std::map<std::string, off_t> moved;
    for (const auto& [path, size] : sizes_) {
      const bool inside = path == from || path.rfind(from + "/", 0) == 0;
      moved[inside ? to + path.substr(from.size()) : path] = size;
    }
    sizes_ = std::move(moved);
  }
  // Cuts off what is not durable, of the files whose path begins so.
  void Lose(const std::string& prefix) {
    const std::lock_guard lock(mutex_);
    for (const auto& [path, size] : sizes_) {
      if (path.rfind(prefix, 0) == 0 && ::truncate(path.c_str(), size) != 0) continue;  // removed
    }
  }

 private:
  static off_t SizeOf(int descriptor) {
    struct stat info {};
    return ::fstat(descriptor, &info) == 0 ? info.st_size : 0;
  }

  std::mutex mutex_;
  std::map<std::string, off_t> sizes_;
};

Durable& TheDisk() {
  static auto* disk = new Durable;
  return *disk;
}

bool Fits(const std::string& text, const std::string& wanted) {
  if (wanted.empty() || wanted.back() != '$') return text.find(wanted) != std::string::npos;
  const std::string end = wanted.substr(0, wanted.size() - 1);
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Counts the call when it is one that is meant; what is to be done about it.
Action Count(Fault& f, const char* call, const std::string& text) {
  const bool is_log = std::string_view(call) == "log";
  const bool named = f.call == call || (f.call == "any" && !is_log);
  if (f.action == Action::kNone || !named || !Fits(text, f.path)) return Action::kNone;
  const unsigned long number = ++f.calls;
  return number == f.when || (f.from_then_on && number > f.when) ? f.action : Action::kNone;
}

Action Next(const char* call, const std::string& path) {
  Fault& f = TheFault();
  if (path.empty() || path[0] != '/') return Action::kNone;
  if (f.log >= 0) {
    const std::string line = std::string(call) + " " + path + "\n";
    syscall(SYS_write, f.log, line.data(), line.size());
  }
  const Action action = Count(f, call, path);
  if (action == Action::kPower) TheDisk().Lose("/");
  if (action == Action::kKill || action == Action::kPower) Die();
  return action;
}

int Fail() {
  errno = TheFault().error;
  return -1;
}

template <class F>
F* Real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

// The call itself, unless it shall fail.
template <class F>
int Call(Action action, const F& real) {
  if (action == Action::kFail) return Fail();
  const int result = real();
  if (action == Action::kAfter) Die();
  return result;
}

int Sync(const char* call, int (*real)(int), int descriptor) {
  const std::string path = PathOf(descriptor);
  const Action action = Next(call, path);
  if (action == Action::kFail && !path.empty()) TheDisk().Lose(path);
  return Call(action, [&] {
    const int result = real(descriptor);
    if (result == 0) TheDisk().Synced(path, descriptor);
    return result;
  });
}

std::string Absolute(const char* path) {
  char folder[PATH_MAX];
  return path[0] == '/' || !getcwd(folder, sizeof folder) ? std::string(path)
                                                          : std::string(folder) + "/" + path;
}

size_t Print(const char* name, const void* bytes, size_t size, size_t count, FILE* file) {
  const size_t done =
      Real<size_t(const void*, size_t, size_t, FILE*)>(name)(bytes, size, count, file);
  if (file != stderr) return done;
  const std::string line(static_cast<const char*>(bytes), size * count);
  const Action action = Count(TheFault(), "log", line);
  if (action == Action::kStop) kill(getpid(), SIGSTOP);
  if (action == Action::kKill) Die();
  return done;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED ssize_t write(int descriptor, const void* bytes, size_t size) {
  const std::string path = PathOf(descriptor);
  const Action action = Next("write", path);
  if (action == Action::kFail) return Fail();
  if (!path.empty() && path[0] == '/') TheDisk().BeforeWrite(path, descriptor);
  const long done =
      syscall(SYS_write, descriptor, bytes, action == Action::kTorn ? size / 2 : size);
  if (action == Action::kTorn || action == Action::kAfter) Die();
  return done;
}

EXPORTED int fdatasync(int descriptor) {
  static auto* const real = Real<int(int)>("fdatasync");
  return Sync("fdatasync", real, descriptor);
}

EXPORTED int fsync(int descriptor) {
  static auto* const real = Real<int(int)>("fsync");
  return Sync("fsync", real, descriptor);
}

EXPORTED int rename(const char* from, const char* to) noexcept {
  static auto* const real = Real<int(const char*, const char*)>("rename");
  const std::string path = Absolute(from);
  return Call(Next("rename", path), [&] {
    const int result = real(from, to);
    if (result == 0) TheDisk().Renamed(path, Absolute(to));
    return result;
  });
}

EXPORTED size_t fwrite(const void* bytes, size_t size, size_t count, FILE* file) {
  return Print("fwrite", bytes, size, count, file);
}

EXPORTED size_t fwrite_unlocked(const void* bytes, size_t size, size_t count, FILE* file) {
  return Print("fwrite_unlocked", bytes, size, count, file);
}
