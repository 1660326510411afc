#include "data/http_source.h"

#include <httplib.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace longhaul {
namespace {

using Clock = std::chrono::steady_clock;

struct Address {
  std::string origin;  // "http://host:port"
  std::string path;    // "" or "/sets/web"
};

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  const bool plain =
      text.starts_with(kScheme) && text.find_first_of(" \t\r\n?#@") == std::string::npos;
  const size_t slash = text.find('/', kScheme.size());
  Address address{text.substr(0, slash), slash == std::string::npos ? "" : text.substr(slash)};
  if (!plain || address.origin.size() == kScheme.size()) {
    return absl::InvalidArgumentError("an origin is http://host[:port][/path], not " + text);
  }
  while (address.path.ends_with('/')) address.path.pop_back();
  return address;
}

absl::Status Failure(httplib::Error error) {
  if (error == httplib::Error::Read) {
    return absl::DeadlineExceededError("the origin stopped sending");
  }
  return absl::UnavailableError("no answer from the origin: " + httplib::to_string(error));
}

void Prepare(httplib::Client& client, const HttpSourceOptions& options) {
  client.set_connection_timeout(options.connect_timeout);
  client.set_read_timeout(options.silence_timeout);
  client.set_write_timeout(options.silence_timeout);
  client.set_keep_alive(true);
  client.set_follow_location(false);
}

class HttpSource : public BlobSource {
 public:
  HttpSource(std::string name, const Address& address, const HttpSourceOptions& options)
      : name_(std::move(name)), path_(address.path), options_(options), client_(address.origin) {
    Prepare(client_, options);
  }

  const std::string& name() const override { return name_; }

  absl::StatusOr<std::string> Read(const Digest& blob_id, uint64_t offset, uint64_t size) override {
    LONGHAUL_CHECK(size > 0 && size <= kMaxBlobRead, "a read out of range");
    const std::string range = absl::StrCat("bytes=", offset, "-", offset + size - 1);
    const auto deadline = Clock::now() + options_.read_timeout;
    std::string body;
    absl::Status refused;
    const auto answer = client_.Get(
        path_ + "/" + BlobPath(blob_id), httplib::Headers{{"Range", range}},
        [&](const httplib::Response& head) {
          refused = CheckHead(head, offset, size);
          return refused.ok();
        },
        [&](const char* data, size_t n) {
          if (Clock::now() > deadline) {
            refused = absl::DeadlineExceededError("the origin is too slow");
          } else if (n > size - body.size()) {
            refused = absl::DataLossError("the origin sends more than was asked for");
          } else {
            body.append(data, n);
          }
          return refused.ok();
        });
    RETURN_IF_ERROR(refused);
    if (!answer) return Failure(answer.error());
    if (body.size() != size) return absl::DataLossError("the origin sends less than was asked for");
    return body;
  }

 private:
  static absl::Status CheckHead(const httplib::Response& head, uint64_t offset, uint64_t size) {
    if (head.status == 404) return absl::NotFoundError("the origin has no such shard");
    if (head.status == 200) {
      return absl::UnavailableError("the origin does not know ranges (it answers 200, not 206)");
    }
    if (head.status != 206) {
      return absl::UnavailableError(absl::StrCat("the origin answers ", head.status));
    }
    const std::string expected = absl::StrCat("bytes ", offset, "-", offset + size - 1, "/");
    if (!head.get_header_value("Content-Range").starts_with(expected)) {
      return absl::DataLossError("the origin answers with another range");
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const std::string path_;
  const HttpSourceOptions options_;
  httplib::Client client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlobSource>> OpenHttpSource(const std::string& address,
                                                           const HttpSourceOptions& options) {
  ASSIGN_OR_RETURN(const Address parsed, ParseAddress(address));
  return std::make_unique<HttpSource>(address, parsed, options);
}

absl::StatusOr<std::string> ReadHttpFile(const std::string& address, const std::string& name,
                                         uint64_t max_bytes, const HttpSourceOptions& options) {
  ASSIGN_OR_RETURN(const Address parsed, ParseAddress(address));
  httplib::Client client(parsed.origin);
  Prepare(client, options);
  const auto deadline = Clock::now() + options.read_timeout;
  std::string body;
  absl::Status refused;
  const auto answer = client.Get(
      parsed.path + "/" + name,
      [&](const httplib::Response& head) {
        if (head.status == 404) {
          refused = absl::NotFoundError("the origin has no " + name);
        } else if (head.status != 200) {
          refused = absl::UnavailableError(absl::StrCat("the origin answers ", head.status));
        }
        return refused.ok();
      },
      [&](const char* data, size_t n) {
        if (Clock::now() > deadline) {
          refused = absl::DeadlineExceededError("the origin is too slow");
        } else if (n > max_bytes - body.size()) {
          refused = absl::ResourceExhaustedError(name + " is too long");
        } else {
          body.append(data, n);
        }
        return refused.ok();
      });
  RETURN_IF_ERROR(refused);
  if (!answer) return Failure(answer.error());
  return body;
}

}  // namespace longhaul
