#include "NeuroHorizonSink.h"

#include "NeuroHorizonSinkEditor.h"

NeuroHorizonSink::NeuroHorizonSink() : GenericProcessor("NeuroHorizon") {}

void NeuroHorizonSink::registerParameters() {
  addStringParameter(Parameter::PROCESSOR_SCOPE, "address", "Address",
                     "Where the runtime is: shm:NAME or udp:HOST:PORT", "udp:127.0.0.1:5580", true);
  addIntParameter(Parameter::PROCESSOR_SCOPE, "device_id", "Device",
                  "Device number of the first stream; the next have the next", 1, 0, 65535, true);
}

AudioProcessorEditor *NeuroHorizonSink::createEditor() {
  editor = std::make_unique<NeuroHorizonSinkEditor>(this);
  return editor.get();
}

bool NeuroHorizonSink::startAcquisition() {
  std::vector<neurohorizon::Stream> streams;
  for (const auto *stream : getDataStreams()) {
    if ((*stream)["enable_stream"]) {
      streams.push_back(
          {stream->getStreamId(), static_cast<double>(stream->getSampleRate()), stream->getSpikeChannels().size() > 0});
    }
  }
  const auto address = getParameter("address")->getValue().toString().toStdString();
  const int device_id = getParameter("device_id")->getValue();
  const auto problem = bridge.open(address, static_cast<std::uint32_t>(device_id), streams);
  if (!problem.empty()) {
    CoreServices::sendStatusMessage(String("NeuroHorizon: " + problem));
  }
  // A recording goes on without a runtime; what it misses is counted.
  return true;
}

bool NeuroHorizonSink::stopAcquisition() {
  CoreServices::sendStatusMessage(String("NeuroHorizon: " + bridge.status()));
  bridge.close();
  return true;
}

void NeuroHorizonSink::process(AudioBuffer<float> &) {
  checkForEvents(true);
  for (const auto &device : bridge.devices()) {
    const auto stream = device->stream_id();
    device->end_block(getFirstSampleNumberForBlock(stream), getNumSamplesInBlock(stream));
  }
}

void NeuroHorizonSink::handleSpike(SpikePtr spike) {
  if (auto *device = bridge.find(spike->getStreamId())) {
    device->spike({spike->getSampleNumber(), spike->getChannelInfo()->getLocalIndex(), spike->getSortedId()});
  }
}

void NeuroHorizonSink::handleTTLEvent(TTLEventPtr event) {
  if (auto *device = bridge.find(event->getStreamId())) {
    device->ttl(
        {event->getSampleNumber(), event->getChannelInfo()->getLocalIndex(), event->getLine(), event->getState()});
  }
}

String NeuroHorizonSink::status() const { return String(bridge.status()); }
