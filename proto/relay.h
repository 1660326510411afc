// The first frame of what one worker sends another through the coordinator's port: a worker's key,
// 40 bytes. To the coordinator it names the receiver, from it the sender, who was proven by CURVE.
// Alone and with a zero key it is a greeting: it tells the other end which connection is ours.
#pragma once

#include <optional>
#include <string>

#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

inline constexpr size_t kRelayHeaderBytes = 40;

std::string EncodeRelayHeader(const WorkerKey& key);
// Nothing: another size, magic or version.
std::optional<WorkerKey> DecodeRelayHeader(ByteSpan frame);

}  // namespace longhaul
