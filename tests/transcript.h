// Transcripts of a core: text files of commands and of the effects that follow from them.
//
//   # A comment.
//   hello w1 p1
//     record session 1 opened: w1
//
// A command begins in the first column; the effects it must have are the indented lines below it.
// An interpreter turns each command into the lines of its effects. tests/transcript_test.cc
// compares them with the file, or rewrites the file when it is told to.
//
// Values and free functions; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/time.h"
#include "proto/messages.h"

namespace longhaul {

using Lines = std::vector<std::string>;

// An interpreter says this when it cannot make sense of a command; it is no effect of any core.
inline constexpr char kNotUnderstood[] = "NOT UNDERSTOOD";

// The transcript with the effects that its commands have now. Comments and blank lines stay.
std::string Play(const std::string& transcript,
                 const std::function<Lines(const std::string& command)>& interpret);

// The words of one command, taken from the left. What is not there or of another form gives a zero
// value and makes it not ok.
class Words {
 public:
  explicit Words(const std::string& command);
  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }
  bool AtEnd() const { return next_ == words_.size(); }
  std::string Word();
  std::string Rest();                               // all that is left, with single spaces
  bool Take(const std::string& word);               // when it is the next one
  uint64_t Number(const std::string& prefix = "");  // "12", or "s12" with the prefix "s"
  bool NextIs(const std::string& prefix) const;     // a number with this prefix
  double Real();
  Duration Time();  // "5s", "200ms"
  SessionId Session() { return {Number("s")}; }
  FragmentId Fragment() { return {Number("f")}; }
  Version AVersion() { return {Number("v")}; }
  ContributionId Contribution();  // "s1/2"

 private:
  std::vector<std::string> words_;
  size_t next_ = 0;
  bool ok_ = true;
};

// "rounds=3 fragments=2 ...": the keys of a run that matter to the cores. One step of these runs
// trains one sample.
RunConfig TranscriptConfig(Words& words);
// What everybody holds of a fragment at a version; `wrong`: what nobody should hold.
Digest TranscriptHash(FragmentId fragment, Version version, bool wrong = false);
ObjectInfo TranscriptSnapshot(const Generation& g, FragmentId fragment, Version version);
WorkerKey TranscriptKey(uint64_t worker);

std::string Text(SessionId s);
std::string Text(FragmentId f);
std::string Text(Version v);
std::string Text(const ContributionId& id);
std::string Text(Duration d);
std::string Text(const std::vector<LeaseRange>& ranges);  // "0-4#1 8-12#3": positions, fence
std::string Text(const Message& message);
std::string OrderText(const SliceOrder& order);
// One line per part.
Lines AssignmentText(const Assignment& a);
std::string Join(const Lines& parts, const std::string& separator);

}  // namespace longhaul
