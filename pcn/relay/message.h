// What Relay's stages tell each other, as plain structs, and their bytes.
//
// A network is cut in blocks, one per stage: stage 0 reads the input, the last one knows the
// labels. States go up, credits (gradients of the loss in the states) go down. docs/PCN.md has the
// protocol.
//
// Plain values; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace longhaul::pcn {

using Bytes = std::vector<uint8_t>;
// Coded once, then shared and never changed.
using Payload = std::shared_ptr<const Bytes>;

enum class MessageKind : uint8_t {
  kStateUp = 1,         // k -> k+1: the coded state above block k
  kCreditDown = 2,      // k+1 -> k: the coded credit for that state
  kGone = 3,            // k+1 -> k: this micro-batch will get no credit
  kHaveQuery = 4,       // k -> k+1: what became of this micro-batch?
  kHaveAnswer = 5,      // k+1 -> k: unless the answer is the credit itself, or kGone
  kSnapshot = 6,        // k -> its buddy: parameters and optimizer state of block k
  kSnapshotQuery = 7,   // a new holder of k -> its buddy; the shell answers, stages never see it
  kSnapshotAnswer = 8,  // buddy -> k: the newest one with its version; null when it holds none
};

enum class HaveState : uint8_t { kNone = 0, kMissing = 1, kWaiting = 2 };

struct Message {
  MessageKind kind = MessageKind::kStateUp;
  uint32_t from = 0, to = 0;  // stages
  uint64_t micro_batch = 0;
  uint64_t epoch = 0;     // of the sender's stage; grows when a stage changes hands
  uint64_t sequence = 0;  // of the sender; grows with every message of an epoch
  uint64_t version = 0;   // updates of the sender's block so far
  // Going up: the sender waits for no micro-batch below this one, so their credits may be
  // forgotten.
  uint64_t settled_below = 0;
  HaveState have = HaveState::kNone;
  Payload payload;  // null when the kind has none
};

// Whether `a` was said after `b` by the same sender.
bool IsNewer(const Message& a, const Message& b);

inline constexpr size_t kMessageHeaderBytes = 64;
inline constexpr size_t kMaxPayloadBytes = size_t{1} << 30;

// Little-endian header, then the payload.
size_t EncodedBytes(const Message& message);
Bytes EncodeMessage(const Message& message);
// None for bytes of another version, an unknown kind, or a length that does not match.
std::optional<Message> DecodeMessage(std::span<const uint8_t> bytes);

}  // namespace longhaul::pcn
