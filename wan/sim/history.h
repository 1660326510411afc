// What the coordinator has made durable, followed from outside: a fold of its own over the records
// that the journal acknowledged. After every start the recovered state must be that fold, plus some
// prefix of what was being written when the process ended: nothing acknowledged is lost, nothing
// unheard of appears.
//
// One thread. Checkers hang on to it and see each durable record once, over all lives.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"

namespace longhaul::sim {

class History {
 public:
  // `state` is the fold after the record.
  using Reader = std::function<void(const Record& record, const State& state)>;
  using Complaint = std::function<void(const std::string& what)>;

  History(Reader reader, Complaint complain)
      : reader_(std::move(reader)), complain_(std::move(complain)) {}

  // Around the journal's Append and Sync.
  void Writing(const Record& record) { pending_.push_back(record); }
  void Written();
  // A new life has replayed its journal to this.
  void Recovered(const State& state);

  const State& state() const { return state_; }
  uint64_t records() const { return records_; }

 private:
  void Keep(const Record& record);

  const Reader reader_;
  const Complaint complain_;
  State state_;
  std::vector<Record> pending_;
  uint64_t records_ = 0;
};

}  // namespace longhaul::sim
