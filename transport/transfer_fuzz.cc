// libFuzzer target: a receiver and a sender of one small object, driven by whatever comes. Neither
// crashes, credit is never exceeded on either side, and what is complete has the announced size.
#include <string>
#include <vector>

#include "common/check.h"
#include "transport/transfer.h"

namespace {

using namespace longhaul;

constexpr uint32_t kChunks = 12;
constexpr uint64_t kTotalBytes = 600;

void Receive(ByteReader& r, ChunkReceiver& receiver) {
  static const std::string payload(kTotalBytes + 8, 'p');
  const uint64_t attempt = r.U8() % 4;
  const uint32_t chunk = r.U8() % (kChunks + 2);
  const uint64_t bytes = r.U16() % payload.size();
  const uint64_t held = receiver.bytes_held();
  const auto verdict =
      receiver.Accept(attempt, chunk, AsBytes(payload).first(static_cast<size_t>(bytes)));
  const bool is_new = verdict == ChunkReceiver::Verdict::kNew;
  LONGHAUL_CHECK(receiver.bytes_held() == held + (is_new ? bytes : 0), "bytes are miscounted");
  LONGHAUL_CHECK(receiver.bytes_held() <= kTotalBytes, "more than the object holds");
}

void Send(ByteReader& r, Outgoing& outgoing) {
  std::vector<ChunkSpan> missing;
  const uint64_t attempt = r.U8() % 4;
  const uint64_t granted = r.U16();
  for (int runs = r.U8() % 4; runs > 0; --runs) {
    missing.push_back({r.U8() % (kChunks + 2u), r.U8() % (kChunks + 2u)});
  }
  (void)outgoing.OnFetch(attempt, missing, granted);
  for (int i = 0; i < 3 && outgoing.Next(); ++i) outgoing.MarkSent();
  LONGHAUL_CHECK(outgoing.sent_bytes() <= outgoing.granted_bytes(), "a sender without credit");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteReader r({reinterpret_cast<const std::byte*>(data), size});
  auto receiver = ChunkReceiver::Create(
      {.chunks = kChunks, .total_bytes = kTotalBytes, .window_bytes = uint64_t{r.U16()}});
  Outgoing outgoing(std::make_shared<std::vector<uint32_t>>(kChunks, 50u));
  while (r.ok()) {
    switch (r.U8() % 4) {
      case 0:
        receiver->StartAttempt();
        break;
      case 1:
        receiver->NoteGrantSent();
        break;
      case 2:
        Send(r, outgoing);
        break;
      default:
        Receive(r, *receiver);
    }
  }
  if (receiver->complete()) {
    LONGHAUL_CHECK(receiver->bytes_held() == kTotalBytes, "complete, but of another size");
  }
  return 0;
}
