#include "sync/fragments.h"

#include <algorithm>
#include <map>

#include "common/check.h"

namespace longhaul {
namespace {

struct Part {
  int32_t layer = 0;
  uint64_t elements = 0;
};

// Longest first; equal ones by layer.
std::vector<Part> Parts(std::span<const TensorPlace> tensors) {
  std::map<int32_t, uint64_t> sizes;
  for (const TensorPlace& t : tensors) sizes[t.layer] += t.count;
  std::vector<Part> parts;
  for (const auto& [layer, elements] : sizes) parts.push_back({layer, elements});
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.elements > b.elements; });
  return parts;
}

// Layer to fragment.
std::map<int32_t, uint32_t> Assign(std::span<const TensorPlace> tensors, uint32_t fragments) {
  std::map<int32_t, uint32_t> home;
  std::vector<uint64_t> load(fragments, 0);
  for (const Part& part : Parts(tensors)) {
    const auto lightest = std::min_element(load.begin(), load.end());
    *lightest += part.elements;
    home[part.layer] = static_cast<uint32_t>(lightest - load.begin());
  }
  return home;
}

void Append(FragmentLayout& layout, const TensorPlace& t) {
  layout.elements += t.count;
  if (!layout.spans.empty()) {
    ParameterSpan& last = layout.spans.back();
    if (last.offset + last.count == t.offset) {
      last.count += t.count;
      return;
    }
  }
  layout.spans.push_back({t.offset, t.count});
}

}  // namespace

uint32_t MostFragments(std::span<const TensorPlace> tensors) {
  return static_cast<uint32_t>(Parts(tensors).size());
}

std::vector<FragmentLayout> MakeFragments(std::span<const TensorPlace> tensors,
                                          uint32_t fragments) {
  LONGHAUL_CHECK(fragments >= 1 && fragments <= MostFragments(tensors),
                 "number of fragments out of range");
  std::vector<TensorPlace> ordered(tensors.begin(), tensors.end());
  std::sort(ordered.begin(), ordered.end(),
            [](const TensorPlace& a, const TensorPlace& b) { return a.offset < b.offset; });
  const std::map<int32_t, uint32_t> home = Assign(tensors, fragments);
  std::vector<FragmentLayout> layouts(fragments);
  uint64_t end = 0;
  for (const TensorPlace& t : ordered) {
    LONGHAUL_CHECK(t.offset == end && t.count > 0, "tensors leave a gap or overlap");
    end += t.count;
    Append(layouts[home.at(t.layer)], t);
  }
  return layouts;
}

void Gather(const FragmentLayout& layout, std::span<const float> flat, uint64_t offset,
            std::span<float> out) {
  ForStretches(layout, offset, out.size(), [&](uint64_t from, uint64_t to, uint64_t n) {
    const auto source = flat.subspan(from, n);
    std::copy(source.begin(), source.end(), out.begin() + static_cast<int64_t>(to));
  });
}

void Scatter(const FragmentLayout& layout, std::span<const float> in, uint64_t offset,
             std::span<float> flat) {
  ForStretches(layout, offset, in.size(), [&](uint64_t to, uint64_t from, uint64_t n) {
    const auto source = in.subspan(from, n);
    std::copy(source.begin(), source.end(), flat.begin() + static_cast<int64_t>(to));
  });
}

}  // namespace longhaul
