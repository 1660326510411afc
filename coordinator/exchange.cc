#include "coordinator/exchange.h"

#include <algorithm>
#include <map>

#include "coordinator/core/coordinator.h"
#include "sharding/plan/shares.h"

namespace longhaul {
namespace {

constexpr double kNoLimit = 1e15;  // bytes per second

bool Differs(uint64_t now, uint64_t before) {
  const auto a = static_cast<double>(now), b = static_cast<double>(before);
  return a > kLinkChange * b || b > kLinkChange * a;
}

SharePeer PeerOf(const LinkRates& link) {
  return {static_cast<double>(link.up_bytes_per_s), static_cast<double>(link.down_bytes_per_s)};
}

}  // namespace

std::vector<LinkRates> ChangedLinks(const State& state, const RunConfig& config,
                                    const std::vector<LinkRates>& measured) {
  uint64_t elements = 1;
  for (const Fragment& f : state.fragments) elements = std::max(elements, f.elements);
  const SharePayload payload = PayloadOf(config, elements);
  double slowest = 0;
  std::vector<LinkRates> changed;
  for (const LinkRates& link : measured) {
    const auto session = state.sessions.find(link.session);
    if (session == state.sessions.end() || link.up_bytes_per_s == 0 || link.down_bytes_per_s == 0)
      continue;
    const SharePeer peer = PeerOf(link);
    slowest = std::max({slowest, payload.up_bytes / peer.up_bytes_per_s,
                        payload.down_bytes / peer.down_bytes_per_s});
    if (Differs(link.up_bytes_per_s, session->second.up_bytes_per_s) ||
        Differs(link.down_bytes_per_s, session->second.down_bytes_per_s))
      changed.push_back(link);
  }
  return slowest < kTellingSeconds ? std::vector<LinkRates>() : changed;
}

std::string DescribeSlices(const State& state, const std::vector<Slice>& slices) {
  if (slices.empty()) return "the coordinator";
  std::map<std::string, uint32_t> chunks;
  for (const Slice& slice : slices) {
    const auto session = state.sessions.find(slice.reducer);
    chunks[session == state.sessions.end() ? "the coordinator" : session->second.name] +=
        slice.chunks;
  }
  std::string text;
  for (const auto& [name, n] : chunks) {
    text += (text.empty() ? "" : ", ") + name + " (" + std::to_string(n) +
            (n == 1 ? " chunk)" : " chunks)");
  }
  return text;
}

std::string DescribeMoves(const State& state, const SlicesMoved& moved,
                          const std::function<std::string(SessionId)>& name) {
  const auto named = [&](SessionId id) { return id.value == 0 ? "the coordinator" : name(id); };
  std::string text = "round " + std::to_string(moved.round.value) + ":";
  for (const SliceMove& move : moved.moves) {
    const bool lost = !state.sessions.contains(move.from);
    text += (text.back() == ':' ? " slice " : "; slice ") + std::to_string(move.slice) + " of " +
            named(move.from) + (lost ? ", which is lost," : ", which is late or failed,") +
            " goes to " + named(move.reducer);
  }
  return text;
}

std::string DescribeReducers(const std::map<FragmentId, std::string>& by_fragment,
                             const std::vector<PeerLink>& links) {
  std::vector<std::string> texts;
  for (const auto& [fragment, by] : by_fragment) {
    if (std::find(texts.begin(), texts.end(), by) == texts.end()) texts.push_back(by);
  }
  std::string all = texts.empty() ? "nobody yet" : "";
  for (const std::string& text : texts) all += (all.empty() ? "" : "; ") + text;
  const auto relayed =
      std::count_if(links.begin(), links.end(), [](const PeerLink& link) { return !link.direct; });
  if (links.empty()) return all;
  return all + "; " + std::to_string(relayed) + " of " + std::to_string(links.size()) +
         " pairs relayed";
}

std::optional<double> ExchangeSeconds(const State& state, const RunConfig& config,
                                      FragmentId fragment, const std::vector<Slice>& slices) {
  const Fragment& f = state.fragment(fragment);
  if (!f.round) return std::nullopt;
  uint32_t chunks = 0;
  for (const Slice& slice : slices) chunks += slice.chunks;
  // The coordinator is first: it receives every aggregate, too.
  std::vector<SharePeer> peers{{kNoLimit, kNoLimit, false, true}};
  std::vector<double> shares{slices.empty() ? 1.0 : 0.0};
  for (const auto& [id, session] : state.sessions) {
    const bool member = f.round->members.contains(id);
    if (member && session.up_bytes_per_s == 0) return std::nullopt;
    double share = 0;
    for (const Slice& slice : slices)
      share += slice.reducer == id ? static_cast<double>(slice.chunks) / chunks : 0;
    if (!member && share == 0) continue;
    if (session.up_bytes_per_s == 0) return std::nullopt;
    peers.push_back(PeerOf({id, session.up_bytes_per_s, session.down_bytes_per_s}));
    peers.back().contributes = member;
    shares.push_back(share);
  }
  return SharesSeconds(peers, PayloadOf(config, f.elements), shares);
}

}  // namespace longhaul
