#include "transport/invitation.h"

#include <gtest/gtest.h>

#include "common/rng.h"

namespace longhaul {
namespace {

Invitation Sample() {
  Invitation invitation;
  invitation.addresses = {"lab.example:7443", "203.0.113.9:7443"};
  invitation.server_key = CurveKeyPair::Generate().public_key;
  invitation.run = {1, 2, 3, 4, 5, 6, 7, 0xFF};
  invitation.expires_unix_s = 1'800'000'000;
  invitation.uses = 25;
  invitation.one_off_secret = CurveKeyPair::Generate().secret;
  return invitation;
}

std::string Reason(std::string_view text) {
  return std::string(DecodeInvitation(text).status().message());
}

TEST(InvitationTest, ComesBackEqual) {
  const Invitation invitation = Sample();
  auto text = EncodeInvitation(invitation);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->substr(0, 4), "LH1-");
  auto decoded = DecodeInvitation(*text);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_TRUE(*decoded == invitation);
  EXPECT_EQ(decoded->run_id(), "01020304050607ff");
  EXPECT_EQ(decoded->id().size(), 16u);
  EXPECT_EQ(decoded->id(), InvitationId(invitation.one_off_keys().public_key));
}

TEST(InvitationTest, WhiteSpaceDoesNoHarm) {
  const std::string text = *EncodeInvitation(Sample());
  EXPECT_TRUE(DecodeInvitation("  " + text.substr(0, 70) + "\r\n  " + text.substr(70) + "\n").ok());
}

TEST(InvitationTest, EveryMistypedCharacterIsRefused) {
  const std::string text = *EncodeInvitation(Sample());
  constexpr std::string_view kTyped = "ABCXYZabcxyz0189-_!?.,=\x80";
  for (size_t i = 0; i < text.size(); ++i) {
    for (char c : kTyped) {
      std::string typed = text;
      if (typed[i] == c) continue;
      typed[i] = c;
      EXPECT_FALSE(DecodeInvitation(typed).ok()) << i << " " << c;
    }
  }
}

TEST(InvitationTest, EveryTruncationAndSwapIsRefused) {
  const std::string text = *EncodeInvitation(Sample());
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(DecodeInvitation(text.substr(0, size)).ok()) << size;
  }
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    std::string swapped = text;
    std::swap(swapped[i], swapped[i + 1]);
    EXPECT_EQ(DecodeInvitation(swapped).ok(), swapped == text) << i;
  }
  EXPECT_FALSE(DecodeInvitation(text + "AAAA").ok());
  EXPECT_FALSE(DecodeInvitation(text + text).ok());
  EXPECT_FALSE(DecodeInvitation(std::string(100'000, 'A')).ok());
}

TEST(InvitationTest, ReasonsAreClear) {
  const std::string text = *EncodeInvitation(Sample());
  EXPECT_NE(Reason(text.substr(0, text.size() - 20)).find("cut off"), std::string::npos);
  EXPECT_NE(Reason("hello").find("LH1-"), std::string::npos);
  EXPECT_NE(Reason("LH2" + text.substr(3)).find("another version"), std::string::npos);
  EXPECT_NE(Reason(text.substr(0, 20) + "!" + text.substr(21)).find("character 21"),
            std::string::npos);
  std::string changed = text;
  changed[30] = changed[30] == 'A' ? 'B' : 'A';
  EXPECT_NE(Reason(changed).find("checksum"), std::string::npos);
}

TEST(InvitationTest, EncodeRefusesBadAddresses) {
  Invitation invitation = Sample();
  invitation.addresses = {};
  EXPECT_FALSE(EncodeInvitation(invitation).ok());
  for (const char* address : {"lab", "lab:", ":7443", "lab:0", "lab:65536", "lab:74x", "a b:1",
                              "tcp://lab:1", "x;y:1", "lab:999999999999"}) {
    invitation.addresses = {address};
    EXPECT_FALSE(EncodeInvitation(invitation).ok()) << address;
  }
  invitation.addresses.assign(kMaxInvitationAddresses + 1, "lab:1");
  EXPECT_FALSE(EncodeInvitation(invitation).ok());
  EXPECT_TRUE(CheckAddress("0.0.0.0:0", true).ok());
}

TEST(InvitationTest, StatementBindsAllItsParts) {
  const WorkerKey key = CurveKeyPair::Generate().public_key;
  const auto signer = SigningKeyPair::Generate().public_key;
  const std::string statement = EnrollmentStatement("run1", "invite", key, signer);
  EXPECT_NE(statement, EnrollmentStatement("run2", "invite", key, signer));
  EXPECT_NE(statement, EnrollmentStatement("run1i", "nvite", key, signer));
  EXPECT_NE(statement, EnrollmentStatement("run1", "invite", {}, signer));
  EXPECT_NE(statement, EnrollmentStatement("run1", "invite", key, {}));
}

}  // namespace
}  // namespace longhaul
