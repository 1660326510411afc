// A lab: a process tree in namespaces of its own (user, mount, process ids), with a network
// namespace and a TUN device per host. An ordinary user may make one where the system allows user
// namespaces. Nothing of it outlives its first process: no named namespace, no interface, no
// process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace longhaul::wan {

// Whether this system lets us make a lab, tried for real in a child process.
struct LabProbe {
  bool possible = false;
  std::string problem;  // what was refused
  std::string remedy;   // one line to type; "" when there is none
};
LabProbe ProbeLab();

// Forks; `body` runs as the first process of a new lab, and its result becomes ours. SIGINT and
// SIGTERM to this process reach the body (which must handle them); when the body ends, whatever it
// started is killed, and when this process is killed, so is the lab. FailedPrecondition, with the
// remedy, when the system refuses. Call while no other thread runs.
absl::StatusOr<int> RunInLab(const std::function<int()>& body);

// What a host's kernel is set to.
enum class HostKernel {
  kTuned,  // the two commands were run: BBR, 64 MiB buffers, no slow start after idle
  kStock,  // as distributions ship it: CUBIC, nothing else allowed, 6 and 4 MiB buffers
};

struct HostOptions {
  std::string name;
  uint32_t index = 0;  // 0 to kMaxHosts - 1
  HostKernel kernel = HostKernel::kTuned;
  uint32_t max_offload_bytes = 65'536;  // longest packet that stands for several segments
};

inline constexpr uint32_t kMaxHosts = 250;
// "10.77.0.1" for index 0.
std::string HostAddress(uint32_t index);
// The index for an address in host byte order; kMaxHosts when it is none of ours.
uint32_t HostOfAddress(uint32_t address);

// A host of the lab: a network namespace with a TUN device. Owns both descriptors.
class LabHost {
 public:
  // Only inside a lab, on its main thread, which is then in the host's network.
  static absl::StatusOr<LabHost> Create(const HostOptions& options);
  LabHost(LabHost&& other) noexcept;
  LabHost& operator=(LabHost&& other) noexcept;
  LabHost(const LabHost&) = delete;
  LabHost& operator=(const LabHost&) = delete;
  ~LabHost();

  int tun() const { return tun_; }  // non-blocking; packets as in packet.h
  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }

  // Moves the calling thread into the host's network. False: refused.
  bool Enter() const;

 private:
  LabHost() = default;
  std::string name_;
  std::string address_;
  int tun_ = -1;
  int network_ = -1;
};

// Makes the hosts' names known inside the lab, through /etc/hosts. Only inside a lab.
absl::Status NameHosts(const std::vector<std::string>& names);

}  // namespace longhaul::wan
