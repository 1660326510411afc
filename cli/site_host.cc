#include "cli/site_host.h"

#include <sodium.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/small_file.h"
#include "common/bytes.h"
#include "common/status_macros.h"
#include "proto/codec.h"
#include "worker/site/site_trainer.h"

namespace longhaul {
namespace {

constexpr uint32_t kChannels = 2;  // commands, sums
constexpr size_t kMaxHostsBytes = 1 << 20;
constexpr Duration kConfigTimeout = Seconds(600);

Duration SecondsOf(double seconds) { return Duration(static_cast<int64_t>(seconds * 1e9)); }

absl::StatusOr<std::string> ReadKey(const std::string& path) {
  ASSIGN_OR_RETURN(std::string key, ReadSmallFile(path, kSiteKeyBytes));
  if (key.size() == kSiteKeyBytes) return key;
  return absl::InvalidArgumentError(absl::StrCat(path, " is not a site key of ", kSiteKeyBytes,
                                                 " bytes: head -c ", kSiteKeyBytes,
                                                 " /dev/urandom > FILE makes one"));
}

// A new key, in a file that only this user can read.
absl::StatusOr<std::string> WriteNewKey(const std::string& path) {
  std::string key(kSiteKeyBytes, '\0');
  randombytes_buf(key.data(), key.size());
  const mode_t before = ::umask(077);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  ::umask(before);
  file << key;
  if (!file.flush()) return absl::UnavailableError("cannot write " + path);
  return key;
}

// How many ranks this machine has, and the commands for the others.
absl::StatusOr<uint32_t> LocalRanks(const SiteFlags& flags, const std::string& address,
                                    const std::string& device,
                                    const std::function<void(const std::string&)>& say) {
  if (flags.hosts_file.empty()) return flags.ranks;
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(flags.hosts_file, kMaxHostsBytes));
  ASSIGN_OR_RETURN(const std::vector<SiteHostLine> hosts, ParseSiteHosts(text));
  uint32_t next = hosts[0].ranks;
  for (size_t h = 1; h < hosts.size(); ++h) {
    for (uint32_t local = 0; local < hosts[h].ranks; ++local, ++next) {
      say(absl::StrCat("on ", hosts[h].host, ": longhaul-worker --site-join ", address,
                       " --site-rank ", next, " --site-ranks ", flags.ranks, " --site-key ",
                       flags.key_file, " --site-deadline ", flags.deadline_seconds, " --device ",
                       DeviceOfRank(device, local)));
    }
  }
  if (next != flags.ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.hosts_file, " lists ", next, " ranks, --site-ranks says ", flags.ranks));
  }
  return hosts[0].ranks;
}

}  // namespace

absl::StatusOr<std::vector<SiteHostLine>> ParseSiteHosts(const std::string& text) {
  std::vector<SiteHostLine> hosts;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    SiteHostLine host;
    int64_t ranks = 0;
    std::string rest;
    if (!(words >> host.host)) continue;
    if (!(words >> ranks) || ranks < 1 || ranks > kMaxSiteRanks || (words >> rest)) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, " of the host list is not \"HOST RANKS\": ", line));
    }
    host.ranks = static_cast<uint32_t>(ranks);
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) return absl::InvalidArgumentError("the host list is empty");
  return hosts;
}

std::string DeviceOfRank(const std::string& device, uint32_t local_rank) {
  return device == "cuda" ? absl::StrCat("cuda:", local_rank) : device;
}

absl::StatusOr<std::unique_ptr<SiteHost>> SiteHost::Start(
    const SiteFlags& flags, const std::string& program, std::vector<std::string> arguments,
    const std::string& device, const std::string& log_folder,
    std::function<void(const std::string&)> say) {
  if (flags.ranks < 2 || flags.ranks > kMaxSiteRanks) {
    return absl::InvalidArgumentError(absl::StrCat("--site-ranks must be 2 to ", kMaxSiteRanks));
  }
  if (!(flags.join_seconds > 0 && flags.deadline_seconds > 0)) {
    return absl::InvalidArgumentError("--site-wait and --site-deadline must be more than 0");
  }
  if (!flags.hosts_file.empty() && flags.key_file.empty()) {
    return absl::InvalidArgumentError("--site-hosts needs --site-key, the same file on every host");
  }
  ASSIGN_OR_RETURN(const HostPort where, SplitAddress(flags.listen));
  std::unique_ptr<SiteHost> site(new SiteHost);
  site->say_ = std::move(say);
  std::error_code error;
  std::filesystem::create_directories(log_folder, error);
  const std::string key_file = flags.key_file.empty() ? log_folder + "/site.key" : flags.key_file;
  site->place_ = {.rank = 0, .size = flags.ranks};
  site->place_.join_timeout = SecondsOf(flags.join_seconds);
  site->deadline_ = SecondsOf(flags.deadline_seconds);
  ASSIGN_OR_RETURN(site->place_.key,
                   flags.key_file.empty() ? WriteNewKey(key_file) : ReadKey(key_file));
  ASSIGN_OR_RETURN(site->listener_, SiteListener::Listen(where.host, where.port));
  const std::string address = absl::StrCat(where.host, ":", site->listener_->port());
  ASSIGN_OR_RETURN(const uint32_t local, LocalRanks(flags, address, device, site->say_));
  for (uint32_t rank = 1; rank < local; ++rank) {
    std::vector<std::string> argv = {program};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    for (std::string word :
         {std::string("--site-join"), address, std::string("--site-rank"), absl::StrCat(rank),
          std::string("--site-ranks"), absl::StrCat(flags.ranks), std::string("--site-key"),
          key_file, std::string("--site-deadline"), absl::StrCat(flags.deadline_seconds),
          std::string("--device"), DeviceOfRank(device, rank)}) {
      argv.push_back(std::move(word));
    }
    ASSIGN_OR_RETURN(
        std::unique_ptr<ChildProcess> child,
        ChildProcess::Start(argv, absl::StrCat(log_folder, "/site-rank-", rank, ".log")));
    site->say_(absl::StrCat("rank ", rank, " of the site is process ", child->pid()));
    site->children_.push_back(std::move(child));
  }
  return site;
}

absl::StatusOr<std::unique_ptr<Trainer>> SiteHost::Assemble(const RunConfig& config,
                                                            uint64_t parameters,
                                                            std::unique_ptr<GradientTrainer> own,
                                                            const MakeGroup& make_group) {
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<SiteLink>> links,
                   listener_->Accept(place_, kChannels));
  ByteWriter out;
  out.U64(parameters);
  const std::string frame = out.Take() + EncodeRunConfig(config);
  for (uint32_t peer : links[0]->peers()) {
    RETURN_IF_ERROR(links[0]->Send(peer, frame, place_.join_timeout));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceGroup> group, make_group(std::move(links[1]), deadline_));
  return MakeSiteTrainer(std::move(own), std::move(group), std::move(links[0]),
                         {.deadline = deadline_, .say = say_});
}

absl::Status RunSiteMember(const SiteFlags& flags, const MakeOwnTrainer& make_trainer,
                           const MakeGroup& make_group) {
  ASSIGN_OR_RETURN(const HostPort where, SplitAddress(flags.join));
  if (flags.rank == 0 || flags.rank >= flags.ranks) {
    return absl::InvalidArgumentError("--site-rank must be 1 to --site-ranks less 1");
  }
  SitePlace place{.rank = flags.rank, .size = flags.ranks};
  place.join_timeout = SecondsOf(flags.join_seconds);
  ASSIGN_OR_RETURN(place.key, ReadKey(flags.key_file));
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<SiteLink>> links,
                   JoinSite(place, where.host, where.port, kChannels));
  // Rank 0 has joined the run before it knows the configuration.
  ASSIGN_OR_RETURN(const std::string frame, links[0]->Receive(0, kConfigTimeout));
  ByteReader in(frame);
  const uint64_t parameters = in.U64();
  if (!in.ok()) return absl::UnavailableError("rank 0 sent no configuration");
  ASSIGN_OR_RETURN(const RunConfig config, DecodeRunConfig(in.Rest()));
  ASSIGN_OR_RETURN(std::unique_ptr<GradientTrainer> own, make_trainer(config, parameters));
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceGroup> group,
                   make_group(std::move(links[1]), SecondsOf(flags.deadline_seconds)));
  return RunSiteRank(*own, *group, *links[0]);
}

}  // namespace longhaul
