#include "pcn/relay/slots.h"

#include <algorithm>
#include <utility>

namespace longhaul::pcn {
namespace {

void AddBooks(StageBeat& sum, const StageBeat& part) {
  sum.accepted += part.accepted;
  sum.trained += part.trained;
  for (size_t i = 0; i < kDiscards; ++i) sum.discarded[i] += part.discarded[i];
  sum.bytes_up += part.bytes_up;
  sum.bytes_down += part.bytes_down;
}

}  // namespace

std::vector<LayerCost> LayerCosts(const RelayPlan& plan) {
  constexpr uint64_t kCopies = 4;  // parameters, gradient, two moments
  std::vector<LayerCost> costs;
  for (size_t l = 0; l + 1 < plan.sizes.size(); ++l) {
    const uint64_t weights = (uint64_t{plan.sizes[l]} + 1) * plan.sizes[l + 1];
    costs.push_back({static_cast<double>(weights), kCopies * sizeof(float) * weights});
  }
  return costs;
}

RelaySlots::RelaySlots(RelayPlan plan, Duration lease) : lease_(lease) {
  table_.plan = std::move(plan);
  table_.slots.resize(table_.plan.stages);
  past_.resize(table_.plan.stages);
}

bool RelaySlots::Holds(const WorkerKey& key) const {
  return std::any_of(table_.slots.begin(), table_.slots.end(),
                     [&](const StageSlot& slot) { return slot.holder == key; });
}

size_t RelaySlots::waiting() const {
  return static_cast<size_t>(std::count_if(
      members_.begin(), members_.end(), [&](const auto& member) { return !Holds(member.first); }));
}

void RelaySlots::OnBeat(const WorkerKey& from, const StageBeat& beat, Duration now) {
  if (beat.leaving) {
    // At the end its last words stay; before it, it is as if it had fallen silent.
    if (table_.phase == RelayPhase::kOver) {
      if (const auto member = members_.find(from); member != members_.end()) {
        member->second.beat = beat;
      }
      return;
    }
    for (size_t k = 0; k < table_.slots.size(); ++k) {
      if (table_.slots[k].holder == from) Vacate(k);
    }
    members_.erase(from);
    return FillVacancies();
  }
  if (beat.data == Digest{}) return;  // it has not read its images yet
  const auto [member, is_new] = members_.try_emplace(from);
  if (is_new) member->second.joined = next_++;
  member->second.beat = beat;
  member->second.heard = now;
  if (table_.phase == RelayPhase::kWaiting) return Start();
  FillVacancies();
  Advance();
}

void RelaySlots::OnTick(Duration now) {
  if (table_.phase == RelayPhase::kOver) return;
  for (auto member = members_.begin(); member != members_.end();) {
    if (now - member->second.heard <= lease_) {
      ++member;
      continue;
    }
    for (size_t k = 0; k < table_.slots.size(); ++k) {
      if (table_.slots[k].holder == member->first) Vacate(k);
    }
    member = members_.erase(member);
  }
  if (table_.phase != RelayPhase::kWaiting) FillVacancies();
}

void RelaySlots::Vacate(size_t k) {
  StageSlot& slot = table_.slots[k];
  const auto member = members_.find(slot.holder);
  if (member != members_.end() && member->second.beat.epoch == slot.epoch) {
    StageBeat last = member->second.beat;
    last.discarded[static_cast<size_t>(Discard::kReset)] += last.open;
    AddBooks(past_[k], last);
    if (k == 0) table_.resume_at = std::max(table_.resume_at, last.settled_below);
  }
  slot.holder = {};
  slot.address.clear();
  ++changes_;
}

void RelaySlots::Start() {
  if (members_.size() < table_.plan.stages) return;
  std::vector<std::pair<WorkerKey, const Member*>> order;
  for (const auto& [key, member] : members_) order.emplace_back(key, &member);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    if (a.second->beat.speed != b.second->beat.speed) {
      return a.second->beat.speed > b.second->beat.speed;
    }
    return a.second->joined < b.second->joined;
  });
  order.resize(table_.plan.stages);
  if (order.front().second->beat.data != order.back().second->beat.data) {
    return Fail("the first and the last stage have different images");
  }
  std::vector<size_t> first(table_.plan.first_layers.begin(), table_.plan.first_layers.end());
  if (first.empty()) {
    std::vector<StageMachine> machines;
    for (const auto& [key, member] : order) {
      machines.push_back({member->beat.speed, member->beat.memory_bytes});
    }
    const auto cut = CutChain(LayerCosts(table_.plan), machines);
    if (!cut) return Fail("the network does not fit the memory of these stages");
    first = *cut;
  }
  for (size_t k = 0; k < order.size(); ++k) {
    table_.slots[k] = {order[k].first, order[k].second->beat.address, 1,
                       static_cast<uint32_t>(first[k])};
  }
  table_.phase = RelayPhase::kRunning;
  ++changes_;
}

void RelaySlots::FillVacancies() {
  for (StageSlot& slot : table_.slots) {
    if (slot.holder != WorkerKey() || table_.phase == RelayPhase::kOver) continue;
    const std::pair<const WorkerKey, Member>* next = nullptr;
    for (const auto& member : members_) {
      const bool is_free = !Holds(member.first);
      if (is_free && (!next || member.second.joined < next->second.joined)) next = &member;
    }
    if (next == nullptr) return;
    slot.holder = next->first;
    slot.address = next->second.beat.address;
    ++slot.epoch;  // what the old holder still says is fenced
    ++changes_;
  }
}

void RelaySlots::Advance() {
  const auto holder_says = [&](size_t k, bool StageBeat::*what) {
    const auto member = members_.find(table_.slots[k].holder);
    return member != members_.end() && member->second.beat.epoch == table_.slots[k].epoch &&
           member->second.beat.*what;
  };
  const auto all_say = [&](bool StageBeat::*what) {
    for (size_t k = 0; k < table_.slots.size(); ++k) {
      if (!holder_says(k, what)) return false;
    }
    return true;
  };
  const bool no_more = table_.plan.block_runs.empty() ? holder_says(0, &StageBeat::finished)
                                                      : all_say(&StageBeat::averaged);
  if (table_.phase == RelayPhase::kRunning && no_more) {
    table_.phase = RelayPhase::kDraining;
    ++changes_;
  }
  if (table_.phase != RelayPhase::kDraining || !all_say(&StageBeat::finished)) return;
  table_.phase = RelayPhase::kOver;
  ++changes_;
}

void RelaySlots::Fail(const std::string& problem) {
  table_.problem = problem;
  table_.phase = RelayPhase::kOver;
  ++changes_;
}

bool RelaySlots::over() const {
  if (table_.phase != RelayPhase::kOver) return false;
  return std::all_of(members_.begin(), members_.end(), [&](const auto& member) {
    return member.second.beat.leaving || !Holds(member.first);
  });
}

StageBeat RelaySlots::Summary(size_t k) const {
  StageBeat sum;
  const auto member = members_.find(table_.slots[k].holder);
  if (member != members_.end()) sum = member->second.beat;
  AddBooks(sum, past_[k]);
  return sum;
}

}  // namespace longhaul::pcn
