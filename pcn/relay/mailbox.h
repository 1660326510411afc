// Where messages with a payload wait until a stage has time for them: last writer wins.
//
// For each (kind, micro-batch) there is one slot, holding the newest message by (epoch, sequence).
// Older ones and duplicates change nothing, so delivery may delay, repeat and reorder at will. The
// number of slots per kind is bounded: when they are used up the oldest micro-batch makes room.
//
// Thread rule: one thread per object.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "pcn/relay/message.h"

namespace longhaul::pcn {

class Mailbox {
 public:
  explicit Mailbox(size_t slots_per_kind) : slots_(slots_per_kind) {}

  struct Put {
    bool kept = false;                // false: what is there is at least as new
    std::optional<uint64_t> evicted;  // the micro-batch that had to make room
  };
  Put Add(const Message& message);
  const Message* Find(MessageKind kind, uint64_t micro_batch) const;
  std::optional<Message> Take(MessageKind kind, uint64_t micro_batch);
  // The smallest micro-batch with a message of this kind, at least `from`.
  std::optional<uint64_t> First(MessageKind kind, uint64_t from = 0) const;
  void Drop(uint64_t micro_batch);  // of all kinds
  size_t size(MessageKind kind) const;

 private:
  const size_t slots_;
  std::map<MessageKind, std::map<uint64_t, Message>> boxes_;
};

}  // namespace longhaul::pcn
