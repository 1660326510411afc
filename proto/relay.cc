#include "proto/relay.h"

#include <cstring>

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x4C52484C;  // "LHRL"
constexpr uint32_t kFormat = 1;

}  // namespace

std::string EncodeRelayHeader(const WorkerKey& key) {
  ByteWriter w;
  w.U32(kMagic);
  w.U32(kFormat);
  std::string bytes = w.Take();
  bytes.append(reinterpret_cast<const char*>(key.bytes.data()), key.bytes.size());
  return bytes;
}

std::optional<WorkerKey> DecodeRelayHeader(ByteSpan frame) {
  if (frame.size() != kRelayHeaderBytes) return std::nullopt;
  ByteReader r(frame.first(8));
  if (r.U32() != kMagic || r.U32() != kFormat) return std::nullopt;
  WorkerKey key;
  std::memcpy(key.bytes.data(), frame.data() + 8, key.bytes.size());
  return key;
}

}  // namespace longhaul
