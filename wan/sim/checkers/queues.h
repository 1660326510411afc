// Bounded queues: what waits anywhere stays within its bound, and what is kept for others goes when
// nobody can need it any more.
#pragma once

#include "wan/sim/watcher.h"

namespace longhaul::sim {

class Queues : public Watcher {
 public:
  const char* name() const override { return "queues"; }
  void OnQueue(const char* what, size_t size, size_t most) override {
    if (size <= most) return;
    Complain(std::string(what) + ": " + std::to_string(size) + ", more than " +
             std::to_string(most));
  }
};

}  // namespace longhaul::sim
