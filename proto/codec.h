// Envelope <-> Protobuf bytes. The only door to Protobuf. Thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "proto/messages.h"

namespace longhaul {

// Never longer than kMaxControlBytes for messages within the limits of messages.h; longer ones are
// ResourceExhausted.
absl::StatusOr<std::string> EncodeEnvelope(const Envelope& envelope);

// Refuses what is longer than kMaxControlBytes, not parsable, nested deeper than 16, without a
// body, with wrong field sizes (keys, digests), unknown enum values, or with more list entries than
// messages.h allows. With an unequal protocol version (not 0) the body may be anything, and must
// not be used: the caller answers with kVersionMismatch.
absl::StatusOr<Envelope> DecodeEnvelope(ByteSpan bytes);

// RunConfig in the canonical encoding used by the journal and for its digest.
std::string EncodeRunConfig(const RunConfig& config);
absl::StatusOr<RunConfig> DecodeRunConfig(ByteSpan bytes);

}  // namespace longhaul
