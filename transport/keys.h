// Keys of coordinators and workers: a CURVE pair (X25519) for the connection, whose public half is
// a worker's identity, and an Ed25519 pair for signatures. Key files hold the secret half only, in
// one line of text, are written with mode 0600 and refused when others may read them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/ids.h"

namespace longhaul {

struct CurveKeyPair {
  WorkerKey public_key;
  std::array<uint8_t, 32> secret{};
  static CurveKeyPair Generate();
  static CurveKeyPair FromSecret(const std::array<uint8_t, 32>& secret);
};

// Z85: 40 printable characters for 32 bytes, as ZeroMQ writes keys.
std::string ToZ85(const std::array<uint8_t, 32>& key);
absl::StatusOr<std::array<uint8_t, 32>> FromZ85(std::string_view text);

using Signature = std::array<uint8_t, 64>;

struct SigningKeyPair {
  std::array<uint8_t, 32> public_key{};
  std::array<uint8_t, 32> seed{};  // secret
  static SigningKeyPair Generate();
  static SigningKeyPair FromSeed(const std::array<uint8_t, 32>& seed);
  Signature Sign(ByteSpan message) const;
};
bool VerifySignature(const std::array<uint8_t, 32>& public_key, ByteSpan message,
                     const Signature& signature);

// Create a new file; AlreadyExists when there is one. The folder must exist. Durable on return.
absl::Status WriteKeyFile(const std::string& path, const CurveKeyPair& keys);
absl::Status WriteKeyFile(const std::string& path, const SigningKeyPair& keys);
// NotFound; PermissionDenied when others than the owner may read or write it; InvalidArgument when
// it is not such a key file.
absl::StatusOr<CurveKeyPair> ReadCurveKeyFile(const std::string& path);
absl::StatusOr<SigningKeyPair> ReadSigningKeyFile(const std::string& path);

}  // namespace longhaul
