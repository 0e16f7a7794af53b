// What the plugin does, without the GUI: a device of the C interface for each data stream.
#pragma once

#include <neurohorizon_bridge.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace neurohorizon {

/// A data stream of the GUI: what is sampled by one clock.
struct Stream {
  /// The GUI's number of it.
  std::uint16_t id;
  /// Samples a second.
  double sample_rate_hz;
  /// Whether spikes are detected on it.
  bool has_electrodes;
};

/// A spike, as the GUI knows it.
struct Spike {
  /// Sample of its peak.
  std::int64_t sample;
  /// Index of the electrode within its stream.
  int electrode;
  /// The sorter's number of the unit; 0: not sorted.
  std::uint32_t sorted_id;
};

/// A change of a TTL line, as the GUI knows it.
struct TtlChange {
  /// Sample at which it changed.
  std::int64_t sample;
  /// Index of the event channel within its stream.
  int event_channel;
  /// Line of that channel.
  std::uint8_t line;
  /// Whether it is high from now on.
  bool high;
};

/// What became of the events since the acquisition started.
struct Counts {
  /// Spikes handed over.
  std::uint64_t spikes = 0;
  /// TTL changes handed over.
  std::uint64_t ttl_changes = 0;
  /// Spikes and TTL changes that nobody took.
  std::uint64_t lost = 0;
  /// Of the spikes: those whose unit is sent as 255, since its number is greater.
  std::uint64_t units_beyond = 0;
};

/// A stream and the device that stands for it. Pushed to on one thread; counted on any.
class StreamDevice {
public:
  /// Opens the device; without one, everything is lost and counted.
  StreamDevice(const Stream &stream, const std::string &address, std::uint32_t device_id);

  /// Which stream.
  std::uint16_t stream_id() const noexcept { return stream.id; }
  /// The device; null where it could not be opened.
  const nh_device *handle() const noexcept { return device.get(); }

  /// Keeps a spike until the block ends or there are enough of them. Never allocates, waits or throws.
  void spike(const Spike &spike) noexcept;
  /// Hands a TTL change over. Never allocates, waits or throws.
  void ttl(const TtlChange &change) noexcept;
  /// Hands over what is kept, and the time that has been reached. Never allocates, waits or throws.
  void end_block(std::int64_t first_sample, std::uint32_t samples) noexcept;
  /// Adds this stream's counts.
  void add_to(Counts &counts) const noexcept;

private:
  struct Close {
    void operator()(nh_device *opened) const noexcept { nh_close(opened); }
  };

  void hand_over() noexcept;

  const Stream stream;
  const std::unique_ptr<nh_device, Close> device;
  std::array<nh_spike, 512> kept{};
  std::size_t kept_count = 0;
  std::atomic<std::uint64_t> spikes{0}, ttl_changes{0}, lost{0}, units_beyond{0};
};

/// All streams of an acquisition.
class Bridge {
public:
  /// Opens a device for each stream, their clocks at their start. Says why one could not be opened; empty: all are
  /// open.
  std::string open(const std::string &address, std::uint32_t device_id, const std::vector<Stream> &streams);
  /// Closes them. The counts stay until the next `open`.
  void close();

  /// The device of this stream; null where it is not sent. Never allocates, waits or throws.
  StreamDevice *find(std::uint16_t stream_id) noexcept;
  /// Every stream's device.
  const std::vector<std::unique_ptr<StreamDevice>> &devices() const noexcept { return opened; }

  /// What became of the events so far.
  Counts counts() const noexcept;
  /// The same, and whether a runtime is there, in words. It makes a system call: not for the acquisition's callback.
  std::string status() const;

private:
  std::vector<std::unique_ptr<StreamDevice>> opened;
  Counts closed;
  std::string problem;
};

/// Where the device of the stream at this position (from 0) is: over shared memory each has a link of its own.
std::string address_of(const std::string &address, std::size_t position);

} // namespace neurohorizon
