// Sends parts of the run's data set to workers, from the coordinator or from another worker: what
// training waits for at once, the rest when the model is not being exchanged, because both share
// this machine's uplink. A thread of its own, because the data may come from another machine.
//
// Stateless: a request that is lost or dropped is made again by whoever needs it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "proto/messages.h"
#include "transport/frame.h"

namespace longhaul {

class BlobServer {
 public:
  static constexpr size_t kMaxRequests = 4096;           // that wait, of all workers
  static constexpr size_t kMaxRequestsOfRoute = 64;      // of one
  static constexpr Duration kYield = Milliseconds(200);  // after the exchange's last chunk
  static constexpr Duration kForget = Seconds(60);       // a request that could not be sent

  struct Options {
    // On the server's thread. The bytes, as many as asked for. Unavailable: not here yet; asked
    // again after NoteNews while the request is younger than `hold`.
    std::function<absl::StatusOr<std::string>(const FetchBlob&)> read;
    std::function<void(const std::string& route, const Message&)> send_control;  // any thread
    std::function<bool(const std::string& route, std::vector<Frame>&&)>
        send_bulk;  // any thread; false: no room
    Duration hold{0};
  };

  explicit BlobServer(Options options);
  ~BlobServer();
  void Stop();  // calls nobody afterwards; by the owner, any number of times

  // All of these: any thread, quick.
  // False when there is no place for it. A request that waits already may become urgent.
  bool Serve(const std::string& route, const FetchBlob& request);
  void Room(const std::string& route);
  void NoteExchange();  // a chunk of the model has just been sent
  void NoteNews();      // something that was not here has come
  uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    std::string route;
    FetchBlob request;
    Clock::time_point since;
    uint64_t tried = 0;  // when it was not here: the news of then
  };
  enum class Answered { kYes, kNoRoom, kNotHere };

  void Run();
  // The first that may go now; with the lock held.
  std::list<Waiting>::iterator Next(Clock::time_point now);
  Answered Answer(const Waiting& waiting);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Waiting> waiting_;  // in the order of coming
  std::set<std::string> full_;  // routes without room
  Clock::time_point last_exchange_{};
  std::atomic<uint64_t> sent_bytes_{0};
  uint64_t news_ = 1;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace longhaul
