#include "wan/emulate/rtnetlink.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace longhaul::wan {
namespace {

// IFLA_GSO_MAX_SIZE; older headers lack it.
constexpr uint16_t kGsoMaxSize = 41;

class Request {
 public:
  Request(uint16_t type, uint16_t flags, const void* body, size_t size)
      : bytes_(NLMSG_SPACE(size), 0) {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header()->nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(size));
    std::memcpy(bytes_.data() + NLMSG_HDRLEN, body, size);
  }

  // Returns where the attribute begins, so that a nest can be closed.
  size_t Add(uint16_t type, const void* data, size_t size) {
    const size_t at = NLMSG_ALIGN(header()->nlmsg_len);
    bytes_.resize(at + RTA_SPACE(size), 0);
    auto* attribute = reinterpret_cast<rtattr*>(&bytes_[at]);
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    if (size > 0) std::memcpy(RTA_DATA(attribute), data, size);
    header()->nlmsg_len = static_cast<uint32_t>(bytes_.size());
    return at;
  }
  size_t Add(uint16_t type, uint32_t value) { return Add(type, &value, sizeof value); }
  void CloseNest(size_t at) {
    reinterpret_cast<rtattr*>(&bytes_[at])->rta_len = static_cast<uint16_t>(bytes_.size() - at);
  }

  absl::Status Do(const char* what) {
    const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int error = fd < 0 ? errno : 0;
    char answer[1024];
    if (error == 0 && ::send(fd, bytes_.data(), header()->nlmsg_len, 0) < 0) error = errno;
    const ssize_t n = error == 0 ? ::recv(fd, answer, sizeof answer, 0) : 0;
    if (fd >= 0) ::close(fd);
    if (error == 0) {
      nlmsghdr reply{};
      nlmsgerr status{};
      if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof status))) {
        error = EPROTO;
      } else {
        std::memcpy(&reply, answer, sizeof reply);
        std::memcpy(&status, answer + NLMSG_HDRLEN, sizeof status);
        error = reply.nlmsg_type == NLMSG_ERROR ? -status.error : EPROTO;
      }
    }
    if (error == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(what, ": ", std::strerror(error)));
  }

 private:
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  std::vector<char> bytes_;
};

}  // namespace

absl::Status SetInterface(const std::string& interface, uint32_t queue_packets,
                          uint32_t max_offload_bytes) {
  ifinfomsg body{};
  body.ifi_family = AF_UNSPEC;
  body.ifi_index = static_cast<int>(::if_nametoindex(interface.c_str()));
  Request request(RTM_NEWLINK, 0, &body, sizeof body);
  request.Add(IFLA_TXQLEN, queue_packets);
  request.Add(kGsoMaxSize, max_offload_bytes);
  return request.Do("cannot set the queue of an interface");
}

absl::Status SetRoute(const std::string& interface, uint32_t network, uint8_t prefix_bits,
                      uint32_t source, const std::string& congestion_control, bool locked) {
  rtmsg body{};
  body.rtm_family = AF_INET;
  body.rtm_dst_len = prefix_bits;
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = RTPROT_KERNEL;
  body.rtm_scope = RT_SCOPE_LINK;
  body.rtm_type = RTN_UNICAST;
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
  request.Add(RTA_DST, htonl(network));
  request.Add(RTA_OIF, ::if_nametoindex(interface.c_str()));
  request.Add(RTA_PREFSRC, htonl(source));
  const size_t metrics = request.Add(RTA_METRICS, nullptr, 0);
  if (locked) request.Add(RTAX_LOCK, 1u << RTAX_CC_ALGO);
  request.Add(RTAX_CC_ALGO, congestion_control.c_str(), congestion_control.size() + 1);
  request.CloseNest(metrics);
  return request.Do(("cannot choose congestion control " + congestion_control).c_str());
}

}  // namespace longhaul::wan
