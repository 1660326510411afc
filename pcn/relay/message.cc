#include "pcn/relay/message.h"

#include <cstring>
#include <tuple>

namespace longhaul::pcn {
namespace {

constexpr uint32_t kMagic = 0x314e4350;  // "PCN1"

// Appends the low `bytes` bytes of `value`.
void Put(Bytes& out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

uint64_t Get(std::span<const uint8_t>& in, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(in[i]) << (8 * i);
  in = in.subspan(bytes);
  return value;
}

}  // namespace

bool IsNewer(const Message& a, const Message& b) {
  return std::tie(a.epoch, a.sequence) > std::tie(b.epoch, b.sequence);
}

size_t EncodedBytes(const Message& message) {
  return kMessageHeaderBytes + (message.payload ? message.payload->size() : 0);
}

Bytes EncodeMessage(const Message& m) {
  Bytes out;
  out.reserve(EncodedBytes(m));
  Put(out, kMagic, 4);
  Put(out, static_cast<uint64_t>(m.kind), 1);
  Put(out, static_cast<uint64_t>(m.have), 1);
  Put(out, 0, 2);
  Put(out, m.from, 4);
  Put(out, m.to, 4);
  Put(out, m.micro_batch, 8);
  Put(out, m.epoch, 8);
  Put(out, m.sequence, 8);
  Put(out, m.version, 8);
  Put(out, m.settled_below, 8);
  Put(out, m.payload ? m.payload->size() : 0, 8);
  if (m.payload) out.insert(out.end(), m.payload->begin(), m.payload->end());
  return out;
}

std::optional<Message> DecodeMessage(std::span<const uint8_t> in) {
  if (in.size() < kMessageHeaderBytes || Get(in, 4) != kMagic) return std::nullopt;
  const uint64_t kind = Get(in, 1), have = Get(in, 1);
  if (kind < 1 || kind > 8 || have > 2 || Get(in, 2) != 0) return std::nullopt;
  Message m;
  m.kind = static_cast<MessageKind>(kind);
  m.have = static_cast<HaveState>(have);
  m.from = static_cast<uint32_t>(Get(in, 4));
  m.to = static_cast<uint32_t>(Get(in, 4));
  m.micro_batch = Get(in, 8);
  m.epoch = Get(in, 8);
  m.sequence = Get(in, 8);
  m.version = Get(in, 8);
  m.settled_below = Get(in, 8);
  const uint64_t size = Get(in, 8);
  if (size > kMaxPayloadBytes || size != in.size()) return std::nullopt;
  if (size > 0) m.payload = std::make_shared<const Bytes>(in.begin(), in.end());
  return m;
}

}  // namespace longhaul::pcn
