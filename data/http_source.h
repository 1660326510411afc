// Blobs from an HTTP origin that serves a prepared folder: GET /shards/<blob_id>.lhs with a Range.
// Any static file server that knows ranges will do; nothing it says is believed.
//
// Owned by one thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/time.h"
#include "data/blob_source.h"

namespace longhaul {

struct HttpSourceOptions {
  Duration connect_timeout = Seconds(5);
  Duration silence_timeout = Seconds(10);  // without a byte
  Duration read_timeout = Seconds(60);     // for all of a read, however slowly it drips
};

// `address` is "http://host[:port][/path]". InvalidArgument for another one; nothing is connected
// yet. Reads fail with NotFound (404), DeadlineExceeded (too slow), Unavailable (no connection,
// other answers), and DataLoss when the answer is not exactly the range that was asked for; no more
// than that is ever kept.
absl::StatusOr<std::unique_ptr<BlobSource>> OpenHttpSource(const std::string& address,
                                                           const HttpSourceOptions& options);

// A whole small file below such an address, for example the manifest. ResourceExhausted when it is
// longer than `max_bytes`; else as above.
absl::StatusOr<std::string> ReadHttpFile(const std::string& address, const std::string& name,
                                         uint64_t max_bytes, const HttpSourceOptions& options);

}  // namespace longhaul
