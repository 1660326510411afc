#include "transport/keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace longhaul {
namespace {

class KeyFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/keysXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/worker.key";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  std::string folder_;
  std::string path_;
};

TEST(KeysTest, Z85ComesBackEqualAndRefusesDamage) {
  const CurveKeyPair keys = CurveKeyPair::Generate();
  const std::string text = ToZ85(keys.secret);
  EXPECT_EQ(text.size(), 40u);
  EXPECT_EQ(*FromZ85(text), keys.secret);
  EXPECT_FALSE(FromZ85(text.substr(1)).ok());
  EXPECT_FALSE(FromZ85(text + "a").ok());
  EXPECT_FALSE(FromZ85("").ok());
  for (const char* wrong : {"\"", " ", "~", "\xC3"}) {
    EXPECT_FALSE(FromZ85(wrong + text.substr(1)).ok());
  }
  EXPECT_FALSE(FromZ85("#####" + text.substr(5)).ok());  // above 2^32
}

TEST(KeysTest, SecretsAreDifferentAndGiveTheirPublicKey) {
  const CurveKeyPair a = CurveKeyPair::Generate();
  const CurveKeyPair b = CurveKeyPair::Generate();
  EXPECT_NE(a.secret, b.secret);
  EXPECT_NE(a.public_key, b.public_key);
  EXPECT_EQ(CurveKeyPair::FromSecret(a.secret).public_key, a.public_key);
}

TEST(KeysTest, SignaturesHoldForTheirMessageAndKeyOnly) {
  const SigningKeyPair keys = SigningKeyPair::Generate();
  const Signature signature = keys.Sign(AsBytes("join"));
  EXPECT_TRUE(VerifySignature(keys.public_key, AsBytes("join"), signature));
  EXPECT_FALSE(VerifySignature(keys.public_key, AsBytes("Join"), signature));
  EXPECT_FALSE(VerifySignature(SigningKeyPair::Generate().public_key, AsBytes("join"), signature));
  Signature changed = signature;
  changed[63] ^= 1;
  EXPECT_FALSE(VerifySignature(keys.public_key, AsBytes("join"), changed));
}

// RFC 8032, section 7.1, test 1.
TEST(KeysTest, Ed25519IsTheStandardOne) {
  std::array<uint8_t, 32> seed;
  ASSERT_TRUE(FromHex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", seed));
  const SigningKeyPair keys = SigningKeyPair::FromSeed(seed);
  EXPECT_EQ(ToHex(std::as_bytes(std::span(keys.public_key))),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const Signature signature = keys.Sign({});
  EXPECT_EQ(ToHex(std::as_bytes(std::span(signature))).substr(0, 32),
            "e5564300c360ac729086e2cc806e828a");
}

TEST_F(KeyFileTest, CurveKeysComeBackFromAPrivateFile) {
  const CurveKeyPair keys = CurveKeyPair::Generate();
  ASSERT_TRUE(WriteKeyFile(path_, keys).ok());
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  auto read = ReadCurveKeyFile(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->secret, keys.secret);
  EXPECT_EQ(read->public_key, keys.public_key);
  EXPECT_FALSE(ReadSigningKeyFile(path_).ok());  // another kind of key
  EXPECT_EQ(WriteKeyFile(path_, keys).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(KeyFileTest, SigningKeysComeBack) {
  const SigningKeyPair keys = SigningKeyPair::Generate();
  ASSERT_TRUE(WriteKeyFile(path_, keys).ok());
  auto read = ReadSigningKeyFile(path_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->public_key, keys.public_key);
}

TEST_F(KeyFileTest, RefusesFilesThatOthersMayRead) {
  ASSERT_TRUE(WriteKeyFile(path_, CurveKeyPair::Generate()).ok());
  for (mode_t mode : {0640, 0604, 0620, 0644}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    const absl::Status status = ReadCurveKeyFile(path_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_NE(status.message().find("chmod 600"), absl::string_view::npos);
  }
  ASSERT_EQ(chmod(path_.c_str(), 0400), 0);
  EXPECT_TRUE(ReadCurveKeyFile(path_).ok());
}

TEST_F(KeyFileTest, RefusesWhatIsNotAKeyFile) {
  EXPECT_EQ(ReadCurveKeyFile(path_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(ReadCurveKeyFile(folder_).ok());
  for (const std::string text :
       {"", "longhaul-curve-secret-1 ", "longhaul-curve-secret-1 short\n", "-----BEGIN KEY-----"}) {
    std::ofstream(path_) << text;
    ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
    EXPECT_EQ(ReadCurveKeyFile(path_).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace longhaul
