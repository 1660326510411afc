#include "proto/codec.h"

#include <gtest/gtest.h>

#include "common/rng.h"
#include "proto/longhaul.pb.h"
#include "proto/sample_messages.h"

namespace longhaul {
namespace {

void ExpectEqual(const Envelope& a, const Envelope& b) {
  EXPECT_EQ(a.protocol_version, b.protocol_version);
  EXPECT_EQ(a.run, b.run);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(a.session, b.session);
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_TRUE(a.body == b.body) << "body kind " << a.body.index();
}

// The sample envelope with the given kind of body, as the wire sees it.
template <class Body>
wire::Envelope WireSample() {
  wire::Envelope out;
  for (const Envelope& e : SampleEnvelopes()) {
    if (std::holds_alternative<Body>(e.body)) out.ParseFromString(*EncodeEnvelope(e));
  }
  return out;
}

void ExpectRefused(const wire::Envelope& e, absl::string_view part_of_reason) {
  auto decoded = DecodeEnvelope(AsBytes(e.SerializeAsString()));
  ASSERT_FALSE(decoded.ok());
  EXPECT_NE(decoded.status().message().find(part_of_reason), absl::string_view::npos)
      << decoded.status();
}

TEST(CodecTest, EveryKindOfMessageComesBackEqual) {
  const std::vector<Envelope> samples = SampleEnvelopes();
  ASSERT_EQ(samples.size(), std::variant_size_v<Message>);
  for (size_t i = 0; i < samples.size(); ++i) {
    ASSERT_EQ(samples[i].body.index(), i);  // one sample for each kind
    auto bytes = EncodeEnvelope(samples[i]);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    auto decoded = DecodeEnvelope(AsBytes(*bytes));
    ASSERT_TRUE(decoded.ok()) << decoded.status() << " kind " << i;
    ExpectEqual(*decoded, samples[i]);
  }
}

TEST(CodecTest, DefaultsComeBackEqual) {
  for (Envelope e : SampleEnvelopes()) {
    std::visit([](auto& body) { body = {}; }, e.body);
    auto decoded = DecodeEnvelope(AsBytes(*EncodeEnvelope(e)));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ExpectEqual(*decoded, e);
  }
}

TEST(CodecTest, RefusesOversize) {
  Envelope e;
  e.body = Leave{std::string(kMaxControlBytes, 'x')};
  EXPECT_EQ(EncodeEnvelope(e).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(DecodeEnvelope(AsBytes(std::string(kMaxControlBytes + 1, '\0'))).ok());

  wire::Envelope w = WireSample<Leave>();
  w.mutable_leave()->set_reason(std::string(kMaxControlBytes, 'x'));
  ExpectRefused(w, "64 KiB");
}

TEST(CodecTest, LongestAllowedMessagePasses) {
  Envelope e;
  e.body = Leave{std::string(kMaxControlBytes - 16, 'x')};
  auto bytes = EncodeEnvelope(e);
  ASSERT_TRUE(bytes.ok());
  EXPECT_LE(bytes->size(), kMaxControlBytes);
  EXPECT_TRUE(DecodeEnvelope(AsBytes(*bytes)).ok());
}

// A truncated message must never decode to the full one; most cuts are refused outright, a cut
// between fields of the envelope leaves no body, which is refused too.
TEST(CodecTest, RefusesEveryTruncation) {
  for (const Envelope& e : SampleEnvelopes()) {
    const std::string bytes = *EncodeEnvelope(e);
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(DecodeEnvelope(AsBytes(bytes).first(size)).ok())
          << "kind " << e.body.index() << " cut at " << size;
    }
  }
}

TEST(CodecTest, RefusesGarbageAndTrailingBytes) {
  EXPECT_FALSE(DecodeEnvelope(AsBytes(std::string("GET / HTTP/1.1\r\n"))).ok());
  EXPECT_FALSE(DecodeEnvelope(AsBytes(std::string(64, '\xFF'))).ok());
  EXPECT_FALSE(DecodeEnvelope({}).ok());
  EXPECT_FALSE(DecodeEnvelope(AsBytes(*EncodeEnvelope(SampleEnvelopes()[0]) + '\0')).ok());
}

TEST(CodecTest, RefusesMissingBody) {
  wire::Envelope w = WireSample<Leave>();
  w.clear_body();
  ExpectRefused(w, "without a known body");
}

// Unknown groups are the only thing that could nest here.
TEST(CodecTest, RefusesDeepNesting) {
  constexpr char kStartGroup = static_cast<char>((15 << 3) | 3);
  constexpr char kEndGroup = static_cast<char>((15 << 3) | 4);
  const std::string valid = *EncodeEnvelope(SampleEnvelopes()[0]);
  const auto nested = [&](size_t depth) {
    return valid + std::string(depth, kStartGroup) + std::string(depth, kEndGroup);
  };
  EXPECT_TRUE(DecodeEnvelope(AsBytes(nested(8))).ok());
  EXPECT_FALSE(DecodeEnvelope(AsBytes(nested(17))).ok());
  EXPECT_FALSE(DecodeEnvelope(AsBytes(nested(20'000))).ok());
}

TEST(CodecTest, RefusesWrongFieldSizes) {
  wire::Envelope w = WireSample<Enroll>();
  w.mutable_enroll()->mutable_key()->push_back('x');
  ExpectRefused(w, "wrong size");
  w = WireSample<Enroll>();
  w.mutable_enroll()->mutable_signature()->pop_back();
  ExpectRefused(w, "wrong size");
  w = WireSample<Enroll>();
  w.mutable_enroll()->clear_ed25519_public();
  ExpectRefused(w, "wrong size");
  w = WireSample<Hello>();
  w.mutable_hello()->mutable_data_identity()->pop_back();
  ExpectRefused(w, "wrong size");
  w = WireSample<Heartbeat>();
  w.mutable_heartbeat()->mutable_fragments(0)->clear_state_hash();
  ExpectRefused(w, "wrong size");
  w = WireSample<ContributionReady>();
  w.mutable_contribution_ready()->mutable_object()->clear_root();
  ExpectRefused(w, "wrong size");
  w = WireSample<Assignment>();
  w.mutable_assignment()->mutable_commits(0)->set_state_hash("short");
  ExpectRefused(w, "wrong size");
}

TEST(CodecTest, RefusesUnknownEnumValues) {
  for (int value : {0, 4, 99, -1}) {
    wire::Envelope w = WireSample<Fetch>();
    w.mutable_fetch()->mutable_object()->set_kind(static_cast<wire::ObjectKind>(value));
    ExpectRefused(w, "enum");
  }
  wire::Envelope w = WireSample<Refused>();
  w.mutable_refused()->set_code(static_cast<wire::RefusalCode>(14));
  ExpectRefused(w, "enum");
  w = WireSample<Assignment>();
  w.mutable_assignment()->set_phase(static_cast<wire::Phase>(257));
  ExpectRefused(w, "enum");
  w = WireSample<Assignment>();
  w.mutable_assignment()->mutable_requests(0)->set_kind(static_cast<wire::RequestKind>(3));
  ExpectRefused(w, "enum");
}

TEST(CodecTest, RefusesTooManyListEntriesBothWays) {
  ContributionReady ready;
  ready.leases.resize(kMaxLeasesPerMessage);
  EXPECT_TRUE(DecodeEnvelope(AsBytes(*EncodeEnvelope({.body = ready}))).ok());
  ready.leases.resize(kMaxLeasesPerMessage + 1);
  EXPECT_EQ(EncodeEnvelope({.body = ready}).status().code(), absl::StatusCode::kResourceExhausted);

  wire::Envelope w = WireSample<Fetch>();
  for (uint32_t i = 0; i < kMaxMissingRuns; ++i) w.mutable_fetch()->add_missing();
  ExpectRefused(w, "list");
  w = WireSample<Assignment>();
  for (uint32_t i = 0; i < kMaxRequestsPerMessage; ++i) {
    *w.mutable_assignment()->add_requests() = w.assignment().requests(0);
  }
  ExpectRefused(w, "list");
  w = WireSample<Assignment>();
  for (uint32_t i = 0; i < kMaxCommitsPerMessage; ++i) {
    *w.mutable_assignment()->add_commits() = w.assignment().commits(0);
  }
  ExpectRefused(w, "list");
  w = WireSample<BlobElsewhere>();
  for (uint32_t i = 0; i < kMaxBlobHolders; ++i) {
    *w.mutable_blob_elsewhere()->add_holders() = w.blob_elsewhere().holders(0);
  }
  ExpectRefused(w, "list");
  w = WireSample<Assignment>();
  for (uint32_t i = 0; i < kMaxFragmentsPerMessage; ++i) w.mutable_assignment()->add_rounds();
  ExpectRefused(w, "list");
}

TEST(CodecTest, RefusesDamagedConfigAndAbsurdDuration) {
  wire::Envelope w = WireSample<Welcome>();
  w.mutable_welcome()->mutable_config()->pop_back();
  ExpectRefused(w, "config");
  w = WireSample<Welcome>();
  w.mutable_welcome()->set_silence_limit_ns(UINT64_MAX);
  ExpectRefused(w, "duration");
}

std::string Mutated(std::string bytes, Rng& rng) {
  const uint64_t edits = 1 + rng.Below(4);
  for (uint64_t i = 0; i < edits && !bytes.empty(); ++i) {
    const size_t at = rng.Below(bytes.size());
    switch (rng.Below(4)) {
      case 0:
        bytes[at] = static_cast<char>(rng.Next());
        break;
      case 1:
        bytes.erase(at, 1 + rng.Below(8));
        break;
      case 2:
        bytes.insert(at, 1 + rng.Below(8), static_cast<char>(rng.Next()));
        break;
      default:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.Below(8)));
    }
  }
  return bytes;
}

// The twin of envelope_fuzz.cc: nothing crashes, and what is accepted survives another trip.
TEST(CodecTest, MutatedMessagesNeverCrash) {
  std::vector<std::string> seeds;
  for (const Envelope& e : SampleEnvelopes()) seeds.push_back(*EncodeEnvelope(e));
  Rng rng(20260101);
  int accepted = 0;
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    auto decoded = DecodeEnvelope(AsBytes(Mutated(seeds[rng.Below(seeds.size())], rng)));
    decoded.ok() ? ++accepted : ++refused;
    if (!decoded.ok()) continue;
    auto bytes = EncodeEnvelope(*decoded);
    ASSERT_TRUE(bytes.ok());
    auto again = DecodeEnvelope(AsBytes(*bytes));
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*EncodeEnvelope(*again), *bytes);  // bytes, because a mutated double may be NaN
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace longhaul
