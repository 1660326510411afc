#include "data/http_source.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <future>
#include <thread>

#include "data/data_set.h"
#include "data/sample_shards.h"
#include "data/verified_blobs.h"

namespace longhaul {
namespace {

// A server on a free port with one handler for everything.
class Origin {
 public:
  explicit Origin(httplib::Server::Handler handler) {
    server_.Get(".*", std::move(handler));
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
  }
  ~Origin() {
    server_.stop();
    thread_.join();
  }
  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

std::unique_ptr<BlobSource> Open(const Origin& origin) {
  return OpenHttpSource(origin.address(), {.connect_timeout = Seconds(5),
                                           .silence_timeout = Milliseconds(300),
                                           .read_timeout = Milliseconds(600)})
      .value();
}

class HttpSourceTest : public ::testing::Test {
 protected:
  HttpSourceTest() : manifest_(SmallManifest(&files_)) {
    for (size_t i = 0; i < files_.size(); ++i) {
      by_path_["/" + BlobPath(manifest_.shards[i].blob_id)] = files_[i];
    }
  }
  // As a good server does: the library cuts out the range itself.
  httplib::Server::Handler Serve(const std::string& below = "") {
    return [this, below](const httplib::Request& request, httplib::Response& response) {
      const auto it = request.path.starts_with(below)
                          ? by_path_.find(request.path.substr(below.size()))
                          : by_path_.end();
      if (it == by_path_.end()) {
        response.status = 404;
      } else {
        response.set_content(it->second, "application/octet-stream");
      }
    };
  }

  std::vector<std::string> files_;
  Manifest manifest_;
  std::map<std::string, std::string> by_path_;
};

TEST_F(HttpSourceTest, ReadsRanges) {
  const Origin origin(Serve());
  const auto source = Open(origin);
  for (const auto& [offset, size] : std::vector<std::pair<uint64_t, uint64_t>>{{0, 1}, {5, 4000}}) {
    const auto bytes = source->Read(manifest_.shards[1].blob_id, offset, size);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(*bytes, files_[1].substr(offset, size));
  }
  EXPECT_TRUE(absl::IsNotFound(source->Read(Digest{}, 0, 10).status()));
}

TEST_F(HttpSourceTest, ADataSetOverTheNetwork) {
  const Origin origin(Serve("/sets/mine"));
  VerifiedBlobs blobs({OpenHttpSource(origin.address() + "/sets/mine/", {}).value()});
  for (const ShardEntry& entry : manifest_.shards) {
    EXPECT_TRUE(VerifyShard(blobs, entry).ok()) << VerifyShard(blobs, entry);
  }
}

// Every way to misbehave; another origin serves, and the bad one is asked once per blob at most.
TEST_F(HttpSourceTest, SurvivesOriginsThatLieStallOrServeOtherThings) {
  std::promise<void> test_is_over;
  const std::shared_future<void> over = test_is_over.get_future().share();
  const auto good = Serve();
  const auto drip = [over](size_t, httplib::DataSink& sink) {
    sink.write("x", 1);
    return over.wait_for(std::chrono::milliseconds(100)) == std::future_status::timeout;
  };
  using Answer = std::pair<const char*, httplib::Server::Handler>;
  const std::vector<Answer> bad = {
      {"flips a bit",
       [&](const auto& request, auto& response) {
         good(request, response);
         if (!response.body.empty()) response.body[response.body.size() / 2] ^= 1;
         for (char& c : response.body) c ^= 64;
       }},
      {"serves another file",
       [&](const auto&, auto& response) { response.set_content(files_[3], "x/y"); }},
      {"serves an error page",
       [](const auto&, auto& response) { response.set_content("<html>", "text/html"); }},
      {"says 500", [](const auto&, auto& response) { response.status = 500; }},
      {"redirects",
       [](const auto&, auto& response) { response.set_redirect("http://127.0.0.1:1/"); }},
      {"knows no ranges",
       [&](const auto& request, auto& response) {
         const std::string body = by_path_[request.path];
         response.set_chunked_content_provider("x/y", [body](size_t, httplib::DataSink& sink) {
           sink.write(body.data(), body.size());
           sink.done();
           return true;
         });
       }},
      {"drips",
       [drip](const auto&, auto& response) {
         response.status = 206;
         response.set_header("Content-Range", "bytes 0-4139/5000");
         response.set_chunked_content_provider(
             "x/y", [drip](size_t at, httplib::DataSink& sink) { return drip(at, sink); });
       }},
      {"stalls", [over](const auto&, auto&) { over.wait(); }},
  };
  const Origin honest(Serve());
  std::vector<std::unique_ptr<Origin>> origins;
  for (const auto& [what, handler] : bad) {
    origins.push_back(std::make_unique<Origin>(handler));
    const auto direct = Open(*origins.back())->Read(manifest_.shards[0].blob_id, 0, 4140);
    EXPECT_NE(direct.value_or(""), files_[0].substr(0, 4140)) << what;
    VerifiedBlobs blobs({Open(*origins.back()), Open(honest)});
    const absl::Status status = VerifyShard(blobs, manifest_.shards[0]);
    EXPECT_TRUE(status.ok()) << what << ": " << status;
    EXPECT_EQ(blobs.Report()[0].good_bytes, 0u) << what;
  }
  test_is_over.set_value();
}

TEST_F(HttpSourceTest, NobodyThere) {
  const auto source = OpenHttpSource("http://127.0.0.1:1", {}).value();
  EXPECT_TRUE(absl::IsUnavailable(source->Read(Digest{}, 0, 1).status()));
}

TEST_F(HttpSourceTest, RefusesOtherAddresses) {
  for (const char* bad : {"", "https://x", "ftp://x", "http://", "x:80", "http://a b", "http://x?y",
                          "http://user@host"}) {
    EXPECT_FALSE(OpenHttpSource(bad, {}).ok()) << bad;
  }
}

}  // namespace
}  // namespace longhaul
