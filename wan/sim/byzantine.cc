#include "wan/sim/byzantine.h"

#include <limits>

namespace longhaul::sim {
namespace {

constexpr FaultKind kKind = FaultKind::kByzantine;

void FalsifyContribution(ContributionReady& ready, Faults& faults) {
  switch (faults.Below(kKind, 12)) {
    case 0:
      ready.round = ready.round.Next();
      break;
    case 1:
      ready.round.value -= ready.round.value > 0 ? 1 : 0;
      break;
    case 2:
      ready.base_hash[faults.Below(kKind, 32)] ^= 1;
      break;
    case 3:
      ready.loss = std::numeric_limits<double>::quiet_NaN();
      break;
    case 4:
      ready.steps += 1 + faults.Below(kKind, 100);
      break;
    case 5:
      ready.object.bytes += 1;
      break;
    case 6:
      ready.object.chunks += 1;
      break;
    case 7:
      ready.object.id.version = ready.object.id.version.Next();
      break;
    case 8:
      ready.object.id.contribution.sequence = faults.Below(kKind, 3);
      break;
    case 9:
      ready.object.id.contribution.session.value += 1;
      break;
    case 10:
      if (!ready.leases.empty()) ready.leases[0].fence.value += 1;
      break;
    default:
      if (!ready.leases.empty()) {
        ready.leases[0].from += 1 + faults.Below(kKind, 1000);
        ready.leases[0].to = ready.leases[0].from + 1;
      }
      break;
  }
}

}  // namespace

void Falsify(Envelope& envelope, Faults& faults) {
  if (auto* ready = std::get_if<ContributionReady>(&envelope.body);
      ready && faults.Below(kKind, 4) != 0) {
    return FalsifyContribution(*ready, faults);
  }
  switch (faults.Below(kKind, 4)) {
    case 0:
      envelope.generation.random ^= 1;
      break;
    case 1:
      envelope.session.value += 1 + faults.Below(kKind, 3);
      break;
    case 2:
      envelope.session.value -= envelope.session.value > 0 ? 1 : 0;
      break;
    default:
      if (auto* heartbeat = std::get_if<Heartbeat>(&envelope.body);
          heartbeat && !heartbeat->fragments.empty()) {
        heartbeat->fragments[0].state_hash[faults.Below(kKind, 32)] ^= 1;
      }
      break;
  }
}

void FalsifyChunk(std::string& payload, Faults& faults) {
  if (faults.Below(kKind, 2) == 0) {
    payload.assign(payload.size(), '\xff');  // not a number, in every codec
  } else if (!payload.empty()) {
    payload[faults.Below(kKind, payload.size())] ^= 0x04;
  }
}

}  // namespace longhaul::sim
