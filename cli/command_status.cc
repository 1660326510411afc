// longhaul status: what a running coordinator's status page says.
#include <httplib.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/text_table.h"
#include "coordinator/human.h"

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

void ShowCoverage(const json& c) {
  std::printf(
      "samples    committed %llu, sealed %llu, leased %llu, discarded %llu, quarantined %llu, free "
      "%llu of %llu\n",
      c.value("committed", 0ull), c.value("sealed", 0ull), c.value("leased", 0ull),
      c.value("discarded", 0ull), c.value("quarantined", 0ull), c.value("free", 0ull),
      c.value("total", 0ull));
}

void Show(const json& status, bool coverage) {
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
  if (coverage) ShowCoverage(status.value("coverage", json::object()));
}

int Status(const Arguments& args) {
  const std::string address = AddressOf(args.where);
  httplib::Client client(address);
  client.set_connection_timeout(5);
  client.set_read_timeout(5);
  auto answer = client.Get("/api/status");
  if (!answer || answer->status != 200) {
    std::fprintf(
        stderr,
        "longhaul: no coordinator answers at %s\nGive its run folder or its dashboard's address: "
        "longhaul status runs/my-run\n",
        address.c_str());
    return kExitUnreachable;
  }
  if (args.json) {
    std::printf("%s\n", answer->body.c_str());
    return kExitOk;
  }
  const json status = json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object()) return kExitFailure;
  Show(status, args.coverage);
  return kExitOk;
}

}  // namespace

void AddStatus(CLI::App& app, Command& command) {
  auto args = std::make_shared<Arguments>();
  auto* status = app.add_subcommand("status", "What a running coordinator does");
  status->add_option("where", args->where, "run folder, or address of the dashboard")
      ->capture_default_str();
  status->add_flag("--json", args->json, "everything, as JSON");
  status->add_flag("--coverage", args->coverage,
                   "which share of the data is committed, leased, free");
  status->footer(
      "Examples:\n  longhaul status runs/my-run\n  longhaul status http://127.0.0.1:8787 --json");
  status->callback([args, &command] { command.run = [args] { return Status(*args); }; });
}

}  // namespace longhaul
