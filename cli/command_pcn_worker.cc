// longhaul-worker pcn-doctor: what `longhaul pcn doctor` starts, since it needs LibTorch.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/exit_codes.h"
#include "cli/worker_backend.h"
#include "pcn/rules/doctor.h"

namespace longhaul {
namespace {

std::string ToJson(const pcn::Diagnosis& d) {
  nlohmann::json layers = nlohmann::json::array();
  for (const pcn::LayerDiagnosis& layer : d.layers) {
    layers.push_back({{"reached", layer.reached},
                      {"credit_cosine", layer.credit_cosine},
                      {"size_ratio", layer.size_ratio},
                      {"energy_share", layer.energy_share}});
  }
  return nlohmann::json{{"layers", layers},
                        {"lambda_max", d.lambda_max},
                        {"rate_times_lambda", d.rate_times_lambda},
                        {"diverged", d.diverged},
                        {"suggested_sweeps", d.suggested_sweeps},
                        {"suggested_rate", d.suggested_rate},
                        {"advice", d.advice}}
      .dump(2);
}

void AddOptions(CLI::App& app, pcn::DoctorRequest& request, bool& json) {
  app.add_option("--sizes", request.sizes, "features of input (784), hidden layers and output")
      ->delimiter(',');
  app.add_option("--activation", request.activation,
                 "identity, relu, leaky_relu, tanh, gelu or hard_tanh")
      ->capture_default_str();
  app.add_option("--rule", request.rule, "backprop, zil, fpa, spc, ipc, epc or pcalm")
      ->capture_default_str();
  app.add_option("--sweeps", request.sweeps, "state sweeps per batch")->capture_default_str();
  app.add_option("--rate", request.rate, "step of states or errors")->capture_default_str();
  app.add_option("--momentum", request.momentum, "of states")->capture_default_str();
  app.add_option("--output-weight", request.output_weight, "lambda")->capture_default_str();
  app.add_flag("--cross-entropy", request.cross_entropy, "instead of the squared loss");
  app.add_option("--rows", request.rows, "images in the batch")->capture_default_str();
  app.add_option("--seed", request.seed, "of weights and images")->capture_default_str();
  app.add_flag("--json", json, "as JSON");
  app.footer("Example:\n  longhaul pcn doctor --sizes 784,128,128,128,10 --rule spc --sweeps 3");
}

}  // namespace

int RunPcnDoctor(int argc, char** argv) {
  pcn::DoctorRequest request;
  bool json = false;
  CLI::App app("Does credit reach every layer of a predictive network, and is it good?",
               "longhaul pcn doctor");
  AddOptions(app, request, json);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  const absl::StatusOr<pcn::Diagnosis> diagnosis = pcn::Diagnose(request);
  if (!diagnosis.ok()) {
    std::fprintf(stderr, "%s\n", std::string(diagnosis.status().message()).c_str());
    return ExitCodeFor(diagnosis.status());
  }
  const std::string text =
      json ? ToJson(*diagnosis) + "\n" : pcn::FormatDiagnosis(request, *diagnosis);
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace longhaul
