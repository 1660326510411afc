#include "wan/sim/planted/planted.h"

namespace longhaul::sim {
namespace {

// The one thing here that is not an argument: the copies are the product's code, which knows of
// nobody who could hand it down.
size_t& Switch() {
  static size_t bug = kNoBug;
  return bug;
}

}  // namespace

void Plant(size_t bug) { Switch() = bug; }
bool Planted(size_t bug) { return Switch() == bug; }

}  // namespace longhaul::sim
