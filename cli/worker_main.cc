// longhaul-worker and longhaul-worker-toy: join a run and train until it is over.
#include <sodium.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "cli/exit_codes.h"
#include "cli/invitation_text.h"
#include "cli/run_inputs.h"
#include "cli/signals.h"
#include "cli/worker_backend.h"
#include "cli/worker_file.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "transport/invitation.h"
#include "transport/keys.h"
#include "worker/service.h"

namespace longhaul {
namespace {

constexpr uint64_t kUsualDiskBytes = 4'000'000'000;  // of training data, without limits.disk_gb

struct Arguments {
  std::string invitation;
  std::string worker_file;
  std::string home;  // folder of the identity; "" = the usual one
  WorkerFlags flags;
  std::string device = "auto";
  SiteFlags site;
  double give_up_s = 60;
  std::string peer_listen;
  std::string peer_advertise;
  uint32_t toy_step_ms = 0;
  bool verbose = false;
};

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string HostName() {
  char name[256] = "worker";
  ::gethostname(name, sizeof name - 1);
  return name;
}

uint64_t MachineMemoryBytes() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The key in `path`, made when there is none.
template <class Keys, class Read>
absl::StatusOr<Keys> ReadOrMake(const std::string& path, Read read) {
  absl::StatusOr<Keys> keys = read(path);
  if (keys.ok() || !absl::IsNotFound(keys.status())) return keys;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  Keys made = Keys::Generate();
  RETURN_IF_ERROR(WriteKeyFile(path, made));
  return made;
}

// For a run with a manifest: where its blocks may come from and where they are kept.
absl::Status UseBlocks(const WorkerSettings& settings, WorkerService::Options& o) {
  for (const std::string& place : settings.data) {
    std::error_code error;
    const bool http = place.starts_with("http://");
    if (!http && !std::filesystem::exists(place + "/shards", error)) continue;  // other data
    ASSIGN_OR_RETURN(std::shared_ptr<BlobSource> source, OpenBlobSource(place));
    o.sources.push_back(std::move(source));
  }
  o.blocks_folder = o.snapshot_folder + "/blocks";
  o.blocks_bytes =
      settings.disk_gb > 0 ? static_cast<uint64_t>(settings.disk_gb * 1e9) : kUsualDiskBytes;
  o.make_order = OrderOf;
  return absl::OkStatus();
}

// The other ranks of this machine, each a process.
absl::StatusOr<std::shared_ptr<SiteHost>> StartSite(const Arguments& args,
                                                    const WorkerSettings& settings,
                                                    uint32_t threads) {
  if (args.device == "auto")
    return absl::InvalidArgumentError("--site-ranks needs --device cpu or --device cuda");
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  ASSIGN_OR_RETURN(
      std::unique_ptr<SiteHost> site,
      SiteHost::Start(args.site, program, {"--threads", std::to_string(threads)}, args.device,
                      settings.identity + ".site", [](const std::string& text) { LogInfo(text); }));
  return std::shared_ptr<SiteHost>(std::move(site));
}

// A rank of a site that is not rank 0: no identity, no run of its own.
int RunRank(const Arguments& args) {
  const uint32_t threads = args.flags.threads.value_or(std::thread::hardware_concurrency());
  const BackendOptions backend{args.device, std::max(1u, threads), MachineMemoryBytes(), 0, {}};
  const absl::Status status = RunMember(backend, args.site);
  if (status.ok()) return kExitOk;
  LogError(std::string(status.message()));
  return ExitCodeFor(status);
}

absl::StatusOr<WorkerService::Outcome> Join(const Arguments& args) {
  ASSIGN_OR_RETURN(Invitation invitation, ReadInvitation(args.invitation));
  const std::string user_home = Environment("HOME");
  const std::string folder =
      args.home.empty() ? WorkerConfigFolder(Environment("XDG_CONFIG_HOME"), user_home) : args.home;
  ASSIGN_OR_RETURN(WorkerSettings settings,
                   LoadWorkerFile(args.worker_file, args.flags, folder, user_home));

  WorkerService::Options o;
  o.invitation = invitation;
  ASSIGN_OR_RETURN(o.keys, ReadOrMake<CurveKeyPair>(settings.identity, ReadCurveKeyFile));
  ASSIGN_OR_RETURN(o.signing_keys,
                   ReadOrMake<SigningKeyPair>(settings.identity + ".signing", ReadSigningKeyFile));
  randombytes_buf(&o.process.high, sizeof o.process.high);
  randombytes_buf(&o.process.low, sizeof o.process.low);
  o.name = settings.name.empty() ? HostName() : settings.name;
  o.threads =
      settings.threads != 0 ? settings.threads : std::max(1u, std::thread::hardware_concurrency());
  o.memory_bytes = settings.memory_gb > 0 ? static_cast<uint64_t>(settings.memory_gb * 1e9)
                                          : MachineMemoryBytes();
  o.uplink_bytes_per_s = static_cast<uint64_t>(settings.up_mbit * 1e6 / 8);
  o.give_up = Duration(static_cast<int64_t>(args.give_up_s * 1e9));
  o.peer_listen = args.peer_listen;
  o.peer_advertise = args.peer_advertise;
  o.say = [](const std::string& text) { LogInfo(text); };
  // Ranks of one machine share its processors and its memory.
  const uint32_t share = args.site.hosts_file.empty() ? args.site.ranks : 1;
  o.threads = std::max(1u, o.threads / share);
  BackendOptions backend{DeviceOfRank(args.device, 0), o.threads, o.memory_bytes / share,
                         args.toy_step_ms, settings.data};
  if (args.site.ranks > 1) {
    ASSIGN_OR_RETURN(backend.site, StartSite(args, settings, o.threads));
  }
  ASSIGN_OR_RETURN(std::string description, DescribeBackend(backend));
  LogInfo("joining " + invitation.addresses[0] + " with " + description + ", " +
          std::to_string(o.threads) + " threads");
  o.make_layout = LayoutOf;
  o.make_tensors = TensorsOf;
  o.snapshot_folder = settings.identity + ".runs/" + invitation.run_id();
  UseBackend(backend, o);
  RETURN_IF_ERROR(UseBlocks(settings, o));
  WorkerService service(std::move(o));
  return service.Run(StopCount(/*requests=*/2));
}

void AddSiteOptions(CLI::App& app, SiteFlags& site) {
  app.add_option("--site-ranks", site.ranks,
                 "processes, one per GPU, that are this one worker (docs/SITES.md)");
  app.add_option("--site-hosts", site.hosts_file, "file of the site's hosts and their ranks");
  app.add_option("--site-listen", site.listen, "where rank 0 waits for the others, ADDRESS:PORT");
  app.add_option("--site-key", site.key_file, "file of 32 random bytes, the same for all ranks");
  app.add_option("--site-wait", site.join_seconds, "seconds to wait for all ranks (60)");
  app.add_option("--site-deadline", site.deadline_seconds,
                 "a rank that keeps the others waiting for longer, in seconds, is given up (120)");
  app.add_option("--site-join", site.join,
                 "this process is another rank of the site at ADDRESS:PORT");
  app.add_option("--site-rank", site.rank, "which rank, from 1");
}

void AddOptions(CLI::App& app, Arguments& args) {
  app.add_option("invitation", args.invitation, "LH1-..., or @FILE that holds it");
  app.add_option("--name", args.flags.name, "what the run's page calls this machine")
      ->envname("LONGHAUL_NAME");
  app.add_option("--data", args.flags.data,
                 "file, folder or http:// origin that may hold the run's data; may be repeated");
  app.add_option("--disk", args.flags.disk_gb, "disk that the run's data may take, GB (4)")
      ->envname("LONGHAUL_DISK");
  app.add_option("--threads", args.flags.threads, "CPU threads (all)")->envname("LONGHAUL_THREADS");
  app.add_option("--up", args.flags.up_mbit, "limit of the upload, Mbit/s")->envname("LONGHAUL_UP");
  app.add_option("--memory", args.flags.memory_gb, "memory that may be used, GB")
      ->envname("LONGHAUL_MEMORY");
  app.add_option("--device", args.device, "cpu, cuda, cuda:N or auto")->envname("LONGHAUL_DEVICE");
  AddSiteOptions(app, args.site);
  app.add_option("--home", args.home, "folder of identity and worker.toml");
  app.add_option("--config", args.worker_file, "this worker's own file (worker.toml)");
  app.add_option("--give-up", args.give_up_s, "seconds to try to join; 0 = for ever");
  app.add_option("--peer", args.peer_listen,
                 "address:port for other workers: offers to add up contributions, if the run "
                 "trusts this worker to, and shares training data; port 0 = any free one")
      ->envname("LONGHAUL_PEER");
  app.add_option("--peer-advertise", args.peer_advertise,
                 "host:port that other workers are told (a guess from --peer)")
      ->envname("LONGHAUL_PEER_ADVERTISE");
  app.add_option("--toy-step-ms", args.toy_step_ms,
                 "longhaul-worker-toy only: time of one step of this machine");
  app.add_flag("-v,--verbose", args.verbose, "log everything");
}

int Finish(const absl::StatusOr<WorkerService::Outcome>& outcome) {
  if (!outcome.ok()) {
    LogError(std::string(outcome.status().message()));
    return absl::IsNotFound(outcome.status()) ? kExitData : ExitCodeFor(outcome.status());
  }
  if (outcome->success) {
    LogInfo(outcome->reason);
    return kExitOk;
  }
  LogError(outcome->reason);
  if (outcome->refusal == RefusalCode::kWrongData) return kExitData;
  return outcome->refusal ? kExitRefused : kExitFailure;
}

int Main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "pcn-doctor") return RunPcnDoctor(argc - 1, argv + 1);
  if (first == "pcn-stage") return RunPcnStage(argc - 1, argv + 1);
  Arguments args;
  CLI::App app("Join a Longhaul run and train until it is over.", BackendName());
  app.set_version_flag("--version", BackendName() + " " LONGHAUL_VERSION);
  app.footer("Example:\n  " + BackendName() + " LH1-... --name kitchen-pc --threads 4 --up 10");
  AddOptions(app, args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  StartLogging(args.verbose ? LogLevel::kDebug : LogLevel::kInfo,
               args.flags.name.value_or(BackendName()), "");
  if (!args.site.join.empty()) return RunRank(args);
  if (args.invitation.empty()) {
    std::fputs("an invitation is required: LH1-..., or @FILE that holds it\n", stderr);
    return kExitUsage;
  }
  return Finish(Join(args));
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) { return longhaul::Main(argc, argv); }
