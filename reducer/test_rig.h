// Tests only: contributions made from random values, and the naive twin of a reducer, which keeps
// whole vectors in memory and adds in 128 bits.
#pragma once

#include <bit>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/hash.h"
#include "common/rng.h"
#include "reducer/reducer.h"
#include "sync/exact_sum.h"
#include "sync/norm_rules.h"

namespace longhaul {

inline constexpr Generation kGeneration{3, 99};

inline std::vector<float> RandomFloats(Rng& rng, size_t n, double scale) {
  std::vector<float> v(n);
  for (float& x : v) {
    x = static_cast<float>(scale * 0x1p-63 * static_cast<double>(static_cast<int64_t>(rng.Next())));
  }
  return v;
}

inline CodecPlan PlanFor(const Codec& codec, const Reducer::Options& o,
                         const std::vector<float>& values) {
  const auto plan =
      MakePlan(codec, o.elements, o.chunk_elements, [&](uint64_t first, std::span<float> out) {
        std::copy_n(values.begin() + static_cast<ptrdiff_t>(first), out.size(), out.begin());
      });
  LONGHAUL_CHECK(plan.has_value(), "test values must be codable");
  return *plan;
}

inline std::string CodeChunk(const Codec& codec, const CodecPlan& plan, uint64_t first,
                             std::span<const float> values) {
  std::string payload(codec.EncodedBytes(values.size()), '\0');
  const auto bytes =
      codec.EncodeChunk(plan, first, values, std::as_writable_bytes(std::span(payload)));
  LONGHAUL_CHECK(bytes.has_value(), "test values must be codable");
  payload.resize(*bytes);
  return payload;
}

struct Contribution {
  ObjectInfo info;
  uint32_t weight = 1;
  std::vector<ChunkHeader> headers;
  std::vector<std::string> payloads;
  std::vector<float> decoded;
};

inline Contribution MakeContribution(const Reducer::Options& o, Version base, ContributionId id,
                                     uint32_t weight, const std::vector<float>& values) {
  Contribution c;
  c.weight = weight;
  c.decoded.resize(o.elements);
  const auto codec = MakeCodec(o.codec_up, o.layout);
  const CodecPlan plan = PlanFor(*codec, o, values);
  std::vector<Digest> digests;
  for (uint64_t from = 0; from < o.elements; from += o.chunk_elements) {
    const uint64_t n = std::min(o.chunk_elements, o.elements - from);
    std::string payload = CodeChunk(*codec, plan, from, std::span(values).subspan(from, n));
    const ByteSpan bytes = AsBytes(payload);
    LONGHAUL_CHECK(codec->DecodeChunk(from, bytes, std::span(c.decoded).subspan(from, n)),
                   "codable");
    digests.push_back(ChunkDigest(bytes));
    c.info.bytes += payload.size();
    c.headers.push_back({ObjectKind::kContribution, 1, static_cast<uint32_t>(c.headers.size()),
                         static_cast<uint32_t>(o.codec_up.id), n, payload.size(), Xxh3(bytes)});
    c.payloads.push_back(std::move(payload));
  }
  c.info.chunks = static_cast<uint32_t>(digests.size());
  c.info.root = RootDigest(digests);
  c.info.id = {ObjectKind::kContribution, kGeneration, o.fragment, base, id};
  return c;
}

// Expects it and sends every chunk in order; the last progress.
inline absl::StatusOr<Reducer::Progress> Deliver(Reducer& reducer, const Contribution& c) {
  absl::StatusOr<Reducer::Progress> progress = reducer.Expect(c.info, c.weight);
  for (size_t i = 0; i < c.payloads.size() && progress.ok(); ++i) {
    progress = reducer.AddChunk(c.info.id.contribution, c.headers[i], AsBytes(c.payloads[i]));
  }
  return progress;
}

// What a list of contributions must lead to, in plain loops.
struct NaiveReducer {
  Reducer::Options options;
  Version version;
  std::vector<float> parameters, momentum, residual;

  struct Outcome {
    Digest root{};
    Digest state_hash{};
    std::vector<std::string> payloads;
    std::vector<float> parameters, momentum, residual;
  };

  Outcome Close(const Reducer::CloseOrder& order,
                const std::map<ContributionId, Contribution>& known) const {
    Outcome out{{}, {}, {}, parameters, momentum, residual};
    const std::vector<float> mean = Mean(order, known);
    const auto codec = MakeCodec(options.codec_down, options.layout);
    std::vector<float> all(options.elements);
    for (uint64_t i = 0; i < options.elements; ++i) {
      const float owed = options.beta_down < 0 ? 0 : options.beta_down * residual[i];
      all[i] = options.beta_down < 0 ? mean[i] : owed + mean[i];
    }
    const CodecPlan plan = PlanFor(*codec, options, all);
    std::vector<Digest> chunks, states;
    for (uint64_t from = 0; from < options.elements; from += options.chunk_elements) {
      const uint64_t n = std::min(options.chunk_elements, options.elements - from);
      const std::span<const float> coded = std::span(all).subspan(from, n);
      std::vector<float> decoded(n);
      std::string payload = CodeChunk(*codec, plan, from, coded);
      const ByteSpan bytes = AsBytes(payload);
      LONGHAUL_CHECK(codec->DecodeChunk(from, bytes, decoded), "codable");
      std::string state;
      for (uint64_t i = 0; i < n; ++i) {
        if (options.beta_down >= 0) out.residual[from + i] = coded[i] - decoded[i];
        float& b = out.momentum[from + i];
        b = order.outer_momentum * b + decoded[i];
        const float ahead = decoded[i] + order.outer_momentum * b;
        out.parameters[from + i] = parameters[from + i] - order.outer_lr * ahead;
      }
      state.append(reinterpret_cast<const char*>(&out.parameters[from]), 4 * n);
      state.append(reinterpret_cast<const char*>(&out.momentum[from]), 4 * n);
      chunks.push_back(ChunkDigest(bytes));
      states.push_back(ChunkDigest(AsBytes(state)));
      out.payloads.push_back(std::move(payload));
    }
    out.root = RootDigest(chunks);
    out.state_hash = RootDigest(states);
    return out;
  }

  void Install(const Outcome& outcome) {
    parameters = outcome.parameters;
    momentum = outcome.momentum;
    residual = outcome.residual;
    version = version.Next();
  }

  static __int128 Grid(float v) {
    return static_cast<__int128>(std::nearbyint(std::ldexp(static_cast<double>(v), 40)));
  }

  // The rules themselves have twins in sync/; what they are fed is found anew here.
  std::vector<float> Mean(const Reducer::CloseOrder& order,
                          const std::map<ContributionId, Contribution>& known) const {
    std::vector<float> mean(options.elements);
    std::vector<TensorSpan> tensors = options.layout;
    if (tensors.empty()) tensors = {{0, options.elements}};
    for (const TensorSpan& t : tensors) {
      const auto norm = [&](const std::vector<float>& values) {
        SquaredSum sum = 0;
        for (uint64_t i = t.offset; i < t.offset + t.count; ++i) {
          sum += static_cast<SquaredSum>(Grid(values[i]) * Grid(values[i]));
        }
        return sum;
      };
      std::vector<SquaredSum> norms;
      std::vector<uint32_t> given;
      for (const Reducer::Included& included : order.include) {
        norms.push_back(norm(known.at(included.id).decoded));
        given.push_back(included.weight);
      }
      TensorWeights w{given, order.divisor};
      if (options.rules.norm_cap) w = NormCap(norms, given);
      for (uint64_t i = t.offset; i < t.offset + t.count; ++i) {
        __int128 sum = 0;
        uint64_t contributors = 0;
        for (size_t m = 0; m < given.size(); ++m) {
          const float v = known.at(order.include[m].id).decoded[i];
          sum += Grid(v) * w.weights[m];
          if (v != 0) contributors += given[m];
        }
        uint64_t divisor = w.divisor;
        if (options.rules.contributor_mean) divisor = std::max<uint64_t>(1, contributors);
        mean[i] = static_cast<float>(static_cast<double>(static_cast<int64_t>(sum)) /
                                     std::ldexp(static_cast<double>(divisor), 40));
      }
      if (!options.rules.restore_norm) continue;
      const float gain = static_cast<float>(RestoringGain(norms, given, norm(mean))) /
                         static_cast<float>(kGainOne);
      for (uint64_t i = t.offset; i < t.offset + t.count; ++i) mean[i] *= gain;
    }
    return mean;
  }
};

inline CommitView CommitOf(const Reducer::CloseOrder& order, const Reducer::Prepared& prepared) {
  return {order.round,
          order.attempt,
          prepared.aggregate.id.fragment,
          order.version,
          prepared.aggregate,
          std::bit_cast<uint32_t>(order.outer_lr),
          std::bit_cast<uint32_t>(order.outer_momentum),
          prepared.state_hash};
}

}  // namespace longhaul
