// A program that runs on one host of a lab: in the host's network, under the host's name, as a
// process group of its own. Killed with its group and reaped when the object goes.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "wan/emulate/namespaces.h"

namespace longhaul::wan {

struct HostCommand {
  std::vector<std::string> argv;                                 // found through PATH
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  std::string output_file;  // stdout and stderr; "" leaves them where ours go
  int stdout_fd = -1;       // instead, for stdout alone
  int stderr_fd = -1;
  bool network_rights = false;  // may look at and change its host's network: ping, ip, tcpdump
  bool foreground = false;      // keeps our stdin and our process group: the terminal's
};

class HostProcess {
 public:
  // `host` null: the network that we are in. NotFound when there is no such program.
  static absl::StatusOr<std::unique_ptr<HostProcess>> Start(const LabHost* host,
                                                            const HostCommand& command);
  ~HostProcess();
  HostProcess(const HostProcess&) = delete;
  HostProcess& operator=(const HostProcess&) = delete;

  void Signal(int signal);  // to the group; in the foreground to the process alone
  // Exit code (128 + signal when a signal ended it) once it has ended.
  std::optional<int> Poll();
  int Wait();
  pid_t pid() const { return pid_; }

 private:
  HostProcess(pid_t pid, bool group) : pid_(pid), group_(group) {}
  pid_t pid_;
  bool group_;
  std::optional<int> exit_;
};

}  // namespace longhaul::wan
