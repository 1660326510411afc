#include "transport/frame.h"

#include <zmq.h>

#include "common/check.h"

namespace longhaul {

namespace {

static_assert(sizeof(zmq_msg_t) == 64 && alignof(zmq_msg_t) <= 8);

zmq_msg_t* Message(unsigned char* storage) { return reinterpret_cast<zmq_msg_t*>(storage); }

void FreeString(void* /*data*/, void* hint) { delete static_cast<std::string*>(hint); }

}  // namespace

Frame::Frame() { zmq_msg_init(Message(storage_)); }

Frame::Frame(std::string bytes) {
  auto* owned = new std::string(std::move(bytes));
  const int rc =
      zmq_msg_init_data(Message(storage_), owned->data(), owned->size(), FreeString, owned);
  LONGHAUL_CHECK(rc == 0, "no memory for a frame");
}

Frame::Frame(Frame&& other) noexcept : Frame() {
  zmq_msg_move(Message(storage_), Message(other.storage_));
}

Frame& Frame::operator=(Frame&& other) noexcept {
  if (this != &other) zmq_msg_move(Message(storage_), Message(other.storage_));
  return *this;
}

Frame::~Frame() { zmq_msg_close(Message(storage_)); }

ByteSpan Frame::bytes() const {
  auto* message = Message(const_cast<unsigned char*>(storage_));
  return {static_cast<const std::byte*>(zmq_msg_data(message)), zmq_msg_size(message)};
}

std::string Frame::ToString() const {
  const ByteSpan b = bytes();
  return std::string(reinterpret_cast<const char*>(b.data()), b.size());
}

uint64_t TotalBytes(const std::vector<Frame>& frames) {
  uint64_t total = 0;
  for (const Frame& frame : frames) total += frame.size();
  return total;
}

}  // namespace longhaul
