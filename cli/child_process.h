// A program that we start, may kill, and wait for. Killed and reaped when the object goes.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul {

class ChildProcess {
 public:
  // No shell, no PATH. stdout and stderr go to `log_file`, stdin is empty. The child gets SIGTERM
  // when we die.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& argv,
                                                             const std::string& log_file);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void Signal(int signal);
  // Exit code (128 + signal when a signal ended it) once it has ended.
  std::optional<int> Poll();
  int Wait();
  pid_t pid() const { return pid_; }

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::optional<int> exit_;
};

}  // namespace longhaul
