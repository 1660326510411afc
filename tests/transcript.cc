#include "tests/transcript.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "common/hash.h"

namespace longhaul {
namespace {

constexpr uint64_t kElements = 100;  // of each fragment

void Set(RunConfig& c, const std::string& key, const std::string& value, Words& words) {
  const auto number = [&] {
    return static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
  };
  const auto real = [&] { return std::strtod(value.c_str(), nullptr); };
  if (key == "rounds") return void(c.run.rounds = number());
  if (key == "min_workers") return void(c.run.min_workers = number());
  if (key == "patience") return void(c.run.patience = real());
  if (key == "inner_steps") return void(c.sync.inner_steps = number());
  if (key == "fragments") return void(c.sync.fragments = number());
  if (key == "overlap_steps") return void(c.sync.overlap_steps = number());
  if (key == "quorum") return void(c.round.quorum = real());
  if (key == "carry") return void(c.round.carry = number());
  if (key == "grace") return void(c.round.grace = real());
  if (key == "required_workers") return void(c.round.required_workers = value);
  if (key == "min_tokens") return void(c.round.min_tokens = number());
  if (key == "broken_contract") return void(c.round.broken_contract = value);
  if (key == "placement") return void(c.reduce.placement = value);
  if (key == "trusted") return void(c.reduce.trusted = value);
  if (key == "slices") return void(c.reduce.slices = number());
  if (key == "checkpoint_every") return void(c.checkpoint.every_rounds = number());
  words.Fail();
}

std::string Quoted(const char* what, const std::string& why) {
  return why.empty() ? what : what + (": " + why);
}

struct MessageText {
  std::string operator()(const Hello& m) {
    return m.data_identity == Digest{} ? "hello" : "hello, has the data";
  }
  std::string operator()(const Welcome& m) { return "welcome " + Text(m.session); }
  std::string operator()(const Refused& m) {
    return "refused " + std::to_string(static_cast<int>(m.code)) + ": " + m.reason;
  }
  std::string operator()(const Enrolled&) { return "enrolled"; }
  std::string operator()(const AdminDone& m) { return Quoted("done", m.error); }
  std::string operator()(const ContributionReady& m) {
    std::ostringstream out;
    out << "ready " << Text(m.object.id.contribution) << " " << Text(m.object.id.fragment) << " "
        << Text(m.object.id.version) << " round " << m.round.value << " steps " << m.steps << " on "
        << Text(m.leases) << " loss " << m.loss;
    return out.str();
  }
  std::string operator()(const AggregateHeld& m) {
    return "hold aggregate " + Text(m.object.id.fragment) + " " + Text(m.object.id.version);
  }
  std::string operator()(const RequestDone& m) {
    return Quoted(("answer " + std::to_string(m.request.value)).c_str(), m.error);
  }
  std::string operator()(const Leave& m) {
    return Quoted(m.hand_in ? "leave after handing in" : "leave", m.reason);
  }
  template <class T>
  std::string operator()(const T&) {
    return "message " + std::to_string(Message(T{}).index());
  }
};

}  // namespace

std::string Play(const std::string& transcript,
                 const std::function<Lines(const std::string&)>& interpret) {
  std::istringstream in(transcript);
  std::string out;
  std::string line;
  while (std::getline(in, line)) {
    if (!line.empty() && line[0] == ' ') continue;  // an effect as it was
    out += line + "\n";
    if (line.empty() || line[0] == '#') continue;
    for (const std::string& effect : interpret(line)) out += "  " + effect + "\n";
  }
  return out;
}

Words::Words(const std::string& command) {
  std::istringstream in(command);
  std::string word;
  while (in >> word) words_.push_back(word);
}

std::string Words::Word() {
  if (AtEnd()) {
    ok_ = false;
    return "";
  }
  return words_[next_++];
}

std::string Words::Rest() {
  const Lines rest(words_.begin() + static_cast<ptrdiff_t>(next_), words_.end());
  next_ = words_.size();
  return Join(rest, " ");
}

bool Words::Take(const std::string& word) {
  if (AtEnd() || words_[next_] != word) return false;
  ++next_;
  return true;
}

bool Words::NextIs(const std::string& prefix) const {
  return !AtEnd() && words_[next_].size() > prefix.size() && words_[next_].starts_with(prefix) &&
         std::isdigit(static_cast<unsigned char>(words_[next_][prefix.size()]));
}

uint64_t Words::Number(const std::string& prefix) {
  const std::string word = Word();
  uint64_t value = 0;
  const char* end = word.data() + word.size();
  if (!word.starts_with(prefix)) {
    ok_ = false;
  } else if (std::from_chars(word.data() + prefix.size(), end, value).ptr != end) {
    ok_ = false;
  }
  return value;
}

double Words::Real() { return std::strtod(Word().c_str(), nullptr); }

Duration Words::Time() {
  std::string word = Word();
  const bool ms = word.ends_with("ms");
  if (!word.ends_with("s")) ok_ = false;
  return (ms ? Milliseconds(1) : Seconds(1)) * std::strtol(word.c_str(), nullptr, 10);
}

ContributionId Words::Contribution() {
  const std::string word = Word();
  const size_t slash = std::min(word.find('/'), word.size());
  Words parts(word.substr(0, slash) + " " + word.substr(std::min(slash + 1, word.size())));
  const SessionId session = parts.Session();
  const ContributionId id{session, parts.Number()};
  ok_ = ok_ && parts.ok();
  return id;
}

RunConfig TranscriptConfig(Words& words) {
  RunConfig c;
  c.run.rounds = 3;
  c.run.patience = 1;
  c.sync.inner_steps = 4;
  c.data.sequence_length = 128;
  c.train.per_device_train_batch_size = 8;
  while (!words.AtEnd()) {
    const std::string word = words.Word();
    const size_t equals = std::min(word.find('='), word.size());
    Set(c, word.substr(0, equals), word.substr(std::min(equals + 1, word.size())), words);
  }
  return c;
}

Digest TranscriptHash(FragmentId fragment, Version version, bool wrong) {
  return Blake2b(std::string(wrong ? "wrong " : "state ") + Text(fragment) + " " + Text(version));
}

ObjectInfo TranscriptSnapshot(const Generation& g, FragmentId fragment, Version version) {
  return {.id = {ObjectKind::kState, g, fragment, version, {}},
          .chunks = 1,
          .bytes = 2 * sizeof(float) * kElements,
          .root = TranscriptHash(fragment, version)};
}

WorkerKey TranscriptKey(uint64_t worker) {
  WorkerKey key;
  key.bytes[0] = static_cast<uint8_t>(worker);
  return key;
}

std::string Text(SessionId s) { return "s" + std::to_string(s.value); }
std::string Text(FragmentId f) { return "f" + std::to_string(f.value); }
std::string Text(Version v) { return "v" + std::to_string(v.value); }
std::string Text(const ContributionId& id) {
  return Text(id.session) + "/" + std::to_string(id.sequence);
}

std::string Text(Duration d) {
  std::ostringstream out;
  out << static_cast<double>(d.count()) * 1e-9 << "s";
  return out.str();
}

std::string Text(const std::vector<LeaseRange>& ranges) {
  Lines parts;
  for (const LeaseRange& r : ranges) {
    parts.push_back(std::to_string(r.from) + "-" + std::to_string(r.to) + "#" +
                    std::to_string(r.fence.value));
  }
  return parts.empty() ? "nothing" : Join(parts, " ");
}

std::string Text(const Message& message) { return std::visit(MessageText{}, message); }

Lines AssignmentText(const Assignment& a) {
  static constexpr const char* kPhases[] = {"",         "waiting", "running",
                                            "finished", "stopped", "left"};
  Lines lines = {Quoted(kPhases[static_cast<int>(a.phase) % 6], a.reason)};
  for (size_t i = 0; i < a.current.size(); ++i) {
    const OutcomeView& o = a.outcomes.at(i);
    std::string line = Text(a.current[i].fragment) + " " + Text(a.current[i].version) +
                       ", snapshot " + Text(a.snapshots.at(i).id.version);
    if (o.decided.value > 0) line += ", decided up to round " + std::to_string(o.decided.value);
    if (o.included.session.value > 0) line += ", included " + Text(o.included);
    if (o.dropped.session.value > 0) line += ", dropped " + Text(o.dropped);
    lines.push_back(line);
  }
  for (const CommitView& c : a.commits) {
    lines.push_back("commit " + Text(c.fragment) + " " + Text(c.version) + " of round " +
                    std::to_string(c.round.value));
  }
  for (const RoundView& r : a.rounds) {
    lines.push_back("round " + std::to_string(r.round.value) + " " + Text(r.fragment) + " from " +
                    Text(r.base) + " steps " + std::to_string(r.own_steps));
    if (!r.slices.empty()) lines.back() += ", slices of";
    for (uint32_t chunks : r.slices) lines.back() += " " + std::to_string(chunks);
  }
  lines.push_back("leases " + Text(a.leases));
  for (const WorkRequest& r : a.requests) {
    lines.push_back(std::string("asked to ") +
                    (r.kind == RequestKind::kEvaluate ? "evaluate " : "sample ") + Text(r.version));
  }
  Lines peers;
  for (const PeerView& p : a.peers)
    peers.push_back(Text(p.session) + (p.address.empty() ? "" : " at " + p.address));
  if (!peers.empty()) lines.push_back("peers " + Join(peers, ", "));
  for (const SliceOrder& order : a.orders) lines.push_back("reduce " + OrderText(order));
  for (const AggregateView& view : a.aggregates) {
    lines.push_back("aggregate " + Text(view.object.id.fragment) + " " +
                    Text(view.object.id.version) + " from " + std::to_string(view.slices.size()) +
                    " reducers");
  }
  return lines;
}

std::string OrderText(const SliceOrder& o) {
  std::string text = Text(o.fragment) + " round " + std::to_string(o.round.value) + " slice " +
                     std::to_string(o.slice) + " (chunks " + std::to_string(o.first_chunk) + "-" +
                     std::to_string(o.first_chunk + o.chunks) +
                     (o.continues ? ", continues)" : ")");
  for (const SliceContribution& c : o.contributions)
    text += " " + Text(c.id) + "*" + std::to_string(c.weight);
  if (o.attempt == 0) return text;
  text += ", attempt " + std::to_string(o.attempt) + ":";
  for (const ContributionId& id : o.included) text += " " + Text(id);
  return text + " / " + std::to_string(o.divisor);
}

std::string Join(const Lines& parts, const std::string& separator) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : separator) + parts[i];
  return text;
}

}  // namespace longhaul
