#include "pcn/rules/doctor.h"

#include <gtest/gtest.h>

namespace longhaul::pcn {
namespace {

DoctorRequest Small() {
  DoctorRequest request;
  request.sizes = {784, 16, 16, 16, 10};
  request.rows = 16;
  return request;
}

bool Advises(const Diagnosis& d, const std::string& word) {
  for (const std::string& advice : d.advice) {
    if (advice.find(word) != std::string::npos) return true;
  }
  return false;
}

TEST(Doctor, ExactCreditIsHealthy) {
  DoctorRequest request = Small();
  request.rule = "zil";
  const auto d = Diagnose(request);
  ASSERT_TRUE(d.ok()) << d.status();
  for (const LayerDiagnosis& layer : d->layers) {
    EXPECT_TRUE(layer.reached);
    EXPECT_NEAR(layer.credit_cosine, 1, 1e-12);
    EXPECT_NEAR(layer.size_ratio, 1, 1e-12);
  }
  EXPECT_TRUE(d->advice.empty());
  EXPECT_EQ(d->suggested_sweeps, 1u);
}

TEST(Doctor, SaysWhereCreditDidNotArrive) {
  DoctorRequest request = Small();
  request.sweeps = 2;
  const auto d = Diagnose(request);
  ASSERT_TRUE(d.ok());
  EXPECT_FALSE(d->layers[0].reached);
  EXPECT_TRUE(d->layers[1].reached);
  EXPECT_TRUE(Advises(*d, "lowest 1 layers"));
  EXPECT_EQ(d->suggested_sweeps, 3u);
  EXPECT_TRUE(Advises(*d, "sweeps = 3"));
  double shares = 0;
  for (const LayerDiagnosis& layer : d->layers) shares += layer.energy_share;
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_NE(FormatDiagnosis(request, *d).find("lambda_max"), std::string::npos);
}

TEST(Doctor, WarnsOfTooLargeARate) {
  DoctorRequest request = Small();
  request.rate = 3;
  const auto d = Diagnose(request);
  ASSERT_TRUE(d.ok());
  EXPECT_GT(d->rate_times_lambda, 2);
  EXPECT_TRUE(Advises(*d, "above 1"));
  EXPECT_NEAR(d->suggested_rate * d->lambda_max, 0.5, 1e-9);
}

TEST(Doctor, RefusesByName) {
  auto refused = [](DoctorRequest request) {
    return std::string(Diagnose(request).status().message());
  };
  DoctorRequest request = Small();
  request.rule = "magic";
  EXPECT_NE(refused(request).find("magic"), std::string::npos);
  request = Small();
  request.activation = "sine";
  EXPECT_NE(refused(request).find("sine"), std::string::npos);
  request = Small();
  request.sizes = {100, 10};
  EXPECT_NE(refused(request).find("sizes"), std::string::npos);
  request = Small();
  request.rows = 0;
  EXPECT_NE(refused(request).find("rows"), std::string::npos);
  request = Small();
  request.sweeps = 0;
  EXPECT_NE(refused(request).find("sweeps"), std::string::npos);
}

}  // namespace
}  // namespace longhaul::pcn
