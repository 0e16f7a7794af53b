// A stand-in for the Open Ephys GUI's header of this name, for tests; not the GUI's.
#pragma once

#include "EditorHeaders.h"

#include <map>
#include <memory>

namespace CoreServices {
void sendStatusMessage(const String &text);
}

/// What the GUI's users would have read, oldest first.
std::vector<std::string> &standInMessages();

class ChannelInfoObject {
public:
  explicit ChannelInfoObject(int index) : local_index(index) {}
  int getLocalIndex() const { return local_index; }

private:
  int local_index;
};

class SpikeChannel : public ChannelInfoObject {
  using ChannelInfoObject::ChannelInfoObject;
};

class EventChannel : public ChannelInfoObject {
  using ChannelInfoObject::ChannelInfoObject;
};

class DataStream {
public:
  DataStream(uint16 id, float rate, int electrodes, bool enabled);
  uint16 getStreamId() const { return stream_id; }
  float getSampleRate() const { return sample_rate; }
  Array<SpikeChannel *> getSpikeChannels() const;
  var operator[](String name) const;

private:
  uint16 stream_id;
  float sample_rate;
  std::vector<std::unique_ptr<SpikeChannel>> spike_channels;
  bool enabled_here;
};

class EventBase {
public:
  EventBase(uint16 stream, int64 sample) : stream_id(stream), sample_number(sample) {}
  virtual ~EventBase() = default;
  uint16 getStreamId() const { return stream_id; }
  int64 getSampleNumber() const { return sample_number; }

private:
  uint16 stream_id;
  int64 sample_number;
};

class Spike : public EventBase {
public:
  Spike(uint16 stream, int64 sample, const SpikeChannel *on, uint16 unit)
      : EventBase(stream, sample), channel(on), sorted_id(unit) {}
  const SpikeChannel *getChannelInfo() const { return channel; }
  uint16 getSortedId() const { return sorted_id; }

private:
  const SpikeChannel *channel;
  uint16 sorted_id;
};

class TTLEvent : public EventBase {
public:
  TTLEvent(uint16 stream, int64 sample, const EventChannel *on, uint8 line, bool high)
      : EventBase(stream, sample), channel(on), ttl_line(line), state(high) {}
  const EventChannel *getChannelInfo() const { return channel; }
  uint8 getLine() const { return ttl_line; }
  bool getState() const { return state; }

private:
  const EventChannel *channel;
  uint8 ttl_line;
  bool state;
};

using SpikePtr = std::unique_ptr<Spike>;
using TTLEventPtr = std::unique_ptr<TTLEvent>;

class GenericProcessor {
public:
  explicit GenericProcessor(const String &name);
  virtual ~GenericProcessor();

  virtual void registerParameters() {}
  virtual AudioProcessorEditor *createEditor() = 0;
  virtual bool startAcquisition() { return true; }
  virtual bool stopAcquisition() { return true; }
  virtual void process(AudioBuffer<float> &buffer) = 0;
  virtual void handleSpike(SpikePtr) {}
  virtual void handleTTLEvent(TTLEventPtr) {}

  Parameter *getParameter(const String &name);
  Array<const DataStream *> getDataStreams() const;

  std::unique_ptr<GenericEditor> editor;

  struct StandInBlock {
    int64 first_sample;
    uint32 samples;
  };
  std::vector<std::unique_ptr<DataStream>> standInStreams;
  std::map<uint16, StandInBlock> standInBlocks;
  /// The events of the block, in the order in which they are handed over.
  std::vector<std::unique_ptr<EventBase>> standInEvents;

protected:
  void addStringParameter(Parameter::ParameterScope scope, const String &name, const String &shown,
                          const String &description, String first, bool not_while_acquiring = false);
  void addIntParameter(Parameter::ParameterScope scope, const String &name, const String &shown,
                       const String &description, int first, int least, int most, bool not_while_acquiring = false);

  int checkForEvents(bool with_spikes = false);
  int64 getFirstSampleNumberForBlock(uint16 stream) const;
  uint32 getNumSamplesInBlock(uint16 stream) const;

private:
  std::map<std::string, std::unique_ptr<Parameter>> parameters;
};
