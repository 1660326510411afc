// What checkers see of a simulated world. They watch from outside: records that are durable,
// messages that leave, states that are reached. A Watcher implements what it needs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"
#include "proto/messages.h"

namespace longhaul::sim {

// A violation of what must hold, with the time at which it was seen.
struct Violation {
  Timestamp when;
  std::string checker;
  std::string what;
};

// What the reducer holds after a commit was installed, or after a start.
struct ReducerView {
  Generation generation;
  FragmentId fragment;
  Version version;
  Digest hash{};
  std::span<const float> parameters;
  std::span<const float> momentum;
  std::span<const float> residual;
};

class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual const char* name() const = 0;

  // Durable; in order, each once.
  virtual void OnRecord(const Record& record, const State& after) {}
  // The coordinator's core took an event; nothing of it is durable yet.
  virtual void OnEvent(const EventBody& event, const Effects& effects) {}
  // The coordinator heard of a session, by its own time.
  virtual void OnHeard(SessionId session, Timestamp now) {}
  // So many wait or are kept there, and so many may be.
  virtual void OnQueue(const char* what, size_t size, size_t most) {}
  // The coordinator says this to a worker; it is about to leave. `durable` is the fold over what is
  // durable at this moment.
  virtual void OnSaid(const Message& message, const State& durable) {}
  // A worker process has coded a contribution.
  virtual void OnCoded(size_t process, const ObjectInfo& object,
                       const std::vector<std::string>& chunks) {}
  // A worker process has trained on these, or what it has trained is void.
  virtual void OnTrained(size_t process, const std::vector<uint64_t>& positions) {}
  virtual void OnProgressVoid(size_t process) {}
  // A worker process has stored its residual, or taken that which an earlier one had stored.
  virtual void OnResidualSaved(size_t process) {}
  virtual void OnResidualLoaded(size_t process, size_t saved_by) {}
  // A worker process gives up its residual within a generation.
  virtual void OnResidualLost(size_t process) {}
  // A worker process holds this state of a fragment now.
  virtual void OnReplica(size_t process, const Generation& generation, const FragmentState& state) {
  }
  // The reducer has prepared an aggregate.
  virtual void OnPrepared(const ObjectInfo& aggregate, const std::vector<std::string>& chunks) {}
  // `residual_reset`: it starts at zero again, as announced.
  virtual void OnReducer(const ReducerView& view, bool residual_reset) {}

  const std::vector<std::string>& complaints() const { return complaints_; }

 protected:
  void Complain(std::string what) {
    if (complaints_.size() < 10) complaints_.push_back(std::move(what));
  }

 private:
  std::vector<std::string> complaints_;
};

// All watchers of one world.
class Watchers {
 public:
  void Add(std::unique_ptr<Watcher> watcher) { list_.push_back(std::move(watcher)); }
  template <class F>
  void Tell(F&& f) {
    for (const auto& w : list_) f(*w);
  }
  const std::vector<std::unique_ptr<Watcher>>& list() const { return list_; }

 private:
  std::vector<std::unique_ptr<Watcher>> list_;
};

}  // namespace longhaul::sim
