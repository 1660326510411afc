#include "wan/sim/network.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/rng.h"

namespace longhaul::sim {

size_t Network::AddLink(const LinkShape& shape) {
  links_.push_back({.shape = shape, .rate = shape.bytes_per_s});
  return links_.size() - 1;
}

void Network::Send(size_t machine, Direction direction, Packet packet) {
  ++packets_;
  Link& link = links_[machine];
  if (link.ways[static_cast<int>(direction)].cut) return;
  if (faults_.Happens(FaultKind::kLoss)) return;
  if (packet.is_chunk() && !packet.payload.empty() && faults_.Happens(FaultKind::kCorruptChunk)) {
    packet.payload[faults_.Below(FaultKind::kCorruptChunk, packet.payload.size())] ^= 0x10;
  }
  if (faults_.Happens(FaultKind::kDuplicate)) Travel(machine, direction, packet);
  Travel(machine, direction, std::move(packet));
}

void Network::Travel(size_t machine, Direction direction, Packet packet) {
  Link& link = links_[machine];
  Way& way = link.ways[static_cast<int>(direction)];
  if (link.clogged) {
    if (link.waiting.size() < kMaxPacketsOnLink)
      link.waiting.emplace_back(direction, std::move(packet));
    most_waiting_ = std::max(most_waiting_, link.waiting.size());
    return;
  }
  if (way.travelling >= kMaxPacketsOnLink) return;
  const Duration wire(static_cast<int64_t>(packet.bytes() * 1'000'000'000 / link.rate));
  way.free_at = std::max(way.free_at, queue_.now()) + wire;
  const uint64_t spread = static_cast<uint64_t>(link.shape.jitter.count()) + 1;
  Duration delay = link.shape.delay + Duration(Draw(machine, {jitter_draws_++}) % spread);
  if (faults_.Happens(FaultKind::kReorder))
    delay += faults_.Between(FaultKind::kReorder, Milliseconds(50), Seconds(5));
  ++way.travelling;
  auto held = std::make_shared<Packet>(std::move(packet));  // std::function must be copyable
  queue_.At(way.free_at + delay,
            [this, machine, direction, held] { Arrive(machine, direction, std::move(*held)); });
}

void Network::Arrive(size_t machine, Direction direction, Packet&& packet) {
  Way& way = links_[machine].ways[static_cast<int>(direction)];
  --way.travelling;
  if (!way.cut) deliver_(machine, direction, std::move(packet));
}

void Network::SetCut(size_t machine, Direction direction, bool cut) {
  links_[machine].ways[static_cast<int>(direction)].cut = cut;
}

void Network::SetClogged(size_t machine, bool clogged) {
  Link& link = links_[machine];
  link.clogged = clogged;
  if (clogged) return;
  for (auto& [direction, packet] : std::exchange(link.waiting, {}))
    Travel(machine, direction, std::move(packet));
}

void Network::SetRate(size_t machine, uint64_t bytes_per_s) {
  links_[machine].rate = std::max<uint64_t>(1, bytes_per_s);
}

void Network::Heal() {
  for (size_t i = 0; i < links_.size(); ++i) {
    for (Way& way : links_[i].ways) way.cut = false;
    links_[i].rate = links_[i].shape.bytes_per_s;
    SetClogged(i, false);
  }
}

}  // namespace longhaul::sim
