// The processor: hands what the GUI knows of spikes and TTL lines to the bridge.
#pragma once

#include "Bridge.h"

#include <ProcessorHeaders.h>

/// A sink that sends spikes and TTL changes to a NeuroHorizon runtime.
class NeuroHorizonSink : public GenericProcessor {
public:
  NeuroHorizonSink();

  void registerParameters() override;
  AudioProcessorEditor *createEditor() override;

  /// Opens the devices: the streams' clocks start here.
  bool startAcquisition() override;
  bool stopAcquisition() override;

  void process(AudioBuffer<float> &buffer) override;
  void handleSpike(SpikePtr spike) override;
  void handleTTLEvent(TTLEventPtr event) override;

  /// What became of the events, in words. For the message thread.
  String status() const;

private:
  neurohorizon::Bridge bridge;
};
