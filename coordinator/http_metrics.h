// The coordinator's numbers for Prometheus. Thread-safe. prometheus-cpp stays behind this header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "coordinator/http_status.h"
#include "proto/messages.h"

namespace longhaul {

// "not enrolled", ...: for labels and logs.
std::string RefusalName(RefusalCode code);

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void RoundCommitted();
  void RoundAborted();
  void Ignored();  // a message that was not acted upon
  void Refused(RefusalCode code);
  void AddBytesIn(uint64_t bytes);  // from workers, all sockets
  void AddBytesOut(uint64_t bytes);
  void SetWorkersLive(uint64_t workers);
  void SetTokens(uint64_t tokens);           // trained into the committed model
  void SetLoss(double loss);                 // of the last committed round
  void SetRound(uint64_t round);             // committed so far
  void SetSyncSeconds(double seconds);       // of the last committed round
  void SetComputingPercent(double percent);  // of the workers' time
  void SetPlan(const PlanView& plan);
  void SetDataBytesOut(uint64_t bytes);  // of training data

  std::string Text() const;  // Prometheus text format 0.0.4

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longhaul
