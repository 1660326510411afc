#include "transport/link_probe.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>

#include "common/bounded_queue.h"
#include "common/bytes.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMagic = 0x4250484C;  // "LHPB"
constexpr uint16_t kFormat = 1;
constexpr size_t kHeaderBytes = 24;
constexpr double kRefillBytesPerS = 256 * 1024;
constexpr uint64_t kMessageCost = 1024;  // a probe without payload is not free either

constexpr uint64_t kLeastChunkBytes = 16 * 1024;
constexpr double kChunkSeconds = 0.03;   // of the rate so far
constexpr size_t kMostOutstanding = 32;  // chunks; below the server's queue per route
constexpr double kStartShare = 0.4;      // of the time, that the rate leaves out
constexpr size_t kInbox = 1024;
constexpr Duration kLook = Milliseconds(5);
constexpr Duration kStatsWait = Seconds(3);

enum class Kind : uint16_t {
  kUp = 1,  // payload; answered by kHeard
  kDown,    // asks for `bytes`; answered by kData
  kNote,    // asks for the note; answered by kNote with a payload
  kHeard,
  kData,
  kRefused,  // the budget is used up
};

struct Header {
  Kind kind = Kind::kUp;
  uint64_t number = 0;
  uint64_t bytes = 0;
};

Frame ToFrame(const Header& header) {
  ByteWriter w;
  w.U32(kMagic);
  w.U16(kFormat);
  w.U16(static_cast<uint16_t>(header.kind));
  w.U64(header.number);
  w.U64(header.bytes);
  return Frame(w.Take());
}

std::optional<Header> Parse(const Frame& frame) {
  ByteReader r(frame.bytes());
  Header out;
  if (r.U32() != kMagic || r.U16() != kFormat) return std::nullopt;
  out.kind = static_cast<Kind>(r.U16());
  out.number = r.U64();
  out.bytes = r.U64();
  if (!r.AtEnd()) return std::nullopt;
  return out;
}

std::vector<Frame> Message(const Header& header) {
  std::vector<Frame> frames;
  frames.push_back(ToFrame(header));
  return frames;
}

std::vector<Frame> Message(const Header& header, std::string payload) {
  std::vector<Frame> frames = Message(header);
  frames.emplace_back(std::move(payload));
  return frames;
}

double SecondsOf(Duration d) { return std::chrono::duration<double>(d).count(); }
Duration Now() { return Clock::now().time_since_epoch(); }

// One connection and what comes over it.
class Prober {
 public:
  explicit Prober(LinkProbeOptions options) : o_(std::move(options)) {}

  absl::StatusOr<LinkRates> Measure() {
    RETURN_IF_ERROR(Connect());
    LinkRates out;
    ASSIGN_OR_RETURN(out.note, AskNote());
    ASSIGN_OR_RETURN(const RateTimeline up, OneWay(Kind::kUp));
    ASSIGN_OR_RETURN(const RateTimeline down, OneWay(Kind::kDown));
    out.up_bytes_per_s = up.bytes_per_s();
    out.down_bytes_per_s = down.bytes_per_s();
    out.bytes = up.bytes() + down.bytes();
    out.congestion_control = client_->congestion_control();
    // The kernel's numbers are looked at a few times a second.
    for (const Duration until = Now() + kStatsWait; out.round_trip_ms == 0 && Now() < until;) {
      out.round_trip_ms = client_->stats().min_rtt_us / 1000.0;
      if (out.round_trip_ms == 0) (void)Hear(kLook);
    }
    return out;
  }

 private:
  struct Event {
    std::optional<ConnectionEvent> connection;
    std::vector<Frame> frames;
  };

  absl::Status Connect() {
    ClientOptions client = o_.client;
    client.on_message = [this](std::vector<Frame>&& frames) {
      events_.TryPush({std::nullopt, std::move(frames)});
    };
    client.on_event = [this](const ConnectionEvent& e) { events_.TryPush({e, {}}); };
    client.on_room = nullptr;
    ASSIGN_OR_RETURN(client_, DealerClient::Start(std::move(client)));
    const auto event = events_.PopFor(o_.connect_timeout);
    if (!event || !event->connection) return absl::DeadlineExceededError("no handshake in time");
    if (event->connection->change == ConnectionChange::kConnected) return absl::OkStatus();
    return absl::PermissionDeniedError(event->connection->reason);
  }

  // The next answer, or nothing in time. Unavailable when the connection has ended or we are
  // refused.
  absl::StatusOr<std::optional<Header>> Hear(Duration timeout) {
    auto event = events_.PopFor(timeout);
    if (!event) return std::nullopt;
    if (event->connection) {
      return absl::UnavailableError("the connection ended: " + event->connection->reason);
    }
    frames_ = std::move(event->frames);
    const auto header = Parse(frames_[0]);
    if (header && header->kind == Kind::kRefused) {
      return absl::UnavailableError("the coordinator has been asked to measure too often; later");
    }
    return header;
  }

  absl::StatusOr<std::string> AskNote() {
    client_->Send(Message({Kind::kNote}));
    const Duration until = Now() + o_.connect_timeout;
    while (Now() < until) {
      ASSIGN_OR_RETURN(const auto header, Hear(kLook));
      if (header && header->kind == Kind::kNote && frames_.size() == 2) {
        return frames_[1].ToString();
      }
    }
    return absl::UnavailableError("the coordinator does not answer a measurement");
  }

  absl::StatusOr<RateTimeline> OneWay(Kind kind) {
    RateTimeline heard;
    outstanding_.clear();
    asked_bytes_ = 0;
    const Duration begin = Now();
    heard.Begin(begin);
    while (true) {
      Fill(kind, heard, Now() - begin);
      ASSIGN_OR_RETURN(const auto header, Hear(kLook));
      if (header) Count(kind, *header, heard);
      const Duration elapsed = Now() - begin;
      if (outstanding_.empty() && asked_bytes_ >= o_.most_bytes) return heard;
      if (elapsed > o_.each_way && heard.bytes() > 0) return heard;
      if (elapsed > std::max(o_.each_way, o_.first_answer)) {
        return absl::UnavailableError("nothing came through in time");
      }
    }
  }

  // Keeps chunks under way, sized by the rate so far.
  void Fill(Kind kind, const RateTimeline& heard, Duration elapsed) {
    const double rate = static_cast<double>(heard.bytes()) / std::max(SecondsOf(elapsed), 0.01);
    const auto bytes = static_cast<uint64_t>(std::clamp(rate * kChunkSeconds,
                                                        static_cast<double>(kLeastChunkBytes),
                                                        static_cast<double>(kMaxFrameBytes)));
    while (outstanding_.size() < kMostOutstanding && asked_bytes_ < o_.most_bytes) {
      const Header header{kind, next_number_, bytes};
      const bool up = kind == Kind::kUp;
      if (!client_->Send(up ? Message(header, std::string(bytes, '\0')) : Message(header))) return;
      outstanding_[next_number_++] = bytes;
      asked_bytes_ += bytes;
    }
  }

  void Count(Kind kind, const Header& header, RateTimeline& heard) {
    const auto it = outstanding_.find(header.number);
    const bool up = kind == Kind::kUp;
    if (it == outstanding_.end() || header.kind != (up ? Kind::kHeard : Kind::kData)) return;
    if (!up && (frames_.size() != 2 || frames_[1].size() != it->second)) return;
    heard.Add(Now(), it->second);
    outstanding_.erase(it);
  }

  const LinkProbeOptions o_;
  BoundedQueue<Event> events_{kInbox};
  std::vector<Frame> frames_;                 // of the last answer
  std::map<uint64_t, uint64_t> outstanding_;  // number -> bytes
  uint64_t next_number_ = 1;
  uint64_t asked_bytes_ = 0;
  std::unique_ptr<DealerClient> client_;  // last: stops first
};

}  // namespace

bool ProbeBudget::Take(const WorkerKey& user, uint64_t bytes, Duration now) {
  const auto most = static_cast<double>(most_bytes_);
  Account& account = accounts_.try_emplace(user, Account{most, now}).first->second;
  account.left = std::min(most, account.left + kRefillBytesPerS * SecondsOf(now - account.at));
  account.at = now;
  const auto cost = static_cast<double>(bytes + kMessageCost);
  if (cost > account.left) return false;
  account.left -= cost;
  return true;
}

bool IsProbe(const std::vector<Frame>& frames) {
  return !frames.empty() && frames[0].size() == kHeaderBytes &&
         ByteReader(frames[0].bytes()).U32() == kMagic;
}

std::vector<Frame> AnswerProbe(const std::vector<Frame>& probe, const WorkerKey& user,
                               const std::string& note, Duration now, ProbeBudget& budget) {
  const auto header = Parse(probe[0]);
  if (!header || header->bytes > kMaxFrameBytes) return {};
  const uint64_t bytes = header->kind == Kind::kUp && probe.size() > 1 ? probe[1].size()
                         : header->kind == Kind::kDown                 ? header->bytes
                                                                       : note.size();
  if (!budget.Take(user, bytes, now)) return Message({Kind::kRefused, header->number});
  switch (header->kind) {
    case Kind::kUp:
      return Message({Kind::kHeard, header->number, bytes});
    case Kind::kDown:
      return Message({Kind::kData, header->number, bytes}, std::string(bytes, '\0'));
    case Kind::kNote:
      return Message({Kind::kNote, header->number, bytes}, note);
    default:
      return {};
  }
}

void RateTimeline::Add(Duration now, uint64_t bytes) {
  points_.push_back({now, bytes});
  bytes_ += bytes;
}

double RateTimeline::bytes_per_s() const {
  if (points_.empty()) return 0;
  const Duration end = points_.back().at;
  const double all_s = std::max(SecondsOf(end - begin_), 1e-6);
  // From a point on, so that the bytes after it came in the time after it.
  const Duration from = begin_ + std::chrono::duration_cast<Duration>((end - begin_) * kStartShare);
  uint64_t bytes = 0;
  auto first = points_.end();
  for (auto it = points_.begin(); it != points_.end(); ++it) {
    if (it->at < from) continue;
    if (first == points_.end()) {
      first = it;
    } else {
      bytes += it->bytes;
    }
  }
  const double later_s = SecondsOf(end - first->at);
  constexpr double kLeastShare = 0.25;  // few points: the whole says more
  if (later_s < kLeastShare * all_s) return static_cast<double>(bytes_) / all_s;
  return static_cast<double>(bytes) / later_s;
}

absl::StatusOr<LinkRates> MeasureLink(LinkProbeOptions options) {
  return Prober(std::move(options)).Measure();
}

}  // namespace longhaul
