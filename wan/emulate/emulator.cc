#include "wan/emulate/emulator.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "wan/emulate/namespaces.h"
#include "wan/emulate/packet.h"

namespace longhaul::wan {
namespace {

constexpr int kReadBatch = 32;  // packets of one device before the others get their turn
constexpr Duration kLongestWait = Milliseconds(100);
constexpr Duration kReportEvery = Milliseconds(100);
constexpr int kWantedNice = -15;  // refused to ordinary users, who do without

Duration Now() {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch());
}

class TunEmulator : public Emulator {
 public:
  TunEmulator(std::vector<int> tuns, Network network)
      : tuns_(std::move(tuns)), network_(std::move(network)) {}
  ~TunEmulator() override;

  absl::Status Begin();
  void Change(std::function<void(Network&)> change) override;
  EmulatorReport report() const override;
  void ResetLateness() override { reset_lateness_ = true; }

 private:
  void Run();
  void Wait();
  void ReadDevice(uint32_t host);
  void DeliverDue();
  void Deliver(const Network::Delivery& delivery, Duration now);
  void ApplyChanges();
  void Publish(Duration now);
  void Wake();

  const std::vector<int> tuns_;
  Network network_;
  int epoll_ = -1;
  int wake_ = -1;
  std::atomic<bool> stop_{false};
  std::atomic<bool> reset_lateness_{false};
  std::vector<uint32_t> readable_;  // hosts
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(kVnetHeaderBytes + kMaxPacketBytes);
  EmulatorReport live_;  // the thread's, as is the next
  Lateness lateness_;
  Duration next_report_{0};
  mutable std::mutex mutex_;  // the two below
  EmulatorReport report_;
  std::vector<std::function<void(Network&)>> changes_;
  std::thread thread_;
};

TunEmulator::~TunEmulator() {
  stop_ = true;
  if (wake_ >= 0) Wake();
  if (thread_.joinable()) thread_.join();
  if (epoll_ >= 0) ::close(epoll_);
  if (wake_ >= 0) ::close(wake_);
}

absl::Status TunEmulator::Begin() {
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const auto watch = [&](int fd, uint32_t number) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = number;
    return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
  };
  bool watched = epoll_ >= 0 && wake_ >= 0 && watch(wake_, kMaxHosts);
  for (uint32_t i = 0; i < tuns_.size(); ++i) watched = watched && watch(tuns_[i], i);
  if (!watched) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot watch devices: ", std::strerror(errno)));
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void TunEmulator::Wake() {
  const uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

void TunEmulator::Change(std::function<void(Network&)> change) {
  {
    std::lock_guard lock(mutex_);
    changes_.push_back(std::move(change));
  }
  Wake();
}

EmulatorReport TunEmulator::report() const {
  std::lock_guard lock(mutex_);
  return report_;
}

void TunEmulator::Run() {
  ::prctl(PR_SET_TIMERSLACK, 1);
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kWantedNice);
  while (!stop_) {
    Wait();
    const Duration begin = Now();
    if (reset_lateness_.exchange(false)) lateness_.Forget();
    for (uint32_t host : readable_) ReadDevice(host);
    DeliverDue();
    const Duration end = Now();
    lateness_.NoteTurn(end - begin);
    if (end >= next_report_) Publish(end);
  }
}

// Until a device has packets, one is due, or somebody calls.
void TunEmulator::Wait() {
  const std::optional<Duration> due = network_.NextDue();
  const Duration left = due ? std::clamp(*due - Now(), Duration(0), kLongestWait) : kLongestWait;
  timespec timeout{0, static_cast<long>(left.count())};
  epoll_event events[64];
  const int n = ::epoll_pwait2(epoll_, events, 64, &timeout, nullptr);
  readable_.clear();
  for (int i = 0; i < n; ++i) {
    if (events[i].data.u32 < tuns_.size()) {
      readable_.push_back(events[i].data.u32);
    } else {
      ApplyChanges();
    }
  }
}

void TunEmulator::ApplyChanges() {
  uint64_t count;
  (void)!::read(wake_, &count, sizeof count);
  std::vector<std::function<void(Network&)>> changes;
  {
    std::lock_guard lock(mutex_);
    changes.swap(changes_);
  }
  for (auto& change : changes) change(network_);
}

void TunEmulator::ReadDevice(uint32_t host) {
  for (int i = 0; i < kReadBatch; ++i) {
    const ssize_t n = ::read(tuns_[host], buffer_.data(), buffer_.size());
    if (n <= 0) return;
    std::optional<Parcel> parcel = ParseParcel({buffer_.data(), static_cast<size_t>(n)});
    const uint32_t to = parcel ? HostOfAddress(DestinationOf(*parcel)) : kMaxHosts;
    if (to >= tuns_.size()) {
      ++live_.foreign;
      continue;
    }
    parcel->from = host;
    parcel->to = to;
    network_.Send(Now(), std::move(*parcel));
  }
}

void TunEmulator::DeliverDue() {
  Duration now = Now();
  while (auto delivery = network_.Receive(now)) {
    Deliver(*delivery, now);
    now = Now();
  }
}

void TunEmulator::Deliver(const Network::Delivery& delivery, Duration now) {
  const std::vector<uint8_t>& bytes = delivery.parcel.bytes;
  lateness_.NoteDelivery(now - delivery.due);
  if (::write(tuns_[delivery.parcel.to], bytes.data(), bytes.size()) < 0) ++live_.write_drops;
}

void TunEmulator::Publish(Duration now) {
  next_report_ = now + kReportEvery;
  live_.Take(lateness_);
  live_.links.clear();
  for (const Link& link : network_.links()) live_.links.push_back(link.counters());
  std::lock_guard lock(mutex_);
  report_ = live_;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Emulator>> Emulator::Start(std::vector<int> tuns, Network network) {
  auto emulator = std::make_unique<TunEmulator>(std::move(tuns), std::move(network));
  if (absl::Status status = emulator->Begin(); !status.ok()) return status;
  return std::unique_ptr<Emulator>(std::move(emulator));
}

}  // namespace longhaul::wan
