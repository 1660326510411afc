#include "proto/sample_messages.h"

namespace longhaul {

namespace {

template <size_t N>
std::array<uint8_t, N> Filled(uint8_t first) {
  std::array<uint8_t, N> out;
  for (size_t i = 0; i < N; ++i) out[i] = static_cast<uint8_t>(first + i);
  return out;
}

ObjectInfo SampleObject(ObjectKind kind) {
  ObjectInfo info;
  info.id = {kind, {3, 0xFEDCBA9876543210}, {2}, {41}, {{17}, 5}, 6};
  info.chunks = 9;
  info.bytes = uint64_t{1} << 33;
  info.root = Filled<32>(7);
  return info;
}

Assignment SampleAssignment() {
  Assignment a;
  a.phase = Phase::kStopped;
  a.reason = "most states differ";
  a.current = {{{0}, {40}, Filled<32>(1)}, {{1}, {41}, Filled<32>(2)}};
  a.snapshots = {SampleObject(ObjectKind::kState)};
  a.commits = {{{12},
                3,
                {1},
                {41},
                SampleObject(ObjectKind::kAggregate),
                0x3F333333,
                0x3F19999A,
                Filled<32>(9)}};
  a.rounds = {{{13}, {1}, {41}, 30, {2, 7}}};
  a.outcomes = {{{1}, {12}, {{17}, 4}, {{18}, 2}}};
  a.leases = {{{100}, 4096, 8192}, {{101}, 16384, 20000}};
  a.requests = {{{8}, RequestKind::kSample, {40}, std::string("def \xFF\x00(", 7), 64}};
  a.peers = {{{17}, {Filled<32>(12)}, "10.0.0.1:9"}, {{18}, {Filled<32>(13)}, ""}};
  a.orders = {{{13},
               {1},
               {41},
               1,
               2,
               7,
               true,
               {{{{17}, 5}, 1000, Filled<32>(14), 77}},
               2,
               {{{17}, 5}},
               77}};
  a.aggregates = {{SampleObject(ObjectKind::kAggregate),
                   {{{2, 100, Filled<32>(15)}, {Filled<32>(16)}}, {{7, 300, Filled<32>(17)}, {}}}}};
  return a;
}

SliceReport SampleReport() {
  return {{13},
          {1},
          1,
          {{{17}, 5}, {{18}, 1}},
          {{{19}, 2}},
          {{{20}, 3}},
          "too large",
          2,
          SampleObject(ObjectKind::kAggregate),
          true};
}

Welcome SampleWelcome() {
  Welcome w;
  w.session = {17};
  w.process = {1, uint64_t{1} << 63};
  w.config = SampleRunConfig();
  w.data_identity = Filled<32>(77);
  w.parameters = 1'234'567;
  w.heartbeat_every = Milliseconds(500);
  w.silence_limit = Seconds(20);
  w.keep_residual = true;
  w.manifest_id = Filled<32>(78);
  w.manifest_bytes = uint64_t{1} << 33;
  return w;
}

std::vector<Message> SampleBodies() {
  Hello hello{{5, 6},         "garage",     "0.1.0", 32'000'000'000, 16,          true,
              Filled<32>(50), "corpus.txt", {3, 9},  {{{4}, 2}},     "10.0.0.1:9"};
  Heartbeat beat{{{{1}, {40}, Filled<32>(3)}}, 300, 7'000'000, 9'000'000, 2.5, 1000, 2000, 3000,
                 {{{Filled<32>(8)}, true, 4000}}};
  ContributionReady ready{SampleObject(ObjectKind::kContribution),
                          {13},
                          Filled<32>(4),
                          {{{100}, 4096, 4100}},
                          30,
                          3.25,
                          {{2, 100, Filled<32>(5)}, {7, 300, Filled<32>(6)}}};
  Fetch fetch{
      SampleObject(ObjectKind::kAggregate).id, 6, {{0, 3}, {5, 1}, {9, 1000}}, uint64_t{1} << 21};
  return {
      Enroll{"0123456789abcdef", {Filled<32>(10)}, Filled<32>(20), Filled<64>(30), "caf\xC3\xA9"},
      hello,
      beat,
      ready,
      RequestDone{{8}, 1.75, 4096, std::string("\xFE\x00\x80", 3), "out of memory"},
      Leave{"told to finish", true},
      fetch,
      FetchRefused{SampleObject(ObjectKind::kState).id, "gone"},
      Refused{RefusalCode::kWrongGeneration, "another generation"},
      Enrolled{},
      SampleWelcome(),
      SampleAssignment(),
      AdminInvite{"0123456789abcdef", {Filled<32>(11)}, 1'800'000'000, 9},
      AdminRevoke{"0123456789abcdef"},
      AdminDone{"no such invitation"},
      FetchBlob{11, Filled<32>(79), uint64_t{1} << 32, 524'288, true, true},
      BlobRefused{11, "no such shard"},
      SampleReport(),
      AggregateHeld{SampleObject(ObjectKind::kAggregate)},
      BlobElsewhere{12, {{SessionId{3}, WorkerKey{Filled<32>(80)}, "10.0.0.7:7444"}}}};
}

}  // namespace

RunConfig SampleRunConfig() {
  RunConfig c;
  c.run = {"tiny", 11, 31, 3, 2.5, "out/tiny"};
  c.model = {"", "hf/base", 257, 64, 172, 4, 8, 2, 50000.0, 1e-6, true};
  c.data = {"corpus.txt", 0.125, "words", 256, 1'000'000, "sets/mix", "web=3 code=1"};
  c.train = {"muon", 0.02, 51, "constant", 9, 2, 0.2, 0.5, 0.8, 0.99, 1e-7, 15, 0.004, 0.93, "pcn"};
  c.sync = {30,   2,    5,   "int4",  "bf16",     1.5,  3.5,
            0.97, 0.8,  0.6, "equal", "standard", true, "contributor_mean",
            true, true, 3,   90,      0.5,        0.25, "w1=7"};
  c.round = {0.5, 3, 0.25, "a, b", 1000, "degrade", "auto"};
  c.reduce = {"workers", "a, b", 3};
  c.network = {"127.0.0.1:0", "lab.example:7443", ""};
  c.checkpoint = {5, 7};
  c.pcn = {"ipc", 5, 0.8, 0.25, 0.5, -0.1};
  return c;
}

std::vector<Envelope> SampleEnvelopes() {
  std::vector<Envelope> out;
  for (Message& body : SampleBodies()) {
    Envelope e;
    e.run = "00112233445566ff";
    e.generation = {3, 0xFEDCBA9876543210};
    e.session = {17};
    e.sequence = 1000 + out.size();
    e.body = std::move(body);
    out.push_back(std::move(e));
  }
  return out;
}

}  // namespace longhaul
