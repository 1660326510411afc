#include "cli/doctor.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/reach.h"
#include "cli/run_program.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

// A TCP socket on a free port of loopback; listens or only holds the port.
class Port {
 public:
  explicit Port(bool listens) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    if (listens) {
      EXPECT_EQ(::listen(fd_, 4), 0);
    }
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    number_ = ntohs(address.sin_port);
  }
  ~Port() { ::close(fd_); }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  HostPort At(const std::string& host) const { return {host, number_}; }

 private:
  int fd_;
  uint16_t number_ = 0;
};

class DoctorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "doctor_test." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ + "/driver/nvidia");
    options_.version = "0.1.0";
    options_.program_folder = folder_;
    options_.run_folder = folder_ + "/runs/new";
    options_.proc = folder_;
    options_.cgroup = folder_;
    options_.connect_timeout = Seconds(2);
    options_.probe_gpu = [] { return GpuFacts(); };
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  void WriteWorker(const std::string& script) {
    Write("longhaul-worker", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(folder_ + "/longhaul-worker", std::filesystem::perms::owner_all);
  }
  CheckResult Memory() { return CheckMemory(folder_, folder_); }

  std::string folder_;
  DoctorOptions options_;
};

TEST_F(DoctorTest, TcpWithoutBbrIsAWarningWithACommand) {
  EXPECT_EQ(CheckTcp(folder_).level, CheckLevel::kOk);  // unknown
  const std::string ipv4 = folder_ + "/sys/net/ipv4";
  std::filesystem::create_directories(ipv4);
  std::ofstream(ipv4 + "/tcp_congestion_control") << "cubic\n";
  std::ofstream(ipv4 + "/tcp_allowed_congestion_control") << "reno cubic\n";
  std::ofstream(ipv4 + "/tcp_slow_start_after_idle") << "1\n";
  const CheckResult stock = CheckTcp(folder_);
  EXPECT_EQ(stock.level, CheckLevel::kWarn);
  EXPECT_THAT(stock.detail, HasSubstr("slow start after every pause"));
  EXPECT_THAT(stock.next, HasSubstr("tcp_congestion_control=bbr"));
  std::ofstream(ipv4 + "/tcp_allowed_congestion_control") << "reno cubic bbr\n";
  EXPECT_EQ(CheckTcp(folder_).level, CheckLevel::kOk);
}

TEST_F(DoctorTest, LinkFactsAreShown) {
  const Port port(/*listens=*/true);
  options_.coordinator = port.At("127.0.0.1");
  options_.handshake = [](const HostPort&) {
    return LinkFacts{101.5, "bbr", 12.5e6, 125e6, "", "settings"};
  };
  LinkFacts facts;
  EXPECT_THAT(CheckCoordinator(options_, &facts).detail, HasSubstr("round trip 101.5 ms, bbr"));
  EXPECT_EQ(facts.note, "settings");
  EXPECT_EQ(CheckLink(facts).detail, "100 Mbit/s up, 1000 Mbit/s down");
  EXPECT_EQ(CheckLink(facts).level, CheckLevel::kOk);
  facts.up_bytes_per_s = 0;
  facts.problem = "nothing came through";
  EXPECT_EQ(CheckLink(facts).level, CheckLevel::kWarn);
  EXPECT_THAT(CheckLink(facts).detail, HasSubstr("nothing came through"));
}

TEST_F(DoctorTest, VerdictIsAskedOnlyAboutAWayThatWorks) {
  WriteWorker("echo fine");
  const Port open(true), closed(false);
  options_.coordinator = open.At("127.0.0.1");
  options_.handshake = [](const HostPort&) { return LinkFacts{10, "bbr", 1e6, 1e6, "", ""}; };
  options_.verdict = [](const LinkFacts& link) {
    return CheckResult{CheckLevel::kFail, "computing", std::to_string(link.round_trip_ms), "leave"};
  };
  const auto results = RunDoctor(options_);
  EXPECT_EQ(results.back().name, "computing");
  EXPECT_EQ(results[results.size() - 2].name, "link");
  EXPECT_EQ(DoctorExitCode(results), kExitFailure);
  options_.coordinator = closed.At("127.0.0.1");
  EXPECT_EQ(RunDoctor(options_).back().name, "coordinator");
}

TEST_F(DoctorTest, WorkerProgram) {
  EXPECT_EQ(CheckWorkerProgram(options_).level, CheckLevel::kFail);
  options_.training = false;
  EXPECT_EQ(CheckWorkerProgram(options_).level, CheckLevel::kWarn);
  options_.training = true;
  WriteWorker("echo \"longhaul-worker 0.1.0, LibTorch 2.11.0 $1\"");
  const CheckResult good = CheckWorkerProgram(options_);
  EXPECT_EQ(good.level, CheckLevel::kOk);
  EXPECT_EQ(good.detail, "longhaul-worker 0.1.0, LibTorch 2.11.0 --version");
  WriteWorker("echo 'libtorch_cpu.so: cannot open' >&2; exit 127");
  const CheckResult bad = CheckWorkerProgram(options_);
  EXPECT_EQ(bad.level, CheckLevel::kFail);
  EXPECT_THAT(bad.detail, HasSubstr("code 127: libtorch_cpu.so"));
  EXPECT_THAT(bad.next, HasSubstr("setup.sh"));
  WriteWorker("exec cat /dev/zero");  // never ends
  options_.worker_timeout = Milliseconds(50);
  EXPECT_THAT(CheckWorkerProgram(options_).detail, HasSubstr("in time"));
}

TEST_F(DoctorTest, Memory) {
  EXPECT_EQ(Memory().level, CheckLevel::kWarn);  // no file
  Write("meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   8000000 kB\n");
  EXPECT_EQ(Memory().level, CheckLevel::kOk);
  EXPECT_EQ(Memory().detail, "8.19 GB free of 16.4 GB");
  Write("memory.max", "3000000000\n");
  Write("memory.current", "2000000000\n");
  EXPECT_EQ(Memory().level, CheckLevel::kWarn);
  EXPECT_EQ(Memory().detail, "1.00 GB free of 3.00 GB (limit of this container)");
  Write("memory.current", "9000000000\n");
  EXPECT_EQ(Memory().level, CheckLevel::kFail);
  Write("memory.max", "max\n");
  EXPECT_EQ(Memory().level, CheckLevel::kOk);
}

GpuFacts OneGpu(int major, int minor) {
  GpuFacts facts{.driver = true, .cuda_version = 13000, .nccl = "2.28.9"};
  facts.gpus.push_back({"Test GPU", major, minor, 24'000'000'000});
  return facts;
}

TEST_F(DoctorTest, GpuDriver) {
  EXPECT_EQ(CheckGpu(folder_, {}).level, CheckLevel::kOk);
  EXPECT_THAT(CheckGpu(folder_, {}).detail, HasSubstr("no NVIDIA driver"));
  Write("driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.1  Sun\n");
  EXPECT_THAT(CheckGpu(folder_, OneGpu(9, 0)).next, HasSubstr("driver 580 or newer"));
  Write("driver/nvidia/version", "");
  EXPECT_EQ(CheckGpu(folder_, {}).level, CheckLevel::kWarn);
  Write("driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\nGCC: 12.2\n");
  EXPECT_THAT(CheckGpu(folder_, {}).detail, HasSubstr("580.65.06, but no libcuda.so.1"));
}

TEST_F(DoctorTest, Gpus) {
  Write("driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\nGCC: 12.2\n");
  EXPECT_EQ(CheckGpu(folder_, OneGpu(9, 0)).level, CheckLevel::kOk);
  EXPECT_EQ(CheckGpu(folder_, OneGpu(9, 0)).detail,
            "NVIDIA driver 580.65.06; Test GPU (compute capability 9.0, 24.0 GB); NCCL 2.28.9");
  EXPECT_EQ(CheckGpu(folder_, OneGpu(7, 5)).level, CheckLevel::kOk);
  EXPECT_THAT(CheckGpu(folder_, OneGpu(7, 0)).next, HasSubstr("compute capability 7.5"));
  GpuFacts none = OneGpu(9, 0);
  none.gpus.clear();
  EXPECT_THAT(CheckGpu(folder_, none).detail, HasSubstr("and no GPU"));
  none.problem = "no CUDA-capable device is detected";
  EXPECT_THAT(CheckGpu(folder_, none).detail, HasSubstr("does not start: no CUDA-capable"));
  GpuFacts two = OneGpu(9, 0);
  two.gpus.push_back(two.gpus[0]);
  two.nccl = "";
  EXPECT_THAT(CheckGpu(folder_, two).next, HasSubstr("./setup.sh --gpu installs NCCL"));
}

TEST(ProbeGpu, NoDriverIsNoError) {
  EXPECT_FALSE(ProbeGpu("/no/such/libcuda.so.1").driver);
  EXPECT_THAT(ProbeGpu("libm.so.6").problem, HasSubstr("is no CUDA driver"));
}

TEST_F(DoctorTest, DiskOfAFolderThatIsNotThereYet) {
  const CheckResult result = CheckDisk(options_.run_folder);
  EXPECT_THAT(result.detail, HasSubstr("free at " + std::filesystem::canonical(folder_).string()));
}

TEST_F(DoctorTest, Coordinator) {
  LinkFacts facts;
  const Port open(true), closed(false);
  options_.coordinator = open.At("127.0.0.1");
  EXPECT_EQ(CheckCoordinator(options_, &facts).level, CheckLevel::kOk);
  options_.handshake = [](const HostPort&) { return absl::PermissionDeniedError("expired"); };
  EXPECT_EQ(CheckCoordinator(options_, &facts).level, CheckLevel::kFail);
  EXPECT_THAT(CheckCoordinator(options_, &facts).detail, HasSubstr("is open, but: expired"));
  options_.coordinator = closed.At("127.0.0.1");
  EXPECT_THAT(CheckCoordinator(options_, &facts).detail, HasSubstr("Connection refused"));
  EXPECT_THAT(CheckCoordinator(options_, &facts).next, HasSubstr("firewall"));
  options_.coordinator = HostPort{"bad name of a host", 1};
  EXPECT_THAT(CheckCoordinator(options_, &facts).detail, HasSubstr("does not resolve"));
}

TEST_F(DoctorTest, WholeReport) {
  WriteWorker("echo fine");
  Write("meminfo", "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n");
  const Port closed(false);
  options_.coordinator = closed.At("127.0.0.1");
  const auto results = RunDoctor(options_);
  const std::string text = FormatDoctor(results);
  EXPECT_THAT(text, HasSubstr("coordinator"));
  EXPECT_THAT(text, HasSubstr("FAIL"));
  EXPECT_THAT(text, HasSubstr("next:\n"));
  const auto json = nlohmann::json::parse(DoctorJson(results));
  EXPECT_EQ(json.at("ok"), false);
  EXPECT_EQ(json.at("checks").size(), results.size());
  EXPECT_EQ(json.at("checks").back().at("level"), "FAIL");
}

TEST(Doctor, ExitCodes) {
  const CheckResult fine{CheckLevel::kWarn, "memory", "", ""};
  const CheckResult broken{CheckLevel::kFail, "memory", "", ""};
  const CheckResult far{CheckLevel::kFail, "coordinator", "", ""};
  EXPECT_EQ(DoctorExitCode({fine}), kExitOk);
  EXPECT_EQ(DoctorExitCode({fine, far}), kExitUnreachable);
  EXPECT_EQ(DoctorExitCode({far, broken}), kExitFailure);
}

TEST(RunProgram, OutputIsBoundedAndSignalsAreTold) {
  const auto much =
      RunProgram("/bin/sh", {"-c", "head -c 300000 /dev/zero; kill -9 $$"}, Seconds(20));
  ASSERT_TRUE(much.ok()) << much.status();
  EXPECT_EQ(much->text.size(), kMaxProgramOutput);
  EXPECT_EQ(much->exit_code, 128 + 9);
  EXPECT_EQ(RunProgram("/no/such/program", {}, Seconds(20)).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace longhaul
