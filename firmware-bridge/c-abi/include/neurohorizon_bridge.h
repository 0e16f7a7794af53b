#ifndef NEUROHORIZON_BRIDGE_H
#define NEUROHORIZON_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Series of what the subject does: a hand's position, a lick.
#define NH_BEHAVIOUR 0

// Series of what is done to the subject: a stimulus' parameters, a TTL line.
#define NH_STIMULUS 1

// `nh_poll_prediction`: nothing new has come.
#define NH_POLL_NONE 0

// `nh_poll_prediction`: a new prediction has been written.
#define NH_POLL_NEW 1

// `nh_poll_prediction`: a new prediction has come, but its values do not fit; only its head has been written.
#define NH_POLL_TOO_SHORT 2

// `nh_poll_prediction`: a pointer is null, or another thread is polling.
#define NH_POLL_INVALID -1

// `nh_statistics`: over UDP nobody can say.
#define NH_HOST_UNKNOWN 0

// `nh_statistics`: no runtime is at the other end.
#define NH_HOST_ABSENT 1

// `nh_statistics`: a runtime is at the other end.
#define NH_HOST_ALIVE 2

// A device that is open. Opaque to C.
//
// One thread may push while another polls. Two that push at once do not wait for each other: the second is refused.
typedef struct nh_device nh_device;

// A spike.
typedef struct nh_spike {
  // Device time, ticks since the device started.
  uint64_t tick;
  // Electrode.
  uint16_t channel;
  // Sorted unit on that electrode; 0: unsorted.
  uint8_t unit;
  // For the device's own use.
  uint8_t flags;
} nh_spike;

// The head of a prediction, as the runtime publishes it. Times of the host are its CLOCK_MONOTONIC, in ns. Counts are of
// what has happened since the last prediction.
typedef struct nh_prediction {
  // "NHZP".
  uint8_t magic[4];
  // Of the layout: 1.
  uint16_t version;
  // 112.
  uint16_t header_len;
  // What is to be known of this prediction, a bit each: 0 late, 1 spikes refused, 2 spikes too late for their bin, 3 units
  // unknown to the model, 4 too many spikes for the model, 5 the last prediction again, 6 mean rates, 7 not decoded, 8 the
  // model failed, 9 an earlier one was lost, 10 the GPU failed, 11 units still being identified, 12 samples lost, 13 samples too late,
  // 14 a modality silent, 15 a device away, 16 spikes lost before the runtime, 17 a device's clock began anew, 18 something was
  // not recorded, 19 fewer bins than usual, 20 mean rates because decoding was stuck, 21 a unit's rate at its limit, 22 stopped: mean
  // rates and zeros until somebody releases it.
  uint32_t flags;
  // 1: float32, ln(expected spikes in the bin).
  uint32_t dtype;
  // Differs at every start of the runtime.
  uint64_t epoch;
  // Counts the predictions; a gap is a lost one.
  uint64_t sequence;
  // The bin that closed; the first predicted bin is the next one.
  int64_t bin_index;
  // Device time of that bin's end, ns.
  int64_t bin_end_ns;
  // When spikes were taken in last.
  int64_t ingest_ns;
  // When decoding began.
  int64_t decode_start_ns;
  // When decoding ended.
  int64_t decode_end_ns;
  // When this was published.
  int64_t publish_ns;
  // Changes when the model does.
  uint64_t model_hash;
  // Spikes binned.
  uint32_t spikes_in;
  // Spikes refused.
  uint32_t spikes_refused;
  // Spikes after their bin had closed.
  uint32_t spikes_late;
  // Spikes of units unknown to the model.
  uint32_t spikes_unknown;
  // Bins predicted.
  uint32_t bins;
  // Units predicted. The values are `bins` rows of `units`.
  uint32_t units;
} nh_prediction;

// What has passed a device since it was opened.
typedef struct nh_statistics {
  // Packets handed to the link.
  uint64_t packets;
  // Spikes taken.
  uint64_t spikes;
  // Spikes refused: the link was full, or two threads pushed at once. The runtime is told with the next packet.
  uint64_t spikes_refused;
  // Samples taken.
  uint64_t samples;
  // Samples refused.
  uint64_t samples_refused;
  // Calls that found another thread in the same function.
  uint64_t busy;
  // Predictions handed out.
  uint64_t predictions;
  // Predictions passed over because a newer one had come, or because they did not fit.
  uint64_t predictions_passed;
  // What came back and was no prediction.
  uint64_t predictions_damaged;
  // Bytes that wait for the runtime; 0 over UDP.
  uint64_t waiting;
  // How many times a runtime has opened the link; 0 over UDP.
  uint64_t host_opened;
  // NH_HOST_UNKNOWN, NH_HOST_ABSENT or NH_HOST_ALIVE.
  uint32_t host;
} nh_statistics;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a device: "shm:NAME" to a runtime on this machine (Linux), "udp:HOST:PORT" to another one. `tick_rate_hz` is the
// rate of the clock that spikes are stamped with. Returns NULL where it fails; `nh_last_error` says why.
//
// A shared-memory link can be opened before the runtime: what is pushed until then is kept while there is room, and then
// passed over by the runtime as too old.
//
// # Safety
// `address` is a text that ends with a zero, or NULL.
struct nh_device *nh_open(const char *address,
                          uint32_t device_id,
                          uint32_t tick_rate_hz);

// Why the last `nh_open` on this thread failed. The text stays until the next one.
const char *nh_last_error(void);

// Pushes `count` spikes, in any order, and returns how many were taken. The others are refused and counted: the link is
// full, or another thread is pushing. Never waits, allocates or unwinds.
//
// # Safety
// `device` comes from `nh_open` and is not closed; `spikes` points to `count` spikes.
size_t nh_push_spikes(const struct nh_device *device, const struct nh_spike *spikes, size_t count);

// Pushes a sample of a series: `kind` is NH_BEHAVIOUR or NH_STIMULUS, `series` its number among those of its kind, `channels`
// (0 to 255) how many values it has; NaN where a channel has none. Returns whether it was taken. Never waits, allocates or
// unwinds.
//
// # Safety
// `device` comes from `nh_open` and is not closed; `values` points to `channels` numbers.
bool nh_push_sample(const struct nh_device *device,
                    uint64_t tick,
                    uint32_t kind,
                    uint16_t series,
                    const float *values,
                    size_t channels);

// Says that the clock has reached `tick` and that nothing earlier will come, so that the runtime can close its bins. To be
// called every 5 ms or more often, with and without spikes: silence is data. Without it, the earliest spike of each call is
// taken to say the same. Returns whether the runtime will hear of it. Never waits, allocates or unwinds.
//
// # Safety
// `device` comes from `nh_open` and is not closed.
bool nh_push_time(const struct nh_device *device,
                  uint64_t tick);

// Writes the newest prediction that has come since the last call to `prediction`, and its `bins` rows of `units` numbers to
// `values`, which has room for `capacity` of them. Older ones are passed over and counted. Returns NH_POLL_NEW, NH_POLL_NONE,
// NH_POLL_TOO_SHORT or NH_POLL_INVALID. Never waits, allocates or unwinds.
//
// # Safety
// `device` comes from `nh_open` and is not closed; `prediction` points to a prediction, `values` to `capacity` numbers.
int32_t nh_poll_prediction(const struct nh_device *device,
                           struct nh_prediction *prediction,
                           float *values,
                           size_t capacity);

// Writes the counts since `nh_open`, and whether a runtime is at the other end. It makes a system call: not for a
// real-time thread.
//
// # Safety
// `device` comes from `nh_open` and is not closed; `statistics` points to statistics.
void nh_read_statistics(const struct nh_device *device, struct nh_statistics *statistics);

// Closes a device; no other thread may be using it. NULL is closed already.
//
// # Safety
// `device` comes from `nh_open` and is not closed, or is NULL.
void nh_close(struct nh_device *device);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEUROHORIZON_BRIDGE_H */
