#include "Bridge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace neurohorizon {

namespace {

/// Spike detectors look behind the end of a block before they hand over a spike near to it, which then comes with the
/// next block: the GUI's own by up to 50 samples. So much is left between a block's end and the time that is said.
constexpr std::int64_t LATE_SAMPLES = 100;
/// The C interface's number of a unit has 8 bits: this one stands for all greater ones.
constexpr std::uint32_t LAST_UNIT = std::numeric_limits<std::uint8_t>::max();
/// Lines of an event channel.
constexpr int LINES = 256;

/// Ticks are samples. What is before the start, such as a peak before the first block, is of the start.
std::uint64_t tick_of(std::int64_t sample) noexcept {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(sample, 0));
}

void add(std::atomic<std::uint64_t> &counter, std::uint64_t number) noexcept {
  counter.fetch_add(number, std::memory_order_relaxed);
}

/// The whole rate nearest to the stream's; 0, which is no device's, where it has none.
std::uint32_t tick_rate(double sample_rate_hz) noexcept {
  const bool fits = sample_rate_hz > 0 && sample_rate_hz < std::numeric_limits<std::uint32_t>::max();
  return fits ? static_cast<std::uint32_t>(std::lround(sample_rate_hz)) : 0;
}

} // namespace

std::string address_of(const std::string &address, std::size_t position) {
  const bool own_link = position > 0 && address.rfind("shm:", 0) == 0;
  return own_link ? address + "-" + std::to_string(position + 1) : address;
}

StreamDevice::StreamDevice(const Stream &sampled, const std::string &address, std::uint32_t device_id)
    : stream(sampled), device(nh_open(address.c_str(), device_id, tick_rate(sampled.sample_rate_hz))) {}

void StreamDevice::spike(const Spike &spike) noexcept {
  if (spike.electrode < 0 || spike.electrode > std::numeric_limits<std::uint16_t>::max()) {
    return add(lost, 1);
  }
  if (spike.sorted_id > LAST_UNIT) {
    add(units_beyond, 1);
  }
  const auto unit = std::min(spike.sorted_id, LAST_UNIT);
  kept[kept_count++] = {tick_of(spike.sample), static_cast<std::uint16_t>(spike.electrode),
                        static_cast<std::uint8_t>(unit), 0};
  if (kept_count == kept.size()) {
    hand_over();
  }
}

void StreamDevice::ttl(const TtlChange &change) noexcept {
  const int series = change.event_channel * LINES + change.line;
  if (change.event_channel < 0 || series > std::numeric_limits<std::uint16_t>::max()) {
    return add(lost, 1);
  }
  const float state = change.high ? 1.0F : 0.0F;
  const bool taken =
      nh_push_sample(device.get(), tick_of(change.sample), NH_STIMULUS, static_cast<std::uint16_t>(series), &state, 1);
  add(taken ? ttl_changes : lost, 1);
}

void StreamDevice::end_block(std::int64_t first_sample, std::uint32_t samples) noexcept {
  hand_over();
  if (samples > 0) {
    const std::int64_t end = first_sample + static_cast<std::int64_t>(samples);
    nh_push_time(device.get(), tick_of(stream.has_electrodes ? end - LATE_SAMPLES : end));
  }
}

void StreamDevice::hand_over() noexcept {
  if (kept_count == 0) {
    return;
  }
  const std::size_t taken = nh_push_spikes(device.get(), kept.data(), kept_count);
  add(spikes, taken);
  add(lost, kept_count - taken);
  kept_count = 0;
}

void StreamDevice::add_to(Counts &counts) const noexcept {
  counts.spikes += spikes.load(std::memory_order_relaxed);
  counts.ttl_changes += ttl_changes.load(std::memory_order_relaxed);
  counts.lost += lost.load(std::memory_order_relaxed);
  counts.units_beyond += units_beyond.load(std::memory_order_relaxed);
}

std::string Bridge::open(const std::string &address, std::uint32_t device_id, const std::vector<Stream> &streams) {
  opened.clear();
  closed = {};
  problem.clear();
  for (const Stream &stream : streams) {
    const auto position = opened.size();
    opened.push_back(std::make_unique<StreamDevice>(stream, address_of(address, position),
                                                    device_id + static_cast<std::uint32_t>(position)));
    if (opened.back()->handle() == nullptr && problem.empty()) {
      problem = nh_last_error();
    }
  }
  return problem;
}

void Bridge::close() {
  closed = counts();
  opened.clear();
}

StreamDevice *Bridge::find(std::uint16_t stream_id) noexcept {
  for (const auto &device : opened) {
    if (device->stream_id() == stream_id) {
      return device.get();
    }
  }
  return nullptr;
}

Counts Bridge::counts() const noexcept {
  Counts sum = closed;
  for (const auto &device : opened) {
    device->add_to(sum);
  }
  return sum;
}

std::string Bridge::status() const {
  const Counts sum = counts();
  std::string text = std::to_string(sum.spikes) + " spikes, " + std::to_string(sum.ttl_changes) + " TTL changes, " +
                     std::to_string(sum.lost) + " lost";
  if (sum.units_beyond > 0) {
    text += ", " + std::to_string(sum.units_beyond) + " of units beyond " + std::to_string(LAST_UNIT);
  }
  std::size_t absent = 0;
  for (const auto &device : opened) {
    nh_statistics statistics{};
    nh_read_statistics(device->handle(), &statistics);
    absent += statistics.host == NH_HOST_ABSENT;
  }
  if (absent > 0) {
    text += "; no runtime on " + std::to_string(absent) + " of " + std::to_string(opened.size()) + " links";
  }
  return problem.empty() ? text : text + "; " + problem;
}

} // namespace neurohorizon
