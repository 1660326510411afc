// What the shell knows about the exchange of a round: which measured links are worth a decision of
// the core, who reduces, and how long that takes at least. Pure.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/record.h"
#include "coordinator/core/state.h"
#include "proto/messages.h"
#include "proto/run_config.h"

namespace longhaul {

// An exchange that is shorter shows nothing of the links: the kernel has measured a burst.
inline constexpr double kTellingSeconds = 1.0;
// Slices that move to another reducer begin without a residual, so rates must differ by this much.
inline constexpr double kLinkChange = 1.25;

// Of `measured` (one of a session, 0: not known), what the core should learn.
std::vector<LinkRates> ChangedLinks(const State& state, const RunConfig& config,
                                    const std::vector<LinkRates>& measured);

// The slices of a round as text: "w1 (2 chunks), w2 (1 chunk)", or "the coordinator".
std::string DescribeSlices(const State& state, const std::vector<Slice>& slices);

// Who lost which slice to whom. `name`: of a session, also of one that has ended.
std::string DescribeMoves(const State& state, const SlicesMoved& moved,
                          const std::function<std::string(SessionId)>& name);

// Of all fragments, each text once, and how the workers reach the reducers.
std::string DescribeReducers(const std::map<FragmentId, std::string>& by_fragment,
                             const std::vector<PeerLink>& links);

// How long the links of the members need at least for the exchange of such a round, by
// sharding/plan/shares.h; nothing while one of them has not been measured. No slices: the
// coordinator reduces, and its own link is not counted.
std::optional<double> ExchangeSeconds(const State& state, const RunConfig& config,
                                      FragmentId fragment, const std::vector<Slice>& slices);

}  // namespace longhaul
