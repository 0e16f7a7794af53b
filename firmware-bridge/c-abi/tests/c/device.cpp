// The same device in C++, with the handle owned, and pushing and polling on two threads.
#include <neurohorizon_bridge.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

struct Close {
  void operator()(nh_device *device) const { nh_close(device); }
};

int main(int argc, char **argv) {
  if (argc != 2) {
    return 2;
  }
  const std::unique_ptr<nh_device, Close> device{nh_open(argv[1], 7, 30000)};
  if (!device) {
    std::printf("%s\n", nh_last_error());
    return 1;
  }

  std::vector<nh_spike> spikes;
  for (std::uint64_t i = 0; i < 400; i++) {
    spikes.push_back({1000 + i, static_cast<std::uint16_t>(i % 96), 1, 0});
  }
  std::size_t taken = 0;
  bool sample = false, event = false, odd = true;
  std::thread pushing{[&] {
    const float hand[] = {0.5F, -1.5F, 2.25F};
    nh_push_time(device.get(), 900);
    taken = nh_push_spikes(device.get(), spikes.data(), spikes.size());
    sample = nh_push_sample(device.get(), 1400, NH_BEHAVIOUR, 2, hand, 3);
    event = nh_push_sample(device.get(), 1401, NH_STIMULUS, 0, nullptr, 0);
    odd = nh_push_sample(device.get(), 1402, 9, 0, hand, 3);
    nh_push_time(device.get(), 1500);
  }};

  nh_prediction prediction{};
  std::vector<float> values(6);
  auto polled = NH_POLL_NONE;
  for (int i = 0; i < 20000 && polled == NH_POLL_NONE; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    polled = nh_poll_prediction(device.get(), &prediction, values.data(), values.size());
  }
  pushing.join();
  std::printf("taken %zu %d %d %d\n", taken, sample, event, odd);
  if (polled != NH_POLL_NEW) {
    std::printf("polled %" PRId32 "\n", polled);
    return 1;
  }
  std::printf("prediction %" PRIu64 " of %" PRIu32 " x %" PRIu32 ":", prediction.sequence, prediction.bins,
              prediction.units);
  for (const float value : values) {
    std::printf(" %g", static_cast<double>(value));
  }
  nh_statistics statistics{};
  nh_read_statistics(device.get(), &statistics);
  std::printf("\npackets %" PRIu64 ", refused %" PRIu64 ", host %" PRIu32 "\n", statistics.packets,
              statistics.spikes_refused + statistics.samples_refused, statistics.host);
  return 0;
}
