#include "pcn/relay/mailbox.h"

namespace longhaul::pcn {

Mailbox::Put Mailbox::Add(const Message& message) {
  std::map<uint64_t, Message>& box = boxes_[message.kind];
  const auto [at, is_new] = box.emplace(message.micro_batch, message);
  if (!is_new) {
    if (!IsNewer(message, at->second)) return {};
    at->second = message;
    return {.kept = true};
  }
  if (box.size() <= slots_) return {.kept = true};
  const uint64_t oldest = box.begin()->first;
  box.erase(box.begin());
  return {.kept = oldest != message.micro_batch, .evicted = oldest};
}

const Message* Mailbox::Find(MessageKind kind, uint64_t micro_batch) const {
  const auto box = boxes_.find(kind);
  if (box == boxes_.end()) return nullptr;
  const auto at = box->second.find(micro_batch);
  return at == box->second.end() ? nullptr : &at->second;
}

std::optional<Message> Mailbox::Take(MessageKind kind, uint64_t micro_batch) {
  const auto box = boxes_.find(kind);
  if (box == boxes_.end()) return std::nullopt;
  auto node = box->second.extract(micro_batch);
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

std::optional<uint64_t> Mailbox::First(MessageKind kind, uint64_t from) const {
  const auto box = boxes_.find(kind);
  if (box == boxes_.end()) return std::nullopt;
  const auto at = box->second.lower_bound(from);
  if (at == box->second.end()) return std::nullopt;
  return at->first;
}

void Mailbox::Drop(uint64_t micro_batch) {
  for (auto& [kind, box] : boxes_) box.erase(micro_batch);
}

size_t Mailbox::size(MessageKind kind) const {
  const auto box = boxes_.find(kind);
  return box == boxes_.end() ? 0 : box->second.size();
}

}  // namespace longhaul::pcn
