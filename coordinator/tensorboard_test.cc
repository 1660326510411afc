#include "coordinator/tensorboard.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace longhaul {
namespace {

// Bit by bit, from the definition.
uint32_t NaiveCrc32c(const std::string& text) {
  uint32_t crc = ~0u;
  for (const char c : text) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(Crc32c(AsBytes(std::string_view("123456789"))), 0xE3069283u);
  EXPECT_EQ(Crc32c(AsBytes(std::string(32, '\0'))), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(AsBytes(std::string(32, '\xff'))), 0x62A8AB43u);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(Crc32c(AsBytes(rising)), 0x46DD794Eu);
  EXPECT_EQ(Crc32c(AsBytes(rising)), NaiveCrc32c(rising));
  EXPECT_EQ(Crc32c({}), 0u);
}

// A reader made from the format's description; Protobuf fields as number -> raw value.
struct Fields {
  std::map<uint64_t, uint64_t> numbers;  // varint, fixed32, fixed64
  std::map<uint64_t, std::string> bytes;
};

uint64_t ReadVarint(ByteReader& in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const uint8_t byte = in.U8();
    value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) break;
  }
  return value;
}

Fields ReadFields(const std::string& text) {
  Fields out;
  ByteReader in(text);
  while (in.ok() && !in.AtEnd()) {
    const uint64_t key = ReadVarint(in);
    if ((key & 7) == 0) out.numbers[key >> 3] = ReadVarint(in);
    if ((key & 7) == 1) out.numbers[key >> 3] = in.U64();
    if ((key & 7) == 5) out.numbers[key >> 3] = in.U32();
    if ((key & 7) == 2) {
      std::string bytes(ReadVarint(in), '\0');
      in.Raw(bytes.data(), bytes.size());
      out.bytes[key >> 3] = bytes;
    }
  }
  EXPECT_TRUE(in.AtEnd());
  return out;
}

std::vector<std::string> ReadRecords(const std::string& file) {
  std::vector<std::string> out;
  ByteReader in(file);
  const auto unmask = [](uint32_t masked) {
    const uint32_t rotated = masked - 0xA282EAD8u;
    return rotated >> 17 | rotated << 15;
  };
  while (in.ok() && !in.AtEnd()) {
    std::string length(8, '\0');
    in.Raw(length.data(), 8);
    EXPECT_EQ(unmask(in.U32()), NaiveCrc32c(length));
    std::string data(ByteReader(length).U64(), '\0');
    in.Raw(data.data(), data.size());
    EXPECT_EQ(unmask(in.U32()), NaiveCrc32c(data));
    out.push_back(data);
  }
  EXPECT_TRUE(in.AtEnd());
  return out;
}

class EventWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "events_test." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    auto storage = OpenFileStorage(folder_);
    ASSERT_TRUE(storage.ok());
    storage_ = std::move(*storage);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  std::unique_ptr<Storage> storage_;
};

TEST_F(EventWriterTest, WritesWhatAReaderFinds) {
  auto writer = EventWriter::Create(*storage_, "events", 1700000000.25);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ((*writer)->path(), "events/events.out.tfevents.1700000000.longhaul");
  ASSERT_TRUE((*writer)->AddScalar("loss/train", 300, 5.5f, 1700000001.5).ok());
  ASSERT_TRUE((*writer)->AddScalar("tokens", 0, -0.0f, 1700000002).ok());
  const auto file = ReadWhole(*storage_, (*writer)->path(), 1 << 20);
  ASSERT_TRUE(file.ok());
  const auto records = ReadRecords(*file);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(ReadFields(records[0]).bytes[3], "brain.Event:2");
  EXPECT_EQ(ReadFields(records[0]).numbers[1], std::bit_cast<uint64_t>(1700000000.25));
  Fields event = ReadFields(records[1]);
  EXPECT_EQ(event.numbers[1], std::bit_cast<uint64_t>(1700000001.5));
  EXPECT_EQ(event.numbers[2], 300u);
  Fields scalar = ReadFields(ReadFields(event.bytes[5]).bytes[1]);
  EXPECT_EQ(scalar.bytes[1], "loss/train");
  EXPECT_EQ(scalar.numbers[2], std::bit_cast<uint32_t>(5.5f));
}

TEST_F(EventWriterTest, NeverTouchesAnEarlierFile) {
  const auto first = EventWriter::Create(*storage_, "events", 5);
  const auto second = EventWriter::Create(*storage_, "events", 5.9);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->path(), (*second)->path());
}

TEST_F(EventWriterTest, RefusesBadInput) {
  const auto writer = EventWriter::Create(*storage_, "events", 5);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE((*writer)->AddScalar("", 1, 1, 1).ok());
  EXPECT_FALSE((*writer)->AddScalar("x", -1, 1, 1).ok());
  EXPECT_FALSE((*writer)->AddScalar(std::string(2000, 'x'), 1, 1, 1).ok());
}

}  // namespace
}  // namespace longhaul
