// From a run's configuration to what the programs need: the model's shape and the data. Shared by
// coordinator and worker.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "compression/codec.h"
#include "coordinator/data_origin.h"
#include "data/blob_source.h"
#include "data/corpus.h"
#include "data/manifest.h"
#include "model/llama.h"
#include "model/parameter_table.h"
#include "proto/run_config.h"
#include "sharding/order/mixed_order.h"
#include "sync/fragments.h"

namespace longhaul {

inline bool IsToyRun(const RunConfig& config) { return config.train.optimizer == "toy"; }
// The run that averages the replicas of one block of a network cut for Relay: a sample is a
// micro-batch, and which images it has is the stages' business.
inline bool IsBlockRun(const RunConfig& config) { return config.train.mode == "relay"; }

// The sizes in the [model] section, which ResolveModel has filled in; of a block run, in its
// preset.
LlamaShape ShapeOf(const RunConfig& config);
// Which parameters each of the run's sync.fragments has; the shape must be valid.
std::vector<FragmentLayout> LayoutOf(const RunConfig& config);
// A fragment's tensors in its own numbering, as the codecs see them: what is a matrix, an
// embedding, a vector. And of each of the run's fragments.
std::vector<TensorSpan> TensorsIn(const ParameterTable& table, const FragmentLayout& layout);
std::vector<std::vector<TensorSpan>> TensorsOf(const RunConfig& config);
// Puts the sizes of model.preset or of the folder model.init_from into the section, so that workers
// need neither.
absl::Status ResolveModel(RunConfig& config);

CorpusOptions CorpusOptionsOf(const RunConfig& config);
// The folder above the torch package whose Python sources are the built-in text; "" when this build
// knows none.
std::string WheelFolder();

// The first of `candidates` (files, folders of files, and always the built-in text last) whose
// content is `identity`. NotFound names the identity that is wanted and each one that was found.
absl::StatusOr<std::shared_ptr<const Corpus>> FindCorpus(
    const RunConfig& config, const Digest& identity, const std::vector<std::string>& candidates);

// ---- runs with a manifest ----

// Shards from `place`: a prepared folder, or http://... of one.
absl::StatusOr<std::shared_ptr<BlobSource>> OpenBlobSource(const std::string& place);
// The rows of data.mixture for a manifest's domains: "web=3 code=1; 100: web=1 code=1". "" stands
// for shares by the samples of each domain. InvalidArgument names the mistake.
absl::StatusOr<std::vector<MixingRow>> ParseMixture(const std::string& text,
                                                    const Manifest& manifest);
// The order in which a run with this manifest reads it. InvalidArgument when the model cannot be
// trained on it: another sample size, a larger vocabulary, no training samples in a domain.
absl::StatusOr<MixedOrder> OrderOf(const RunConfig& config, const Manifest& manifest);
// What data.manifest names. NotFound and the like when it cannot be read.
absl::StatusOr<std::shared_ptr<DataOrigin>> OpenDataOrigin(const RunConfig& config);
// The same from a run folder's copy of the manifest, without its shards.
absl::StatusOr<std::shared_ptr<DataOrigin>> ReadRunManifest(const RunConfig& config,
                                                            const std::string& folder);
inline constexpr char kRunManifest[] = "manifest";  // in the run folder

}  // namespace longhaul
