/* A device in C: pushes spikes, samples and the time, waits for a prediction, prints what it saw.
 * Its one argument is the address. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <neurohorizon_bridge.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const broken[] = {"", "shm:", "shm:a/b", "udp:nowhere", "serial:1"};

static void nap(void) {
  struct timespec millisecond = {0, 1000000};
  nanosleep(&millisecond, NULL);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    return 2;
  }
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    if (nh_open(broken[i], 7, 30000) != NULL || strlen(nh_last_error()) == 0) {
      printf("\"%s\" was opened\n", broken[i]);
      return 1;
    }
  }
  if (nh_open(NULL, 7, 30000) != NULL || nh_open(argv[1], 7, 0) != NULL) {
    return 1;
  }
  nh_device *device = nh_open(argv[1], 7, 30000);
  if (device == NULL) {
    printf("%s\n", nh_last_error());
    return 1;
  }

  nh_spike spikes[400];
  for (size_t i = 0; i < 400; i++) {
    spikes[i] = (nh_spike){1000 + (uint64_t)i, (uint16_t)(i % 96), 1, 0};
  }
  const float hand[3] = {0.5f, -1.5f, 2.25f};
  nh_push_time(device, 900);
  size_t taken = nh_push_spikes(device, spikes, 400);
  bool sample = nh_push_sample(device, 1400, NH_BEHAVIOUR, 2, hand, 3);
  bool event = nh_push_sample(device, 1401, NH_STIMULUS, 0, NULL, 0);
  bool odd = nh_push_sample(device, 1402, 9, 0, hand, 3);
  nh_push_time(device, 1500);
  printf("taken %zu %d %d %d\n", taken, sample, event, odd);

  nh_prediction prediction;
  float values[6];
  int32_t polled = NH_POLL_NONE;
  for (int i = 0; i < 20000 && polled == NH_POLL_NONE; i++) {
    nap();
    polled = nh_poll_prediction(device, &prediction, values, 6);
  }
  if (polled != NH_POLL_NEW) {
    printf("polled %d\n", polled);
    return 1;
  }
  printf("prediction %llu of %u x %u:", (unsigned long long)prediction.sequence, prediction.bins, prediction.units);
  for (uint32_t i = 0; i < prediction.bins * prediction.units; i++) {
    printf(" %g", values[i]);
  }
  nh_statistics statistics;
  nh_read_statistics(device, &statistics);
  printf("\npackets %llu, refused %llu, host %u\n", (unsigned long long)statistics.packets,
         (unsigned long long)(statistics.spikes_refused + statistics.samples_refused), statistics.host);
  nh_close(device);

  /* What is nothing does nothing. */
  nh_close(NULL);
  nh_push_time(NULL, 0);
  nh_read_statistics(NULL, &statistics);
  return nh_push_spikes(NULL, spikes, 1) == 0 && nh_poll_prediction(NULL, &prediction, values, 6) == NH_POLL_INVALID ? 0
                                                                                                                     : 1;
}
