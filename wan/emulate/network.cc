#include "wan/emulate/network.h"

#include <algorithm>

#include "common/check.h"

namespace longhaul::wan {
namespace {

constexpr Duration kJitterStep =
    Milliseconds(50);  // a new target this often, a straight line between

// In [0, 1), from the upper bits.
double Unit(uint64_t draw) { return static_cast<double>(draw >> 11) * 0x1p-53; }

}  // namespace

Link::Link(const LinkShape& shape, uint64_t seed, std::shared_ptr<Duration> busy_until)
    : shape_(shape), seed_(seed), rng_(seed), busy_until_(std::move(busy_until)) {
  LONGHAUL_CHECK(shape.bits_per_s > 0, "a link without a rate");
  if (!busy_until_) busy_until_ = std::make_shared<Duration>(0);
}

Duration Link::Serialise(uint64_t bytes) const {
  return Duration(static_cast<int64_t>(bytes * 8 * 1'000'000'000 / shape_.bits_per_s));
}

Duration Link::JitterAt(Duration t) const {
  if (shape_.jitter <= Duration(0)) return Duration(0);
  const auto step = static_cast<uint64_t>(t / kJitterStep);
  const double from = Unit(Draw(seed_, {1, step}));
  const double to = Unit(Draw(seed_, {1, step + 1}));
  const double part = static_cast<double>((t % kJitterStep).count()) / kJitterStep.count();
  return Duration(static_cast<int64_t>((from + (to - from) * part) * shape_.jitter.count()));
}

Duration Link::Waiting(Duration now) const { return std::max(Duration(0), *busy_until_ - now); }

Duration Link::SpanOf(const Parcel& parcel) const {
  return Serialise(parcel.wire_bytes - std::min(parcel.segment_bytes, parcel.wire_bytes));
}

// Sending may have begun before now: when the first segment was there, and so that the last one can
// follow without a gap, and not before the medium was free.
Link::Admission Link::Admit(Duration now, const Parcel& parcel, bool endless_queue) {
  const Duration one = Serialise(parcel.segment_bytes);
  const Duration all = Serialise(parcel.wire_bytes);
  const Duration waiting = Waiting(now);
  const Duration queue = endless_queue ? Duration::max() / 2 : shape_.queue;
  if (waiting > queue) return {};
  const auto room =
      static_cast<uint64_t>(one.count() > 0 ? 1 + (queue - waiting) / one : parcel.segments);
  Admission out;
  out.fits = static_cast<uint32_t>(std::min<uint64_t>(parcel.segments, room));
  const Duration sending = out.fits == parcel.segments ? all : one * out.fits;
  const Duration start = std::max({*busy_until_, now - parcel.span, now + one - all});
  *busy_until_ = std::max(start + sending, now);
  last_out_ = std::max(last_out_, *busy_until_ + shape_.delay + JitterAt(*busy_until_));
  out.out = last_out_;
  return out;
}

void Link::DrawLosses(uint32_t segments, std::vector<bool>* survives) {
  survives->assign(segments, true);
  if (shape_.loss <= 0) return;
  const double leave = 1 / std::max(1.0, shape_.burst);
  const double enter = std::min(1.0, shape_.loss * leave / std::max(1e-9, 1 - shape_.loss));
  for (uint32_t i = 0; i < segments; ++i) {
    const double draw = Unit(rng_.Next());
    losing_ = shape_.burst > 1 ? (losing_ ? draw >= leave : draw < enter) : draw < shape_.loss;
    (*survives)[i] = !losing_;
  }
}

Network::Network(const std::vector<HostShape>& hosts,
                 const std::vector<BottleneckShape>& bottlenecks, uint64_t seed, Overload overload)
    : host_count_(static_cast<uint32_t>(hosts.size())), overload_(overload) {
  std::vector<std::shared_ptr<Duration>> media;
  for (const HostShape& host : hosts) {
    media.push_back(host.half_duplex ? std::make_shared<Duration>(0) : nullptr);
  }
  uint64_t number = 0;
  for (uint32_t i = 0; i < host_count_; ++i) {
    links_.emplace_back(hosts[i].up, Draw(seed, {number++}), media[i]);
  }
  for (uint32_t i = 0; i < host_count_; ++i) {
    links_.emplace_back(hosts[i].down, Draw(seed, {number++}), media[i]);
  }
  for (const BottleneckShape& b : bottlenecks) {
    const auto medium = b.half_duplex ? std::make_shared<Duration>(0) : nullptr;
    links_.emplace_back(b.link, Draw(seed, {number++}), medium);
    links_.emplace_back(b.link, Draw(seed, {number++}), medium);
    std::vector<bool>& members = members_.emplace_back(host_count_);
    for (uint32_t host : b.members) members.at(host) = true;
  }
  MakeWays();
}

void Network::MakeWays() {
  for (uint32_t from = 0; from < host_count_; ++from) {
    for (uint32_t to = 0; to < host_count_; ++to) {
      std::vector<uint32_t>& way = ways_.emplace_back();
      way.push_back(from);
      for (uint32_t b = 0; b < members_.size(); ++b) {
        if (members_[b][from] && !members_[b][to]) way.push_back(2 * host_count_ + 2 * b);
      }
      for (uint32_t b = 0; b < members_.size(); ++b) {
        if (members_[b][to] && !members_[b][from]) way.push_back(2 * host_count_ + 2 * b + 1);
      }
      way.push_back(host_count_ + to);
    }
  }
}

bool Network::Later(const Event& a, const Event& b) {
  return a.due != b.due ? a.due > b.due : a.order > b.order;
}

void Network::Push(Duration due, uint32_t stage, std::unique_ptr<Parcel> parcel) {
  events_.push_back({due, next_order_++, stage, std::move(parcel)});
  std::push_heap(events_.begin(), events_.end(), Later);
}

void Network::Send(Duration now, Parcel parcel) {
  LONGHAUL_CHECK(parcel.from < host_count_ && parcel.to < host_count_, "a parcel to nowhere");
  Pass(now, 0, std::make_unique<Parcel>(std::move(parcel)));
}

// Through one link: queue, losses, delay. Every run of surviving segments goes on as one parcel.
void Network::Pass(Duration now, uint32_t stage, std::unique_ptr<Parcel> parcel) {
  Link& link = links_[WayOf(parcel->from, parcel->to)[stage]];
  LinkCounters& counters = link.counters();
  const bool wait = overload_ == Overload::kWait;
  if (link.down() && !wait) {
    counters.losses += parcel->segments;
    return;
  }
  const Link::Admission admission = link.Admit(now, *parcel, wait);
  counters.queue_drops += parcel->segments - admission.fits;
  link.DrawLosses(admission.fits, &survives_);
  for (uint32_t first = 0; first < admission.fits;) {
    uint32_t end = first;
    while (end < admission.fits && survives_[end]) ++end;
    if (end == first) {
      ++counters.losses;
      ++first;
      continue;
    }
    const bool whole = first == 0 && end == parcel->segments;
    auto rest = whole ? std::move(parcel)
                      : std::make_unique<Parcel>(SliceParcel(*parcel, first, end - first));
    rest->span = link.SpanOf(*rest);
    counters.packets += rest->segments;
    counters.bytes += rest->wire_bytes;
    Push(admission.out, stage + 1, std::move(rest));
    if (whole) return;
    first = end;
  }
}

std::optional<Duration> Network::NextDue() const {
  if (events_.empty()) return std::nullopt;
  return events_.front().due;
}

std::optional<Network::Delivery> Network::Receive(Duration now) {
  while (!events_.empty() && events_.front().due <= now) {
    std::pop_heap(events_.begin(), events_.end(), Later);
    Event event = std::move(events_.back());
    events_.pop_back();
    const std::vector<uint32_t>& way = WayOf(event.parcel->from, event.parcel->to);
    if (event.stage == way.size()) return {{std::move(*event.parcel), event.due}};
    Pass(event.due, event.stage, std::move(event.parcel));
  }
  return std::nullopt;
}

}  // namespace longhaul::wan
