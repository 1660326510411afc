#include "wan/sim/seed_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "common/bytes.h"

namespace longhaul::sim {
namespace {

constexpr size_t kMaxTextBytes = 4096;

std::string EncodeReport(const SeedProcess::Report& report) {
  const WorldResult& r = report.result.world;
  ByteWriter w;
  w.U64(r.seed), w.U64(r.trace_hash), w.I64(r.simulated.count()), w.U64(r.actions);
  w.U64(r.leases), w.U64(r.commits), w.U64(r.committed), w.U64(r.lost), w.U64(r.twice);
  w.U64(r.policies.handed_out), w.U64(r.policies.lost);
  w.U64(r.policies.applied), w.U64(r.policies.twice);
  w.U64(r.restarts), w.Bool(r.refused), w.Bool(r.finished);
  for (uint64_t n : r.faults) w.U64(n);
  w.Bool(report.reran), w.Bool(report.mismatch);
  w.U64(r.violations.size());
  for (const Violation& v : r.violations) {
    w.I64(v.when.since_epoch.count());
    w.String(v.checker);
    w.String(v.what.substr(0, kMaxTextBytes));
  }
  return w.Take();
}

SeedProcess::Report DecodeReport(ByteSpan bytes) {
  ByteReader in(bytes);
  SeedProcess::Report report;
  WorldResult& r = report.result.world;
  r.seed = in.U64(), r.trace_hash = in.U64(), r.simulated = Duration(in.I64()),
  r.actions = in.U64();
  r.leases = in.U64(), r.commits = in.U64(), r.committed = in.U64(), r.lost = in.U64();
  r.twice = in.U64();
  r.policies.handed_out = in.U64(), r.policies.lost = in.U64();
  r.policies.applied = in.U64(), r.policies.twice = in.U64();
  r.restarts = in.U64(), r.refused = in.Bool(), r.finished = in.Bool();
  for (uint64_t& n : r.faults) n = in.U64();
  report.reran = in.Bool(), report.mismatch = in.Bool();
  const uint64_t count = in.Count(16);
  for (uint64_t i = 0; i < count; ++i) {
    Violation v{.when = Timestamp{Duration(in.I64())}};
    v.checker = in.String(kMaxTextBytes);
    v.what = in.String(kMaxTextBytes);
    r.violations.push_back(std::move(v));
  }
  return report;
}

void WriteAll(int fd, const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n <= 0) ::_exit(3);  // the parent is gone
    done += static_cast<size_t>(n);
  }
}

[[noreturn]] void RunSeeds(WorldOptions options, const std::vector<uint64_t>& seeds,
                           uint32_t rerun_one_in, int out) {
  for (uint64_t seed : seeds) {
    options.seed = seed;
    SeedProcess::Report report;
    report.result.world = World(options).Run();
    report.reran = rerun_one_in > 0 && seed % rerun_one_in == 0;
    if (report.reran)
      report.mismatch = World(options).Run().trace_hash != report.result.world.trace_hash;
    const std::string body = EncodeReport(report);
    ByteWriter frame;
    frame.U32(static_cast<uint32_t>(body.size()));
    WriteAll(out, frame.str() + body);
  }
  ::_exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SeedProcess>> SeedProcess::Start(const WorldOptions& options,
                                                                std::vector<uint64_t> seeds,
                                                                uint32_t rerun_one_in) {
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0) return absl::UnavailableError("no pipe");
  if (::pipe2(err, O_CLOEXEC) != 0) {
    ::close(out[0]), ::close(out[1]);
    return absl::UnavailableError("no pipe");
  }
  ::fflush(nullptr);
  const int pid = ::fork();
  if (pid == 0) {
    ::signal(SIGINT, SIG_IGN);  // the parent ends us
    ::dup2(err[1], 2);
    ::fcntl(2, F_SETFL, O_NONBLOCK);  // nobody may read it: then it is lost
    RunSeeds(options, seeds, rerun_one_in, out[1]);
  }
  ::close(out[1]), ::close(err[1]);
  std::unique_ptr<SeedProcess> process(new SeedProcess);
  process->pid_ = pid;
  process->out_ = out[0];
  process->err_ = err[0];
  process->seeds_ = std::move(seeds);
  if (pid < 0) return absl::UnavailableError(std::string("no process: ") + std::strerror(errno));
  ::fcntl(process->out_, F_SETFL, O_NONBLOCK);
  ::fcntl(process->err_, F_SETFL, O_NONBLOCK);
  return process;
}

SeedProcess::~SeedProcess() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(out_), ::close(err_);
}

bool SeedProcess::Read(std::vector<Report>& reports) {
  char part[65536];
  ssize_t n;
  while ((n = ::read(out_, part, sizeof part)) > 0) buffer_.append(part, static_cast<size_t>(n));
  size_t at = 0;
  while (buffer_.size() - at >= 4) {
    uint32_t size;
    std::memcpy(&size, buffer_.data() + at, 4);
    if (buffer_.size() - at - 4 < size) break;
    reports.push_back(DecodeReport(AsBytes(std::string_view(buffer_).substr(at + 4, size))));
    seeds_.erase(seeds_.begin());
    at += 4 + size;
  }
  buffer_.erase(0, at);
  return n != 0;
}

std::string SeedProcess::LastWords() {
  std::string text;
  char part[4096];
  ssize_t n;
  while ((n = ::read(err_, part, sizeof part)) > 0) text.append(part, static_cast<size_t>(n));
  const size_t broken = text.rfind("broken invariant");
  if (broken != std::string::npos) return text.substr(broken, text.find('\n', broken) - broken);
  return "the process ended without a word";
}

}  // namespace longhaul::sim
