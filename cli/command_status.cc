// longhaul status: what a running coordinator's status page says, or what a stopped one's run
// folder holds.
#include <httplib.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/coverage_text.h"
#include "cli/exit_codes.h"
#include "cli/run_inputs.h"
#include "common/status_macros.h"
#include "common/storage.h"
#include "coordinator/coverage.h"
#include "coordinator/human.h"
#include "coordinator/run_folder.h"
#include "proto/codec.h"

namespace longhaul {
namespace {

using nlohmann::json;

struct Arguments {
  std::string where = "http://127.0.0.1:8787";
  bool json = false;
  bool coverage = false;
};

// A run folder stands for the address that its coordinator wrote there.
std::string AddressOf(const std::string& where) {
  std::ifstream file(where + "/http.address");
  std::string address;
  return std::getline(file, address) ? address : where;
}

void Show(const json& status) {
  std::printf("run        %s: %s", status.value("run", "").c_str(),
              status.value("phase", "").c_str());
  if (const std::string why = status.value("reason", ""); !why.empty())
    std::printf(" (%s)", why.c_str());
  const json round = status.value("last_round", json());
  std::printf("\nround      %llu of %llu\n", round.is_object() ? round.value("round", 0ull) : 0ull,
              status.value("rounds", 0ull));
  if (round.is_object()) std::printf("loss       %.3f\n", round.value("loss", 0.0));
  if (const std::string who = status.value("reduced_by", ""); !who.empty())
    std::printf("reduced by %s\n", who.c_str());
  std::printf("workers    %llu\n", status.value("workers_total", 0ull));
  for (const json& w : status.value("workers", json::array())) {
    std::printf("  %-16s %-10s %8llu steps  loss %.3f  %3.0f%% computing  up %s\n",
                w.value("name", "").c_str(), w.value("state", "").c_str(), w.value("steps", 0ull),
                w.value("loss", 0.0), w.value("computing_percent", 0.0),
                HumanBytes(w.value("bytes_up", 0ull)).c_str());
  }
}

// From the journal of a run that no coordinator has open.
absl::StatusOr<std::string> StatusOfFolder(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder + "/journal", error))
    return absl::NotFoundError("there is no run folder " + folder);
  ASSIGN_OR_RETURN(std::unique_ptr<Storage> storage, OpenFileStorage(folder));
  ASSIGN_OR_RETURN(const State state, ReadRunState(*storage));
  ASSIGN_OR_RETURN(RunStatus status, StatusOf(state));
  ASSIGN_OR_RETURN(const RunConfig config, DecodeRunConfig(AsBytes(state.run_config)));
  if (const auto data = ReadRunManifest(config, folder); data.ok())
    status.coverage.domains = DomainCoverageOf(state, **data);
  status.reason += std::string(status.reason.empty() ? "" : "; ") + "no coordinator is running";
  return ToJson(status);
}

// The status as JSON; DataLoss and the like from a folder, Unavailable from an address.
absl::StatusOr<std::string> ReadStatus(const std::string& where) {
  const std::string address = AddressOf(where);
  httplib::Client client(address);
  client.set_connection_timeout(5);
  client.set_read_timeout(5);
  auto answer = client.Get("/api/status");
  if (answer && answer->status == 200) return answer->body;
  absl::StatusOr<std::string> stored = StatusOfFolder(where);
  if (!absl::IsNotFound(stored.status())) return stored;
  return absl::UnavailableError("no coordinator answers at " + address +
                                "\nGive its run folder or its dashboard's address: "
                                "longhaul status runs/my-run");
}

int Status(const Arguments& args) {
  const absl::StatusOr<std::string> text = ReadStatus(args.where);
  if (!text.ok()) {
    std::fprintf(stderr, "longhaul: %s\n", std::string(text.status().message()).c_str());
    return absl::IsUnavailable(text.status()) ? kExitUnreachable : kExitStorage;
  }
  if (args.json) {
    std::printf("%s\n", text->c_str());
    return kExitOk;
  }
  const json status = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object()) return kExitFailure;
  Show(status);
  if (!args.coverage) return kExitOk;
  const std::optional<CoverageView> coverage = CoverageFromJson(*text);
  if (!coverage) return kExitFailure;
  std::fputs(CoverageText(*coverage).c_str(), stdout);
  return kExitOk;
}

}  // namespace

void AddStatus(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* status = app.add_subcommand("status", "What a coordinator does, or where a stopped run is");
  status->add_option("where", args->where, "run folder, or address of the dashboard")
      ->capture_default_str();
  status->add_flag("--json", args->json, "everything, as JSON");
  status->add_flag(
      "--coverage", args->coverage,
      "per fragment, which samples are committed, leased, free, discarded or quarantined");
  status->footer(
      "Examples:\n  longhaul status runs/my-run --coverage\n  longhaul status "
      "http://127.0.0.1:8787 --json");
  status->callback([args, &command] { command.run = [args] { return Status(*args); }; });
}

}  // namespace longhaul
