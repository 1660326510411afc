#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/rng.h"
#include "model/checkpoint.h"
#include "model/hugging_face.h"
#include "model/test_folder.h"

namespace longhaul {
namespace {

LlamaShape TinyShape() {
  LlamaShape s;
  s.vocab_size = 7;
  s.hidden_size = 8;
  s.intermediate_size = 12;
  s.num_hidden_layers = 2;
  s.num_attention_heads = 4;
  s.num_key_value_heads = 2;
  return s;
}

std::string WithLength(const std::string& json, const std::string& data) {
  ByteWriter w;
  w.U64(json.size());
  return w.Take() + json + data;
}

std::string FloatBytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size());
}

std::string TinyModelFile(const std::vector<float>& values) {
  return MakeSafetensorsHeader(MakeParameterTable(TinyShape())) + FloatBytes(values);
}

TEST(Safetensors, HeaderRoundTripAndAlignment) {
  const ParameterTable table = MakeParameterTable(TinyShape());
  const std::string head = MakeSafetensorsHeader(table);
  EXPECT_EQ(head.size() % kSafetensorsAlignment, 0u);
  auto header = ParseSafetensorsHeader(head, head.size() + 4 * table.elements);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->data_bytes_at, head.size());
  ASSERT_EQ(header->tensors.size(), table.parameters.size());
  for (size_t k = 0; k < table.parameters.size(); ++k) {
    EXPECT_EQ(header->tensors[k].name, table.parameters[k].name);
    EXPECT_EQ(header->tensors[k].shape, table.parameters[k].shape);
    EXPECT_EQ(header->tensors[k].begin_bytes, 4 * table.parameters[k].offset);
  }
}

TEST(Safetensors, ReadsAHandMadeFile) {
  const std::string json =
      R"({"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},)"
      R"("a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}})";
  std::string data = FloatBytes({1.5f, -2.0f});
  data += std::string("\x80\x3f\x00\xc0\x49\x40", 6);  // 1, -2, 3.140625
  TestFolder folder;
  auto storage = folder.Open();
  Overwrite(*storage, "x.safetensors", WithLength(json, data));
  auto header = ReadSafetensorsHeader(*storage, "x.safetensors");
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a");
  std::vector<float> a(2), b(3), tail(1);
  ASSERT_TRUE(ReadTensor(*storage, "x.safetensors", *header, header->tensors[0], 0, a).ok());
  ASSERT_TRUE(ReadTensor(*storage, "x.safetensors", *header, header->tensors[1], 0, b).ok());
  ASSERT_TRUE(ReadTensor(*storage, "x.safetensors", *header, header->tensors[0], 1, tail).ok());
  EXPECT_EQ(a, (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(b, (std::vector<float>{1.0f, -2.0f, 3.140625f}));
  EXPECT_EQ(tail, (std::vector<float>{-2.0f}));
  EXPECT_FALSE(ReadTensor(*storage, "x.safetensors", *header, header->tensors[0], 1, a).ok());
}

TEST(Safetensors, RefusesBadHeadersWithTheReason) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  const std::string data(16, '\1');
  auto parse = [](const std::string& file) { return ParseSafetensorsHeader(file, file.size()); };
  ASSERT_TRUE(parse(WithLength(good, data)).ok());
  struct {
    const char *from, *to, *reason;
  } cases[] = {
      {"[8,16]", "[4,12]", "overlaps"},
      {"[8,16]", "[12,20]", "gap"},
      {"[8,16]", "[8,12]", "disagree"},
      {"[8,16]", "[16,8]", "disagree"},
      {"[8,16]", "[8,16,24]", "two whole numbers"},
      {"[8,16]", "[8.0,16]", "two whole numbers"},
      {"[8,16]", "[-8,16]", "two whole numbers"},
      {"\"F32\"", "\"F64\"", "F64 is not supported"},
      {"\"F32\"", "32", "not a text"},
      {"[2],\"data_offsets\":[8", "[18446744073709551615,2],\"data_offsets\":[8", "too large"},
      {"[2],\"data_offsets\":[8", "[4294967296,4294967296],\"data_offsets\":[8", "too large"},
      {"[2],\"data_offsets\":[8", "[0],\"data_offsets\":[8", "positive"},
      {"[2],\"data_offsets\":[8", "[3],\"data_offsets\":[8", "disagree"},
      {"[2],\"data_offsets\":[8", "[1,1,1,1,1,1,1,1,2],\"data_offsets\":[8", "dimensions"},
      {"\"b\"", "\"a\"", "twice"},
      {"\"shape\":[2],\"data_offsets\":[8", "\"data_offsets\":[8", "exactly"},
      {"{\"a\"", "{\"__metadata__\":{\"x\":1},\"a\"", "__metadata__"},
      {"[8,16]}}", "[8,16]}", "not valid JSON"},
      {"[8,16]}}", "[8,16]},\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}",
       "truncated"},
  };
  for (const auto& c : cases) {
    auto header = parse(WithLength(absl::StrReplaceAll(good, {{c.from, c.to}}), data));
    ASSERT_FALSE(header.ok()) << c.to;
    EXPECT_NE(std::string(header.status().message()).find(c.reason), std::string::npos)
        << c.to << " -> " << header.status();
  }
  EXPECT_FALSE(parse(WithLength(good, data + "x")).ok()) << "trailing byte";
  EXPECT_FALSE(parse(WithLength(good, data.substr(1))).ok()) << "truncated";
  EXPECT_FALSE(parse("").ok());
  EXPECT_FALSE(parse(std::string(7, '\0')).ok());
  EXPECT_FALSE(parse(std::string(8, '\xff')).ok());
  EXPECT_FALSE(parse(WithLength(std::string(100000, '['), "")).ok());
  ByteWriter huge;
  huge.U64(kMaxSafetensorsHeaderBytes + 1);
  EXPECT_FALSE(ParseSafetensorsHeader(huge.str(), uint64_t{1} << 40).ok());
}

// Random damage to the header never crashes, and what is still accepted describes the file exactly.
TEST(Safetensors, RandomDamageIsRefusedOrConsistent) {
  const std::string good = MakeSafetensorsHeader(MakeParameterTable(TinyShape()));
  const uint64_t data_bytes = 4 * ParameterCount(TinyShape());
  Rng rng(5);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string head = good;
    for (uint64_t n = 1 + rng.Below(3); n > 0; --n) {
      head[rng.Below(head.size())] = static_cast<char>(rng.Below(256));
    }
    auto header = ParseSafetensorsHeader(head, good.size() + data_bytes);
    if (!header.ok()) {
      ++refused;
      continue;
    }
    uint64_t at = 0;
    for (const TensorInfo& t : header->tensors) {
      ASSERT_EQ(t.begin_bytes, at);
      at = t.end_bytes;
    }
    ASSERT_EQ(header->data_bytes_at + at, good.size() + data_bytes);
  }
  EXPECT_GT(refused, 1500);
}

class HuggingFaceFolder : public ::testing::Test {
 protected:
  HuggingFaceFolder() : storage_(folder_.Open()) {
    values_ = InitialParameters(MakeParameterTable(TinyShape()), 3);
    Overwrite(*storage_, "config.json", ToConfigJson(TinyShape()));
  }
  absl::StatusOr<HuggingFaceModel> Read() { return ReadHuggingFace(*storage_, "."); }
  TestFolder folder_;
  std::unique_ptr<Storage> storage_;
  std::vector<float> values_;
};

TEST_F(HuggingFaceFolder, ReadsASingleFile) {
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kNotFound);
  Overwrite(*storage_, "model.safetensors", TinyModelFile(values_));
  auto model = Read();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->shape, TinyShape());
  EXPECT_EQ(model->parameters, values_);
}

TEST_F(HuggingFaceFolder, RefusesOtherTensors) {
  const std::string good = TinyModelFile(values_);
  struct {
    const char *from, *to, *reason;
  } cases[] = {{"lm_head.weight", "lm_tail.weight", "not part"},
               {"\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[7,8]",
                "\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[8,7]", "another shape"}};
  for (const auto& c : cases) {
    Overwrite(*storage_, "model.safetensors", absl::StrReplaceAll(good, {{c.from, c.to}}));
    auto model = Read();
    ASSERT_FALSE(model.ok());
    EXPECT_NE(std::string(model.status().message()).find(c.reason), std::string::npos)
        << model.status();
  }
  std::vector<float> bad = values_;
  bad[11] = std::nanf("");
  Overwrite(*storage_, "model.safetensors", TinyModelFile(bad));
  EXPECT_NE(std::string(Read().status().message()).find("finite"), std::string::npos);
}

// One tensor per file, in bfloat16, joined by an index.
TEST_F(HuggingFaceFolder, ReadsShardsAndWidensBf16) {
  const ParameterTable table = MakeParameterTable(TinyShape());
  std::string map;
  for (size_t k = 0; k < table.parameters.size(); ++k) {
    const Parameter& p = table.parameters[k];
    std::string data, shape;
    for (uint64_t i = 0; i < p.elements; ++i) {
      uint32_t bits = std::bit_cast<uint32_t>(values_[p.offset + i]) & 0xffff0000u;
      values_[p.offset + i] = std::bit_cast<float>(bits);
      data.append(reinterpret_cast<const char*>(&bits) + 2, 2);
    }
    for (uint64_t n : p.shape) absl::StrAppend(&shape, shape.empty() ? "" : ",", n);
    const std::string name = absl::StrCat("model-", k, ".safetensors");
    Overwrite(*storage_, name,
              WithLength(absl::StrCat("{\"", p.name, "\":{\"dtype\":\"BF16\",\"shape\":[", shape,
                                      "],\"data_offsets\":[0,", data.size(), "]}}"),
                         data));
    absl::StrAppend(&map, map.empty() ? "" : ",", "\"", p.name, "\":\"", name, "\"");
  }
  const std::string index = absl::StrCat("{\"metadata\":{},\"weight_map\":{", map, "}}");
  Overwrite(*storage_, "model.safetensors.index.json", index);
  auto model = Read();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->parameters, values_);

  for (const char* bad : {"../model-3.safetensors", "/etc/passwd", "model-3.bin", "",
                          ".safetensors", "a\\\\b.safetensors"}) {
    Overwrite(*storage_, "model.safetensors.index.json",
              absl::StrReplaceAll(index, {{"model-3.safetensors", bad}}));
    EXPECT_FALSE(Read().ok()) << bad;
  }
  Overwrite(*storage_, "model.safetensors.index.json",
            absl::StrReplaceAll(index, {{"model-3.safetensors", "model-4.safetensors"}}));
  EXPECT_FALSE(Read().ok()) << "a tensor that is not in the named file";
}

}  // namespace
}  // namespace longhaul
