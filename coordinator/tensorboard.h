// TensorBoard event files, written without Protobuf: the few fields a scalar needs, encoded by hand
// (tensorflow/core/util/event.proto: Event{wall_time = 1, step = 2, file_version = 3, summary = 5},
// Summary{value = 1}, Value{tag = 1, simple_value = 2}) inside TFRecord frames: 64-bit length,
// masked CRC-32C of the length, data, masked CRC-32C of the data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/storage.h"

namespace longhaul {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
uint32_t Crc32c(ByteSpan bytes);
// As TFRecord stores it: rotated right by 15, plus 0xa282ead8.
uint32_t MaskedCrc32c(ByteSpan bytes);

// One event file. Owned by one thread. Losing its tail in a crash is harmless, so nothing is
// synced.
class EventWriter {
 public:
  // Creates a new file events.out.tfevents.<seconds>.longhaul[.n] in `folder`; n keeps an existing
  // file untouched. `wall_time` is in seconds since 1970.
  static absl::StatusOr<std::unique_ptr<EventWriter>> Create(Storage& storage,
                                                             const std::string& folder,
                                                             double wall_time);

  // InvalidArgument for an empty tag, one above 1024 bytes, or a negative step; else the storage's
  // error.
  absl::Status AddScalar(std::string_view tag, int64_t step, float value, double wall_time);

  const std::string& path() const { return path_; }

 private:
  EventWriter(std::unique_ptr<AppendFile> file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}
  absl::Status Append(const std::string& event);

  std::unique_ptr<AppendFile> file_;
  std::string path_;
};

}  // namespace longhaul
