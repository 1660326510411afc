// Codes a fragment that lies on a device, to the same bytes as the codecs on the processor
// (compression/codec.h): only coded bytes leave the device. One engine runs it on a GPU
// (compression/cuda/device_engine.cuh), another on the processor (grid.h), which is its test.
//
// Thread rule: one thread. Memory beside what the caller gives: half a byte per value for the
// histograms, 13 bytes for each value of a batch, and as much pinned host memory as a batch has
// code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "compression/codec.h"
#include "compression/cuda/block.h"
#include "compression/cuda/decode.h"
#include "compression/cuda/grid.h"
#include "compression/cuda/input.h"
#include "compression/cuda/measure.h"
#include "compression/cuda/places.h"
#include "compression/cuda/quantise.h"
#include "compression/cuda/write_section.h"
#include "compression/rate_control.h"

namespace longhaul::cuda {

enum class CoderResult { kOk, kNotFinite, kDamaged, kDeviceError };

// The chunks' bytes, one after the other.
struct CodedBytes {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> sizes;  // of each chunk
};

template <class Engine>
class FragmentCoder {
 public:
  struct Options {
    CodecSpec codec;                  // int8, int4, int2 or bit-budget, as MakeCodec takes it
    std::vector<TensorSpan> tensors;  // of the fragment; empty: one matrix
    uint64_t elements = 0;
    uint32_t chunk_elements = kMostChunkElements;  // at most; a multiple of 64
    uint32_t batch_chunks = 512;                   // coded at a time
  };
  // Which codecs there are; the others stay on the processor.
  static bool Knows(CodecId id) {
    return id == CodecId::kInt8 || id == CodecId::kInt4 || id == CodecId::kInt2 ||
           id == CodecId::kBitBudget;
  }

  // `engine` outlives it.
  FragmentCoder(Engine& engine, Options options) : engine_(engine), options_(std::move(options)) {
    if (options_.codec.id != CodecId::kBitBudget) return;
    places_ = MakePlaces(options_.tensors, options_.elements, options_.chunk_elements,
                         options_.batch_chunks);
    for (const SectionPlace& place : places_.sections) {
      if (place.tensor_class != static_cast<uint8_t>(TensorClass::kVector)) continue;
      size_.vector_elements += place.count;
      ++size_.vector_sections;
    }
    size_.elements = options_.elements;
    for (const Batch& batch : places_.batches) size_.chunks += batch.chunks;
    Reserve();
  }
  // Whether there was memory enough.
  bool ok() const { return ready_ && engine_.ok(); }

  // kNotFinite when a value is not. `input` points to device memory.
  CoderResult Encode(const Input& input, CodedBytes& out) {
    out = {};
    if (!ok()) return CoderResult::kDeviceError;
    switch (options_.codec.id) {
      case CodecId::kInt8:
        return EncodeBlocks<8>(input, out);
      case CodecId::kInt4:
        return EncodeBlocks<4>(input, out);
      case CodecId::kInt2:
        return EncodeBlocks<2>(input, out);
      default:
        return EncodeBudget(input, out);
    }
  }

  // Decodes all chunks into `output`, which points to device memory. kDamaged, and nothing is put,
  // when a chunk is not what an encoder writes.
  CoderResult Decode(std::span<const uint8_t> code, std::span<const uint32_t> sizes,
                     const Output& output) {
    if (!ok()) return CoderResult::kDeviceError;
    switch (options_.codec.id) {
      case CodecId::kInt8:
        return DecodeBlocks<8>(code, output);
      case CodecId::kInt4:
        return DecodeBlocks<4>(code, output);
      case CodecId::kInt2:
        return DecodeBlocks<2>(code, output);
      default:
        return DecodeBudget(code, sizes, output);
    }
  }

 private:
  template <class T>
  using DeviceArray = Array<T, Engine>;

  // ---- blocks ----

  template <int kBits>
  CoderResult EncodeBlocks(const Input& input, CodedBytes& out) {
    using Kernel = BlockEncodeKernel<kBits>;
    const uint64_t elements = options_.elements;
    out.bytes.resize(Kernel::Format::Bytes(elements));
    for (uint64_t at = 0; at < elements; at += options_.chunk_elements) {
      out.sizes.push_back(static_cast<uint32_t>(
          Kernel::Format::Bytes(std::min<uint64_t>(options_.chunk_elements, elements - at))));
    }
    DeviceArray<uint8_t> code(engine_, out.bytes.size());
    DeviceArray<uint32_t> flag(engine_, 1);
    if (!code.ok() || !flag.ok() || !engine_.Zero(flag.data(), sizeof(uint32_t))) {
      return CoderResult::kDeviceError;
    }
    engine_.Launch(Kernel{input, elements, code.data(), flag.data()},
                   Blocks(elements, Kernel::kValues));
    uint32_t not_finite = 0;
    if (!engine_.ToHost(&not_finite, flag.data(), sizeof not_finite) ||
        !engine_.ToHost(out.bytes.data(), code.data(), out.bytes.size())) {
      return CoderResult::kDeviceError;
    }
    return not_finite != 0 ? CoderResult::kNotFinite : CoderResult::kOk;
  }

  template <int kBits>
  CoderResult DecodeBlocks(std::span<const uint8_t> code, const Output& output) {
    using Check = BlockCheckKernel<kBits>;
    using Decode = BlockDecodeKernel<kBits>;
    const uint64_t elements = options_.elements;
    if (code.size() != Check::Format::Bytes(elements)) return CoderResult::kDamaged;
    DeviceArray<uint8_t> in(engine_, code.size());
    DeviceArray<uint32_t> flag(engine_, 1);
    if (!in.ok() || !flag.ok() || !engine_.Zero(flag.data(), sizeof(uint32_t)) ||
        !engine_.ToDevice(in.data(), code.data(), code.size())) {
      return CoderResult::kDeviceError;
    }
    engine_.Launch(Check{in.data(), elements, flag.data()},
                   Blocks(elements, Check::kThreads * kBlockValues));
    uint32_t damaged = 0;
    if (!engine_.ToHost(&damaged, flag.data(), sizeof damaged)) return CoderResult::kDeviceError;
    if (damaged != 0) return CoderResult::kDamaged;
    engine_.Launch(Decode{in.data(), elements, output}, Blocks(elements, Decode::kValues));
    return engine_.ok() ? CoderResult::kOk : CoderResult::kDeviceError;
  }

  static uint32_t Blocks(uint64_t values, uint64_t per_block) {
    return static_cast<uint32_t>((values + per_block - 1) / per_block);
  }

  // ---- bit budget ----

  void Reserve() {
    const size_t sections = places_.sections.size();
    uint64_t most = 0, most_sections = 0;
    for (const Batch& batch : places_.batches) {
      most = std::max(most, batch.values);
      most_sections = std::max<uint64_t>(most_sections, batch.sections);
    }
    ready_ = Upload(places_.sections, sections_) && Upload(places_.pieces, pieces_) &&
             Upload(places_.rows, rows_) && Upload(places_.first_sections, first_sections_) &&
             Make(levels_, most) && Make(reaching_, sections * kReachingSize) &&
             Make(row_reaching_, size_t{places_.sections_with_rows} * kReachingSize) &&
             Make(end_bins_, 2) && Make(edges_, kTokens) && Make(sums_, 1) &&
             Make(inside_, kInsideBins) && Make(tie_counts_, sections) && Make(tie_end_, 1) &&
             Make(symbols_, most) && Make(compact_, places_.rows.empty() ? 0 : most) &&
             Make(row_to_, places_.rows.size()) && Make(positions_, most) && Make(words_, most) &&
             Make(states_, most_sections) && Make(bytes_, most_sections) &&
             Make(offsets_, most_sections) && Make(slots_, 2 * most + kSlotExtra * most_sections) &&
             Make(packed_, 2 * most + (kSlotExtra + 2) * most_sections) &&
             Make(staging_, packed_.size());
  }
  template <class T, bool kOnHost>
  bool Make(Array<T, Engine, kOnHost>& array, size_t size) {
    array = Array<T, Engine, kOnHost>(engine_, size);
    return array.ok();
  }
  template <class T>
  bool Upload(const std::vector<T>& from, DeviceArray<T>& to) {
    return Make(to, from.size()) &&
           engine_.ToDevice(to.data(), from.data(), from.size() * sizeof(T));
  }

  // What the search asks, answered by kernels. A failed one ends in engine.ok().
  class Counts final : public MagnitudeCounts {
   public:
    Counts(FragmentCoder& coder, uint64_t fixed_cost, bool vectors_too, uint32_t end_bits)
        : coder_(coder), fixed_cost_(fixed_cost), vectors_too_(vectors_too), end_bits_(end_bits) {}
    uint32_t end_bits() const override { return end_bits_; }
    uint64_t Cost(uint32_t threshold_bits) const override {
      const std::vector<uint32_t> edges = TokenEdges(threshold_bits, end_bits_);
      coder_.engine_.ToDevice(coder_.edges_.data(), edges.data(), edges.size() * sizeof(uint32_t));
      return fixed_cost_ + coder_.Count(vectors_too_, threshold_bits, 0, &edges).cost;
    }
    uint64_t Reaching(uint32_t magnitude_bits) const override {
      return coder_.Count(vectors_too_, magnitude_bits, 0, nullptr).reaching;
    }
    uint64_t InBin(uint32_t bin) const override {
      return coder_.Count(vectors_too_, 0, bin, nullptr).in_bin;
    }

   private:
    FragmentCoder& coder_;
    const uint64_t fixed_cost_;
    const bool vectors_too_;
    const uint32_t end_bits_;
  };

  CountKernel::Sums Count(bool vectors_too, uint32_t threshold_bits, uint32_t bin,
                          const std::vector<uint32_t>* edges) {
    CountKernel::Sums sums{};
    engine_.Zero(sums_.data(), sizeof sums);
    const auto sections = static_cast<uint32_t>(places_.sections.size());
    engine_.Launch(
        CountKernel{sections_.data(), sections, vectors_too, reaching_.data(), row_reaching_.data(),
                    threshold_bits, bin, edges == nullptr ? nullptr : edges_.data(),
                    edges == nullptr ? 0 : static_cast<uint32_t>(edges->size()), sums_.data()},
        Blocks(sections, CountKernel::kThreads));
    engine_.ToHost(&sums, sums_.data(), sizeof sums);
    return sums;
  }

  CoderResult MakePlan(const Input& input, CodecPlan& plan) {
    const auto sections = static_cast<uint32_t>(places_.sections.size());
    uint32_t end_bins[2] = {};
    engine_.Zero(end_bins_.data(), sizeof end_bins);
    engine_.Launch(MeasureKernel{input, sections_.data(), pieces_.data(), rows_.data(),
                                 reaching_.data(), row_reaching_.data(), end_bins_.data()},
                   sections);
    if (!engine_.ToHost(end_bins, end_bins_.data(), sizeof end_bins)) {
      return CoderResult::kDeviceError;
    }
    if (std::max(end_bins[0], end_bins[1]) > kFloatInfinityBits >> kBinShift) {
      return CoderResult::kNotFinite;
    }
    const uint64_t budget = BudgetFor(size_.elements, options_.codec.bits_milli);
    const VectorMode mode = VectorModeFor(size_.vector_elements, budget);
    plan.vectors = static_cast<uint8_t>(mode);
    const bool vectors_too = mode == VectorMode::kCoded;
    const uint32_t end_bin = vectors_too ? std::max(end_bins[0], end_bins[1]) : end_bins[0];
    const Counts counts(*this, FixedCost(size_, mode), vectors_too, end_bin << kBinShift);
    const ThresholdSearch search = FindThreshold(counts, budget, plan);
    if (search.look_inside) LookInside(input, vectors_too, search.wanted, plan);
    return engine_.ok() ? CoderResult::kOk : CoderResult::kDeviceError;
  }

  void LookInside(const Input& input, bool vectors_too, uint64_t wanted, CodecPlan& plan) {
    std::vector<uint64_t> inside(kInsideBins);
    engine_.Zero(inside_.data(), inside.size() * sizeof(uint64_t));
    engine_.Launch(InsideKernel{input, sections_.data(), pieces_.data(), vectors_too,
                                plan.threshold_bits >> kBinShift, inside_.data()},
                   static_cast<uint32_t>(places_.sections.size()));
    engine_.ToHost(inside.data(), inside_.data(), inside.size() * sizeof(uint64_t));
    wanted = FindInsideBin(inside, wanted, plan);
    if (wanted != 0) FindTieEnd(input, vectors_too, wanted, plan);
  }

  // The first `wanted` values between the thresholds, in the order of sections.
  void FindTieEnd(const Input& input, bool vectors_too, uint64_t wanted, CodecPlan& plan) {
    const size_t sections = places_.sections.size();
    std::vector<uint32_t> counts(sections);
    engine_.Launch(TieCountKernel{input, sections_.data(), pieces_.data(), plan.tie_threshold_bits,
                                  plan.threshold_bits, tie_counts_.data()},
                   static_cast<uint32_t>(sections));
    engine_.ToHost(counts.data(), tie_counts_.data(), sections * sizeof(uint32_t));
    std::vector<std::pair<size_t, uint32_t>> taken;  // of the last chunk that gives some
    for (size_t s = 0; s < sections && wanted > 0; ++s) {
      const SectionPlace& place = places_.sections[s];
      const bool vector = place.tensor_class == static_cast<uint8_t>(TensorClass::kVector);
      const auto take = static_cast<uint32_t>(std::min<uint64_t>(wanted, counts[s]));
      if (take == 0 || (vector && !vectors_too)) continue;
      if (!taken.empty() && places_.sections[taken.back().first].first != place.first) {
        taken.clear();
      }
      taken.emplace_back(s, take);
      wanted -= take;
    }
    for (const auto& [s, take] : taken) {
      uint64_t end = 0;
      engine_.Launch(
          TieEndKernel{input, sections_.data() + s, pieces_.data(), plan.tie_threshold_bits,
                       plan.threshold_bits, take, tie_end_.data()},
          1);
      engine_.ToHost(&end, tie_end_.data(), sizeof end);
      plan.tie_end = std::max(plan.tie_end, end);
    }
  }

  CoderResult EncodeBudget(const Input& input, CodedBytes& out) {
    CodecPlan plan;
    const CoderResult planned = MakePlan(input, plan);
    if (planned != CoderResult::kOk) return planned;
    for (const Batch& batch : places_.batches) {
      if (!EncodeBatch(input, plan, batch, out)) return CoderResult::kDeviceError;
    }
    return CoderResult::kOk;
  }

  bool EncodeBatch(const Input& input, const CodecPlan& plan, const Batch& batch, CodedBytes& out) {
    const SectionPlace* places = sections_.data() + batch.section;
    const DevicePlan device_plan = DevicePlan::Of(plan);
    engine_.Launch(
        QuantiseKernel{input, device_plan, places, pieces_.data(), rows_.data(), symbols_.data(),
                       compact_.data(), row_to_.data(), positions_.data(), states_.data()},
        batch.sections);
    engine_.Launch(
        WriteSectionKernel{input, device_plan, places, pieces_.data(), rows_.data(),
                           symbols_.data(), compact_.data(), row_to_.data(), positions_.data(),
                           words_.data(), states_.data(), slots_.data(), bytes_.data()},
        batch.sections);
    std::vector<uint32_t> bytes(batch.sections);
    if (!engine_.ToHost(bytes.data(), bytes_.data(), bytes.size() * sizeof(uint32_t))) return false;
    std::vector<uint64_t> offsets(batch.sections);
    uint64_t total = 0;
    const size_t chunks_before = out.sizes.size();
    out.sizes.resize(chunks_before + batch.chunks, 2);
    for (uint32_t s = 0; s < batch.sections; ++s) {
      const SectionPlace& place = places_.sections[batch.section + s];
      const bool first = s == 0 || places_.sections[batch.section + s - 1].chunk != place.chunk;
      offsets[s] = total + (first ? 2 : 0);  // the step
      total = offsets[s] + bytes[s];
      out.sizes[chunks_before + place.chunk] += bytes[s];
    }
    if (!engine_.ToDevice(offsets_.data(), offsets.data(), offsets.size() * sizeof(uint64_t))) {
      return false;
    }
    engine_.Launch(PackKernel{places, slots_.data(), bytes_.data(), offsets_.data(), plan.step,
                              packed_.data()},
                   batch.sections);
    if (!engine_.ToHost(staging_.data(), packed_.data(), total)) return false;
    out.bytes.insert(out.bytes.end(), staging_.data(), staging_.data() + total);
    return engine_.ok();
  }

  CoderResult DecodeBudget(std::span<const uint8_t> code, std::span<const uint32_t> sizes,
                           const Output& output) {
    uint64_t chunks = 0, total = 0;
    std::vector<uint64_t> offsets;
    for (uint32_t size : sizes) {
      offsets.push_back(total);
      total += size;
    }
    for (const Batch& batch : places_.batches) chunks += batch.chunks;
    if (sizes.size() != chunks || total != code.size()) return CoderResult::kDamaged;
    offsets.push_back(total);
    DeviceArray<uint8_t> in;
    DeviceArray<uint64_t> at;
    DeviceArray<uint32_t> flag(engine_, 1);
    if (!Make(in, code.size()) || !Upload(offsets, at) || !flag.ok() ||
        !engine_.ToDevice(in.data(), code.data(), code.size()) ||
        !engine_.Zero(flag.data(), sizeof(uint32_t))) {
      return CoderResult::kDeviceError;
    }
    // All chunks are looked at before anything is put.
    for (const bool put : {false, true}) {
      for (const Batch& batch : places_.batches) {
        engine_.Launch(
            DecodeChunkKernel{in.data(), at.data() + batch.chunk,
                              first_sections_.data() + batch.chunk, sections_.data(),
                              pieces_.data(), rows_.data(), row_to_.data(), symbols_.data(),
                              positions_.data(), levels_.data(), put, output, flag.data()},
            batch.chunks);
      }
      uint32_t damaged = 0;
      if (!engine_.ToHost(&damaged, flag.data(), sizeof damaged)) return CoderResult::kDeviceError;
      if (damaged != 0) return CoderResult::kDamaged;
    }
    return engine_.ok() ? CoderResult::kOk : CoderResult::kDeviceError;
  }

  Engine& engine_;
  const Options options_;
  bool ready_ = true;
  Places places_;
  FragmentSize size_;
  DeviceArray<SectionPlace> sections_;
  DeviceArray<Piece> pieces_;
  DeviceArray<Row> rows_;
  DeviceArray<uint32_t> first_sections_, reaching_, row_reaching_, end_bins_, edges_, tie_counts_;
  DeviceArray<CountKernel::Sums> sums_;
  DeviceArray<uint64_t> inside_, tie_end_;
  // Of a batch:
  DeviceArray<uint8_t> symbols_, compact_, slots_, packed_;
  DeviceArray<uint32_t> row_to_, bytes_, levels_;
  DeviceArray<uint16_t> positions_, words_;
  DeviceArray<uint64_t> offsets_;
  DeviceArray<SectionState> states_;
  Array<uint8_t, Engine, true> staging_;
};

}  // namespace longhaul::cuda
