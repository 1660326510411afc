#include "cli/coverage_text.h"

#include <algorithm>
#include <cstdio>

#include "cli/text_table.h"

namespace longhaul {
namespace {

constexpr size_t kBarWidth = 40;

std::string Count(uint64_t n) { return std::to_string(n); }

// "3 + 1": the two reasons.
std::string Discarded(const FragmentCoverage& f) {
  if (f.other_fragment_committed + f.carried_too_often == 0) return "0";
  return Count(f.other_fragment_committed) + " + " + Count(f.carried_too_often);
}

}  // namespace

std::string Bar(const std::vector<std::pair<char, uint64_t>>& parts, size_t width) {
  uint64_t total = 0;
  for (const auto& [mark, n] : parts) total += n;
  if (total == 0) return "";
  std::vector<size_t> shares;
  size_t used = 0;
  for (const auto& [mark, n] : parts) {
    const auto exact = static_cast<double>(n) / static_cast<double>(total);
    const auto share = static_cast<size_t>(exact * static_cast<double>(width));
    shares.push_back(n > 0 ? std::max<size_t>(1, share) : 0);
    used += shares.back();
  }
  // What rounding left over or took too much comes from the largest part.
  for (; used < width; ++used) ++*std::ranges::max_element(shares);
  for (; used > width; --used) --*std::ranges::max_element(shares);
  std::string bar;
  for (size_t i = 0; i < parts.size(); ++i) bar += std::string(shares[i], parts[i].first);
  return bar;
}

namespace {

std::string DomainText(const std::vector<DomainCoverage>& domains) {
  const Align right = Align::kRight;
  TextTable table({"domain", "committed", "share", "data epochs", "in hand", "lost"},
                  {Align::kLeft, right, right, right, right, right});
  uint64_t committed = 0;
  for (const DomainCoverage& d : domains) committed += d.committed;
  const auto ratio = [](uint64_t a, uint64_t b) {
    return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0.0;
  };
  char number[32];
  for (const DomainCoverage& d : domains) {
    std::snprintf(number, sizeof number, "%.2f %%", 100 * ratio(d.committed, committed));
    const std::string share = number;
    std::snprintf(number, sizeof number, "%.3f", ratio(d.committed, d.samples));
    table.AddRow({d.name, Count(d.committed), share, number, Count(d.in_hand), Count(d.lost)});
  }
  return table.ToString();
}

}  // namespace

std::string CoverageText(const CoverageView& coverage) {
  const Align right = Align::kRight;
  TextTable table({"fragment", "", "committed", "sealed", "leased", "free", "discarded",
                   "quarantined", "total"},
                  {right, Align::kLeft, right, right, right, right, right, right, right});
  bool discarded = false;
  for (size_t i = 0; i < coverage.fragments.size(); ++i) {
    const FragmentCoverage& f = coverage.fragments[i];
    const uint64_t lost = f.other_fragment_committed + f.carried_too_often;
    discarded = discarded || lost > 0;
    const std::string bar = Bar({{'#', f.committed},
                                 {'=', f.sealed},
                                 {'-', f.leased},
                                 {'x', lost},
                                 {'!', f.quarantined},
                                 {'.', f.free}},
                                kBarWidth);
    table.AddRow({Count(i), "[" + bar + "]", Count(f.committed), Count(f.sealed), Count(f.leased),
                  Count(f.free), Discarded(f), Count(f.quarantined), Count(f.total)});
  }
  std::string text =
      table.ToString() +
      "samples: # committed  = sealed  - leased  x discarded  ! quarantined  . free\n";
  if (discarded)
    text += "discarded: another fragment was committed without this one + carried too often\n";
  for (const QuarantinedRange& range : coverage.quarantined) {
    text += "quarantined " + Count(range.from) + " to " + Count(range.to) + ", failed with";
    for (const std::string& worker : range.workers)
      text += (worker == range.workers.front() ? " " : ", ") + worker;
    text += "\n";
  }
  if (coverage.quarantined_ranges > coverage.quarantined.size()) {
    text += "and " + Count(coverage.quarantined_ranges - coverage.quarantined.size()) +
            " more quarantined ranges\n";
  }
  if (!coverage.domains.empty()) text += "\n" + DomainText(coverage.domains);
  return text;
}

}  // namespace longhaul
