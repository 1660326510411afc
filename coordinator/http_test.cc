#include "coordinator/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HttpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = HttpServer::Start("127.0.0.1", 0, &board_, &metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    client_ = std::make_unique<httplib::Client>("127.0.0.1", server_->port());
  }
  // Sends raw bytes and returns everything that comes back until the server closes.
  std::string Raw(const std::string& request) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    for (size_t sent = 0; sent < request.size();) {
      const ssize_t n = ::send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, n);
    ::close(fd);
    return answer;
  }

  StatusBoard board_;
  Metrics metrics_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<httplib::Client> client_;
};

TEST_F(HttpTest, ServesItsFourPages) {
  board_.Set(R"({"run":"x"})");
  metrics_.RoundCommitted();
  const auto page = client_->Get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_EQ(page->body, kStatusPage);
  EXPECT_THAT(page->get_header_value("Content-Security-Policy"), HasSubstr("default-src 'none'"));
  const auto status = client_->Get("/api/status");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->body, R"({"run":"x"})");
  EXPECT_EQ(status->get_header_value("Content-Type"), "application/json");
  const auto metrics = client_->Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_THAT(metrics->body, HasSubstr("longhaul_rounds_total{outcome=\"committed\"} 1"));
  const auto health = client_->Get("/healthz");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->body, "ok\n");
}

TEST_F(HttpTest, RefusesTheRest) {
  const auto missing = client_->Get("/etc/passwd");
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->status, 404);
  for (const auto& answer : {client_->Post("/", "x", "text/plain"), client_->Delete("/"),
                             client_->Put("/api/status", "x", "text/plain"), client_->Head("/"),
                             client_->Options("/")}) {
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 405);
  }
}

TEST_F(HttpTest, CutsARequestThatNeverEnds) {
  std::string endless = "GET / HTTP/1.1\r\n";
  for (size_t i = 0; endless.size() < 4 * HttpServer::kMaxRequestBytes; ++i) {
    endless += "X-" + std::to_string(i) + ": 1\r\n";
  }
  EXPECT_THAT(Raw(endless), Not(HasSubstr("200 OK")));
  EXPECT_THAT(Raw("GET /" + std::string(10'000, 'a') + " HTTP/1.1\r\n\r\n"),
              Not(HasSubstr("200 OK")));
  EXPECT_THAT(Raw("nonsense\r\n\r\n"), Not(HasSubstr("200 OK")));
  EXPECT_THAT(Raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr("ok\n"));  // still alive
}

TEST_F(HttpTest, OneRequestPerConnection) {
  const std::string get = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string answer = Raw(get + get);
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_EQ(answer.find("200 OK"), answer.rfind("200 OK"));
}

TEST_F(HttpTest, AnswersManyAtOnce) {
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {  // fewer than the listen backlog: a dropped SYN costs a second
    threads.emplace_back([&] {
      for (int k = 0; k < 10; ++k) {
        httplib::Client client("127.0.0.1", server_->port());
        const auto answer = client.Get("/api/status");
        good += answer && answer->status == 200;
      }
    });
  }
  for (int k = 0; k < 100; ++k) board_.Set("{\"k\":" + std::to_string(k) + "}");
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 40);
}

TEST_F(HttpTest, PortInUseIsAClearError) {
  const auto second = HttpServer::Start("127.0.0.1", server_->port(), &board_, &metrics_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("Address already in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("network.http"));
  EXPECT_FALSE(HttpServer::Start("192.0.2.1", 0, &board_, &metrics_).ok());  // not our address
}

TEST(HttpServer, StopsAtOnce) {
  StatusBoard board;
  Metrics metrics;
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(HttpServer::Start("127.0.0.1", 0, &board, &metrics).ok());
}

TEST(StatusPage, LoadsNothingFromElsewhere) {
  std::string page = kStatusPage;
  const std::string name_of_svg = "http://www.w3.org/2000/svg";  // a name, never fetched
  const size_t at = page.find(name_of_svg);
  ASSERT_NE(at, std::string::npos);
  page.erase(at, name_of_svg.size());
  // innerHTML: names of strangers must stay text.
  for (const char* bad : {"://", "src=", "url(", "<link", "@import", "innerHTML"}) {
    EXPECT_EQ(page.find(bad), std::string::npos) << bad;
  }
}

TEST(RunStatus, JsonIsBoundedAndAlwaysValid) {
  RunStatus status;
  status.run = "bad \xff bytes";
  status.workers_total = 1000;
  status.workers.resize(1000);
  for (uint64_t i = 1; i <= 5000; ++i) status.history.push_back({i, 1.0, std::nullopt});
  status.history.back().loss = std::numeric_limits<double>::quiet_NaN();
  status.last_round = RoundReport{};
  status.coverage.fragments = {{.committed = 1, .carried_too_often = 4, .total = 7}, {.free = 7}};
  status.coverage.quarantined_ranges = 300;
  status.coverage.quarantined = {{2, 4, {"kitchen", "attic"}}};
  status.coverage.domains = {{"web", 100, 240, 10, 3}};
  const auto json = nlohmann::json::parse(ToJson(status));
  EXPECT_EQ(json.at("workers").size(), kMaxStatusWorkers);
  EXPECT_EQ(json.at("history").size(), kMaxStatusPoints);
  EXPECT_EQ(json.at("history").front().at(0), 1);
  EXPECT_EQ(json.at("history").back().at(0), 5000);
  EXPECT_TRUE(json.at("history").back().at(1).is_null());
  EXPECT_EQ(json.at("coverage").at("fragments").at(0).at("total"), 7);
  EXPECT_EQ(CoverageFromJson(ToJson(status)), status.coverage);
  EXPECT_EQ(nlohmann::json::parse(ToJson(RunStatus{})).at("history").size(), 0u);
}

TEST(RunStatus, CoverageOfAnotherTextIsNone) {
  for (const char* text : {"", "{}", "[1]", R"({"coverage": 7})",
                           R"({"coverage": {"fragments": [{"committed": "x"}]}})"}) {
    EXPECT_FALSE(CoverageFromJson(text).has_value()) << text;
  }
}

TEST(Metrics, TextHasEveryNumber) {
  Metrics metrics;
  metrics.RoundAborted();
  metrics.Refused(RefusalCode::kWrongData);
  metrics.Refused(RefusalCode::kWrongData);
  metrics.AddBytesIn(10);
  metrics.AddBytesOut(20);
  metrics.SetWorkersLive(3);
  metrics.SetTokens(1000);
  metrics.SetLoss(2.5);
  metrics.SetRound(4);
  metrics.SetSyncSeconds(1.5);
  metrics.SetComputingPercent(70);
  const std::string text = metrics.Text();
  for (const char* line :
       {"longhaul_rounds_total{outcome=\"aborted\"} 1",
        "longhaul_rounds_total{outcome=\"committed\"} 0",
        "longhaul_refusals_total{reason=\"wrong data\"} 2",
        "longhaul_bytes_total{direction=\"in\"} 10", "longhaul_bytes_total{direction=\"out\"} 20",
        "longhaul_workers_live 3", "longhaul_tokens 1000", "longhaul_loss 2.5", "longhaul_round 4",
        "longhaul_sync_seconds 1.5", "longhaul_computing_percent 70"}) {
    EXPECT_THAT(text, HasSubstr(std::string(line) + "\n"));
  }
}

}  // namespace
}  // namespace longhaul
