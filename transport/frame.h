// One part of a message, as the socket layer holds it. Move-only owner of the bytes; nothing is
// copied between a received frame, our queues and a socket. Not thread-safe; may be handed from
// thread to thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace longhaul {

// Application frames per message; longer messages are dropped.
inline constexpr size_t kMaxFrames = 3;
// The largest payload of one frame, and what the sockets accept: CURVE and framing add bytes.
inline constexpr uint64_t kMaxFrameBytes = 1024 * 1024;
inline constexpr uint64_t kMaxSocketMessageBytes = kMaxFrameBytes + 64 * 1024;

class Frame {
 public:
  Frame();
  explicit Frame(std::string bytes);  // takes the bytes, no copy
  Frame(Frame&& other) noexcept;
  Frame& operator=(Frame&& other) noexcept;
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame();

  ByteSpan bytes() const;  // valid as long as this frame
  size_t size() const { return bytes().size(); }
  std::string ToString() const;

  void* zmq_message() { return storage_; }  // for transport/ only

 private:
  alignas(8) unsigned char storage_[64];  // a zmq_msg_t, kept out of this header
};

uint64_t TotalBytes(const std::vector<Frame>& frames);

}  // namespace longhaul
