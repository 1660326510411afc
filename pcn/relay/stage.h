// One stage of Relay: which micro-batch to work on next, what to say to the neighbours, and what to
// give up on. It holds no tensors: work is handed out, results are handed back. It never waits for
// a neighbour by name, and nothing that a neighbour says, repeats or omits can block it.
//
// Rules (docs/PCN.md, "Relay"):
//   - a credit that is ready goes first, but after each one a new state has its turn. Without that
//     turn, credits that arrive together are worked off together, the states that they make room
//     for leave together, and on long links the chain idles between such bursts (one forward, one
//     backward: PipeDream, Narayanan et al. 2019);
//   - states go up while fewer than max_in_flight wait for credit, and none far beyond the oldest
//     of those: a slow stage above slows those below, and no queue grows;
//   - a credit of gap g counts min(1, full_rate_gap / g), beyond gap_limit not at all;
//   - a micro-batch without credit in time is asked for (HAVE) a bounded number of times, then
//     given up here and, with GONE, below;
//   - a stage that changes hands gets a higher epoch: what older epochs say is dropped unread, and
//     what waits for credit is sent to the new holder again.
//
// Thread rule: one thread. Time is the caller's, in ticks. Deterministic.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "pcn/relay/batch_ledger.h"
#include "pcn/relay/mailbox.h"
#include "pcn/relay/message.h"
#include "pcn/relay/staleness.h"

namespace longhaul::pcn {

struct StageOptions {
  uint32_t stage = 0, stages = 1;
  uint64_t epoch = 1;
  uint64_t version = 0;         // updates that the block has had (from its snapshot)
  uint32_t max_in_flight = 8;   // at least 1
  uint64_t full_rate_gap = 18;  // G
  uint64_t gap_limit = 8 * 18;
  uint64_t hop_ticks = 16;      // 95th percentile of one message and one stage's work
  uint32_t max_queries = 3;     // per micro-batch, before it is given up
  uint32_t warm_up = 0;         // micro-batches that a new holder only predicts
  uint64_t snapshot_every = 0;  // updates; 0: never
};

enum class WorkKind {
  kPredict,  // state up from the input
  kCredit,   // forward again from the kept input, pull the credit down, then update
  kTop,      // the last stage: forward, output error against the label, down, update
};
struct Work {
  WorkKind kind = WorkKind::kPredict;
  uint64_t micro_batch = 0;
  Payload input;
  Payload credit;   // kCredit: the credit; kTop: the label
  double rate = 1;  // factor of the learning rate
};

struct StageCounters {
  uint64_t old = 0;        // older than what is there, or repeated
  uint64_t fenced = 0;     // of an older epoch
  uint64_t late = 0;       // for a micro-batch that is decided
  uint64_t misrouted = 0;  // from a stage that is not a neighbour, or of a kind it may not send
  uint64_t queries = 0, resends = 0;
};

class Stage {
 public:
  explicit Stage(const StageOptions& options);

  // ---- what happened ----
  // Stage 0: the next input, numbered without gaps or repeats. False: no room, offer it later.
  bool OfferInput(uint64_t micro_batch, Payload input);
  // The last stage: what the output should have been. False: no room, or decided already.
  bool OfferLabel(uint64_t micro_batch, Payload label);
  void OnMessage(const Message& message, uint64_t now);
  // The coordinator gave a stage to a new holder. Our own: we are replaced and fall silent.
  void OnFence(uint32_t stage, uint64_t epoch, uint64_t now);
  void OnTick(uint64_t now);

  // ---- work ----
  // What to do now, if anything. Each piece is answered with one of the On...() below before the
  // next is asked for. Without `may_train` credits and the top's states wait; those that wait below
  // are told so when they ask.
  std::optional<Work> NextWork(uint64_t now, bool may_train = true);
  void OnPredicted(uint64_t micro_batch, Payload state, uint64_t now);
  // The update is applied; `credit` goes down (null at stage 0).
  void OnTrained(uint64_t micro_batch, Payload credit);
  // The credit is for those below; nothing was applied.
  void OnServed(uint64_t micro_batch, Payload credit);
  // It could not be done: nothing was applied.
  void OnFailed(uint64_t micro_batch, Discard reason);

  // ---- what to do about it ----
  std::vector<Message> TakeOutgoing();
  // A snapshot is due: hand it to SendSnapshot.
  bool SnapshotDue() const;
  void SendSnapshot(Payload snapshot);
  uint32_t buddy() const;
  // The newest snapshot that we hold for another stage.
  const Message* HeldSnapshot(uint32_t stage) const;

  bool superseded() const { return superseded_; }
  uint64_t version() const { return version_; }
  size_t in_flight() const { return waiting_.size(); }
  const BatchLedger& ledger() const { return ledger_; }
  const GapHistogram& gaps() const { return gaps_; }
  const StageCounters& counters() const { return counters_; }

 private:
  // A micro-batch that was predicted and waits for its credit.
  struct Waiting {
    Payload input, sent;
    uint64_t version = 0;  // of the block at the forward pass
    uint64_t deadline = 0;
    uint32_t queries = 0, extensions = 0;
    bool warm_up = false;
  };

  bool is_top() const { return options_.stage + 1 == options_.stages; }
  bool Admits(const Message& message, uint64_t now);
  bool IsDecided(uint64_t micro_batch) const;
  void Decide(uint64_t micro_batch);  // remembers that it is over
  void GiveUp(uint64_t micro_batch, Discard reason);
  void Say(MessageKind kind, uint32_t to, uint64_t micro_batch, Payload payload = nullptr,
           HaveState have = HaveState::kNone);
  bool AddToMailbox(const Message& message);
  void OnState(const Message& message);
  void OnCredit(const Message& message);
  void OnQuery(const Message& message);
  void OnAnswer(const Message& message, uint64_t now);
  void RaiseEpoch(uint32_t stage, uint64_t epoch, uint64_t now);
  void ExpireUnlabelled(uint64_t now);
  void SendStateAgain(uint64_t micro_batch, uint64_t now);
  std::optional<Work> CreditWork();
  std::optional<Work> NewWork(bool may_train);
  void PassDown(uint64_t micro_batch, Payload credit);
  bool HasRoomFor(uint64_t micro_batch) const;
  uint64_t Patience() const;

  const StageOptions options_;
  uint64_t version_, sequence_ = 0;
  uint32_t warm_up_left_;
  bool superseded_ = false;
  Mailbox mailbox_;
  std::map<uint64_t, Payload> labels_;
  std::map<uint64_t, uint64_t> unlabelled_;  // states at the top: until when
  std::map<uint64_t, Waiting> waiting_;
  std::optional<Work> current_;
  bool credit_was_last_ = false;
  std::map<uint64_t, Payload> credits_sent_;  // the latest, to be sent again on request
  std::set<uint64_t> decided_;                // recent ones; all below decided_below_ are too
  uint64_t decided_below_ = 0;
  uint64_t last_snapshot_ = 0;
  std::map<uint32_t, uint64_t> epochs_;    // of the neighbours
  std::map<uint32_t, Message> snapshots_;  // held for others
  std::vector<Message> outgoing_;
  BatchLedger ledger_;
  GapHistogram gaps_;
  StageCounters counters_;
};

}  // namespace longhaul::pcn
