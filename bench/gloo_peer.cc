// longhaul-gloo-peer RANK SIZE ADDRESS BYTES ROUNDS FOLDER: an all-reduce with gloo's ring, for
// comparison. Prints a JSON object per round.
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const int rank = std::atoi(argv[1]);
  const int size = std::atoi(argv[2]);
  gloo::transport::tcp::attr attributes;
  attributes.hostname = argv[3];
  auto store = gloo::rendezvous::FileStore(argv[6]);
  auto device = gloo::transport::tcp::CreateDevice(attributes);
  auto context = std::make_shared<gloo::rendezvous::Context>(rank, size);
  context->setTimeout(std::chrono::seconds(150));
  context->connectFullMesh(store, device);
  const size_t count = std::strtoull(argv[4], nullptr, 10) / sizeof(float);
  std::vector<float> input(count, 1.0f + static_cast<float>(rank)), output(count);
  for (int round = 0; round < std::atoi(argv[5]); ++round) {
    gloo::BarrierOptions barrier(context);
    gloo::barrier(barrier);
    const auto begin = std::chrono::steady_clock::now();
    gloo::AllreduceOptions options(context);
    options.setInput(input.data(), count);
    options.setOutput(output.data(), count);
    options.setReduceFunction(
        [](void* out, const void* a, const void* b, size_t n) { gloo::sum<float>(out, a, b, n); });
    gloo::allreduce(options);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("{\"seconds\": %.6f}\n", seconds);
  }
  return 0;
}
