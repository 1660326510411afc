#include "pcn/relay/stage.h"

#include <algorithm>
#include <utility>

namespace longhaul::pcn {
namespace {

constexpr uint32_t kMaxExtensions = 64;  // times that "still waiting" is believed
// Beyond what may be in flight below us.
constexpr size_t kSpareSlots = 64;
// How far beyond the oldest that waits for credit a stage goes, in units of max_in_flight. So many
// credits at most are kept above to be sent again.
constexpr size_t kWindow = 4;
constexpr size_t kRemembered = 4096;  // decided micro-batches known one by one

}  // namespace

Stage::Stage(const StageOptions& options)
    : options_(options),
      version_(options.version),
      warm_up_left_(options.warm_up),
      mailbox_(options.max_in_flight + kSpareSlots),
      last_snapshot_(options.version),
      gaps_(options.gap_limit + 1) {}

// Twice the way up and back, and half as much again.
uint64_t Stage::Patience() const {
  const uint64_t hops = options_.stages - 1 - options_.stage;
  return std::max<uint64_t>(1, 3 * hops * options_.hop_ticks);
}

// ---- input and labels ----

bool Stage::OfferInput(uint64_t micro_batch, Payload input) {
  if (superseded_ || mailbox_.size(MessageKind::kStateUp) >= options_.max_in_flight) return false;
  Message message{.kind = MessageKind::kStateUp, .micro_batch = micro_batch};
  message.payload = std::move(input);
  return AddToMailbox(message);
}

bool Stage::OfferLabel(uint64_t micro_batch, Payload label) {
  if (!is_top() || IsDecided(micro_batch)) return false;
  if (labels_.size() >= options_.max_in_flight + kSpareSlots) {
    // The oldest has waited longest for a state that did not come.
    if (labels_.begin()->first > micro_batch) return false;
    labels_.erase(labels_.begin());
  }
  labels_[micro_batch] = std::move(label);
  return true;
}

// ---- messages ----

bool Stage::Admits(const Message& m, uint64_t now) {
  if (superseded_) return false;
  if (m.from >= options_.stages || m.from == options_.stage) {
    ++counters_.misrouted;
    return false;
  }
  if (m.kind == MessageKind::kSnapshot) return m.payload != nullptr;
  if (m.kind == MessageKind::kSnapshotQuery || m.kind == MessageKind::kSnapshotAnswer) return false;
  const bool from_below = m.from + 1 == options_.stage, from_above = m.from == options_.stage + 1;
  const bool goes_up = m.kind == MessageKind::kStateUp || m.kind == MessageKind::kHaveQuery;
  const bool has_payload = m.kind == MessageKind::kStateUp || m.kind == MessageKind::kCreditDown;
  if (!(goes_up ? from_below : from_above) || (has_payload && m.payload == nullptr)) {
    ++counters_.misrouted;
    return false;
  }
  const uint64_t known = epochs_[m.from];
  if (m.epoch < known) {
    ++counters_.fenced;
    return false;
  }
  if (m.epoch > known) RaiseEpoch(m.from, m.epoch, now);
  if (from_below) {
    credits_sent_.erase(credits_sent_.begin(), credits_sent_.lower_bound(m.settled_below));
  }
  return true;
}

void Stage::OnMessage(const Message& message, uint64_t now) {
  if (!Admits(message, now)) return;
  switch (message.kind) {
    case MessageKind::kStateUp:
      return OnState(message);
    case MessageKind::kCreditDown:
      return OnCredit(message);
    case MessageKind::kGone:
      if (waiting_.count(message.micro_batch) > 0) GiveUp(message.micro_batch, Discard::kGone);
      return;
    case MessageKind::kHaveQuery:
      return OnQuery(message);
    case MessageKind::kHaveAnswer:
      return OnAnswer(message, now);
    case MessageKind::kSnapshotQuery:
    case MessageKind::kSnapshotAnswer:
      return;
    case MessageKind::kSnapshot: {
      const auto [held, is_new] = snapshots_.emplace(message.from, message);
      if (!is_new && IsNewer(message, held->second)) held->second = message;
      return;
    }
  }
}

bool Stage::AddToMailbox(const Message& message) {
  const Mailbox::Put put = mailbox_.Add(message);
  if (put.kept && message.kind == MessageKind::kStateUp) ledger_.Accept(message.micro_batch);
  if (put.evicted && *put.evicted != message.micro_batch) {
    GiveUp(*put.evicted, Discard::kOverflow);
  }
  if (!put.kept) ++counters_.old;
  return put.kept;
}

void Stage::OnState(const Message& message) {
  if (IsDecided(message.micro_batch)) {  // our answer was lost, or theirs was late
    ++counters_.late;
    return OnQuery(message);
  }
  const bool taken = waiting_.count(message.micro_batch) > 0 ||
                     (current_ && current_->micro_batch == message.micro_batch);
  if (taken) {
    ++counters_.old;
  } else {
    AddToMailbox(message);
  }
}

void Stage::OnCredit(const Message& message) {
  if (waiting_.count(message.micro_batch) == 0) {
    ++counters_.late;
    return;
  }
  AddToMailbox(message);
}

void Stage::OnQuery(const Message& message) {
  const uint64_t m = message.micro_batch;
  const auto credit = credits_sent_.find(m);
  if (credit != credits_sent_.end()) {
    ++counters_.resends;
    return Say(MessageKind::kCreditDown, message.from, m, credit->second);
  }
  if (IsDecided(m)) return Say(MessageKind::kGone, message.from, m);
  const HaveState have = ledger_.IsOpen(m) ? HaveState::kWaiting : HaveState::kMissing;
  Say(MessageKind::kHaveAnswer, message.from, m, nullptr, have);
}

void Stage::OnAnswer(const Message& message, uint64_t now) {
  const auto at = waiting_.find(message.micro_batch);
  if (at == waiting_.end()) return;
  if (message.have == HaveState::kMissing) return SendStateAgain(at->first, now);
  if (at->second.extensions++ < kMaxExtensions) {
    at->second.queries = 0;
    at->second.deadline = now + Patience();
  }
}

void Stage::SendStateAgain(uint64_t micro_batch, uint64_t now) {
  Waiting& w = waiting_.at(micro_batch);
  ++counters_.resends;
  w.deadline = now + Patience();
  Say(MessageKind::kStateUp, options_.stage + 1, micro_batch, w.sent);
}

// ---- fences and time ----

void Stage::OnFence(uint32_t stage, uint64_t epoch, uint64_t now) {
  if (stage == options_.stage) {
    superseded_ = superseded_ || epoch > options_.epoch;
    if (superseded_) outgoing_.clear();
    return;
  }
  if (epoch > epochs_[stage]) RaiseEpoch(stage, epoch, now);
}

void Stage::RaiseEpoch(uint32_t stage, uint64_t epoch, uint64_t now) {
  const bool replaced = std::exchange(epochs_[stage], epoch) != 0;
  if (!replaced || stage != options_.stage + 1) return;
  for (auto& [m, w] : waiting_) {
    w.queries = 0;
    if (mailbox_.Find(MessageKind::kCreditDown, m) == nullptr) SendStateAgain(m, now);
  }
}

// The last stage waits for labels as long as the first one waits for credit.
void Stage::ExpireUnlabelled(uint64_t now) {
  std::vector<uint64_t> expired;
  const uint64_t patience = 3 * uint64_t{options_.stages} * options_.hop_ticks;
  for (auto m = mailbox_.First(MessageKind::kStateUp); m;
       m = mailbox_.First(MessageKind::kStateUp, *m + 1)) {
    if (labels_.count(*m) > 0) continue;
    const auto [deadline, is_new] = unlabelled_.emplace(*m, now + patience);
    if (!is_new && deadline->second <= now) expired.push_back(*m);
  }
  for (uint64_t m : expired) GiveUp(m, Discard::kExpired);
}

void Stage::OnTick(uint64_t now) {
  if (is_top()) ExpireUnlabelled(now);
  std::vector<uint64_t> expired;
  for (auto& [m, w] : waiting_) {
    if (w.deadline > now || mailbox_.Find(MessageKind::kCreditDown, m) != nullptr) continue;
    if (w.queries < options_.max_queries) {
      ++w.queries;
      ++counters_.queries;
      w.deadline = now + 2 * options_.hop_ticks;
      Say(MessageKind::kHaveQuery, options_.stage + 1, m);
    } else {
      expired.push_back(m);
    }
  }
  for (uint64_t m : expired) GiveUp(m, Discard::kExpired);
}

// ---- work ----

std::optional<Work> Stage::NextWork(uint64_t, bool may_train) {
  if (superseded_) return std::nullopt;
  if (current_) return current_;
  if (may_train && !credit_was_last_) current_ = CreditWork();
  if (!current_) current_ = NewWork(may_train);
  if (may_train && !current_) current_ = CreditWork();
  credit_was_last_ = current_ && current_->kind == WorkKind::kCredit;
  return current_;
}

std::optional<Work> Stage::CreditWork() {
  while (const auto m = mailbox_.First(MessageKind::kCreditDown)) {
    const Message message = *mailbox_.Take(MessageKind::kCreditDown, *m);
    const auto at = waiting_.find(*m);
    if (at == waiting_.end()) continue;
    const uint64_t gap = version_ - at->second.version;
    gaps_.Add(gap);
    if (at->second.warm_up) {
      GiveUp(*m, Discard::kWarmUp);
    } else if (gap > options_.gap_limit) {
      GiveUp(*m, Discard::kStale);
    } else {
      return Work{WorkKind::kCredit, *m, at->second.input, message.payload,
                  StalenessFactor(gap, options_.full_rate_gap)};
    }
  }
  return std::nullopt;
}

std::optional<Work> Stage::NewWork(bool may_train) {
  if (is_top() && !may_train) return std::nullopt;
  for (auto m = mailbox_.First(MessageKind::kStateUp); m;
       m = mailbox_.First(MessageKind::kStateUp, *m + 1)) {
    if (is_top()) {
      const auto label = labels_.find(*m);
      if (label == labels_.end()) continue;  // the next one may have its label
      Work work{WorkKind::kTop, *m, mailbox_.Take(MessageKind::kStateUp, *m)->payload,
                label->second};
      labels_.erase(label);
      if (warm_up_left_ == 0) return work;
      --warm_up_left_;
      GiveUp(*m, Discard::kWarmUp);
    } else if (HasRoomFor(*m)) {
      return Work{WorkKind::kPredict, *m, mailbox_.Take(MessageKind::kStateUp, *m)->payload};
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

bool Stage::HasRoomFor(uint64_t micro_batch) const {
  if (waiting_.empty()) return true;
  return waiting_.size() < options_.max_in_flight &&
         micro_batch < waiting_.begin()->first + kWindow * options_.max_in_flight;
}

void Stage::OnPredicted(uint64_t micro_batch, Payload state, uint64_t now) {
  if (!current_ || current_->micro_batch != micro_batch) return;
  Waiting w{.input = current_->input, .sent = std::move(state), .version = version_};
  w.deadline = now + Patience();
  if (warm_up_left_ > 0) {
    --warm_up_left_;
    w.warm_up = true;
  }
  const Payload sent = w.sent;
  waiting_.emplace(micro_batch, std::move(w));
  current_.reset();
  Say(MessageKind::kStateUp, options_.stage + 1, micro_batch, sent);
}

void Stage::OnTrained(uint64_t micro_batch, Payload credit) {
  if (!current_ || current_->micro_batch != micro_batch) return;
  current_.reset();
  ++version_;
  ledger_.Trained(micro_batch);
  PassDown(micro_batch, std::move(credit));
}

void Stage::OnServed(uint64_t micro_batch, Payload credit) {
  if (!current_ || current_->micro_batch != micro_batch) return;
  current_.reset();
  ledger_.Discarded(micro_batch, Discard::kServed);
  PassDown(micro_batch, std::move(credit));
}

void Stage::PassDown(uint64_t micro_batch, Payload credit) {
  Decide(micro_batch);
  if (options_.stage == 0) return;
  Say(MessageKind::kCreditDown, options_.stage - 1, micro_batch, credit);
  credits_sent_[micro_batch] = std::move(credit);
  while (credits_sent_.size() > kWindow * options_.max_in_flight) {
    credits_sent_.erase(credits_sent_.begin());
  }
}

void Stage::OnFailed(uint64_t micro_batch, Discard reason) {
  if (!current_ || current_->micro_batch != micro_batch) return;
  current_.reset();
  GiveUp(micro_batch, reason);
}

// ---- decided ----

bool Stage::IsDecided(uint64_t micro_batch) const {
  return micro_batch < decided_below_ || decided_.count(micro_batch) > 0;
}

void Stage::Decide(uint64_t micro_batch) {
  waiting_.erase(micro_batch);
  labels_.erase(micro_batch);
  unlabelled_.erase(micro_batch);
  mailbox_.Drop(micro_batch);
  decided_.insert(micro_batch);
  while (decided_.size() > kRemembered) {
    decided_below_ = *decided_.begin() + 1;
    decided_.erase(decided_.begin());
  }
}

void Stage::GiveUp(uint64_t micro_batch, Discard reason) {
  ledger_.Discarded(micro_batch, reason);
  Decide(micro_batch);
  if (options_.stage > 0) Say(MessageKind::kGone, options_.stage - 1, micro_batch);
}

// ---- outgoing ----

void Stage::Say(MessageKind kind, uint32_t to, uint64_t micro_batch, Payload payload,
                HaveState have) {
  if (superseded_) return;
  Message m{.kind = kind, .from = options_.stage, .to = to, .micro_batch = micro_batch};
  m.epoch = options_.epoch;
  m.sequence = ++sequence_;
  m.version = version_;
  m.settled_below = waiting_.empty() ? 0 : waiting_.begin()->first;
  m.have = have;
  m.payload = std::move(payload);
  outgoing_.push_back(std::move(m));
}

std::vector<Message> Stage::TakeOutgoing() { return std::exchange(outgoing_, {}); }

bool Stage::SnapshotDue() const {
  return options_.snapshot_every > 0 && !superseded_ && options_.stages > 1 &&
         version_ >= last_snapshot_ + options_.snapshot_every;
}

uint32_t Stage::buddy() const { return is_top() ? options_.stage - 1 : options_.stage + 1; }

void Stage::SendSnapshot(Payload snapshot) {
  last_snapshot_ = version_;
  Say(MessageKind::kSnapshot, buddy(), 0, std::move(snapshot));
}

const Message* Stage::HeldSnapshot(uint32_t stage) const {
  const auto at = snapshots_.find(stage);
  return at == snapshots_.end() ? nullptr : &at->second;
}

}  // namespace longhaul::pcn
