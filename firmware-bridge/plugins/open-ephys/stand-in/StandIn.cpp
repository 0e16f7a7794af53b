// A stand-in for what the Open Ephys GUI does behind its plugin API, for tests; not the GUI's. As in the GUI, it is in
// the program, and the plugin finds it there when it is loaded.
#include <ProcessorHeaders.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace {

std::vector<Timer *> &timers() {
  static std::vector<Timer *> all;
  return all;
}

[[noreturn]] void fail(const std::string &why) {
  std::fprintf(stderr, "stand-in: %s\n", why.c_str());
  std::abort();
}

} // namespace

Timer::Timer() = default;

Timer::~Timer() { stopTimer(); }

void Timer::startTimer(int) { timers().push_back(this); }

void Timer::stopTimer() { timers().erase(std::remove(timers().begin(), timers().end(), this), timers().end()); }

void Timer::standInTick() {
  for (Timer *timer : timers()) {
    timer->timerCallback();
  }
}

std::vector<std::string> &standInMessages() {
  static std::vector<std::string> all;
  return all;
}

void CoreServices::sendStatusMessage(const String &text) { standInMessages().push_back(text.toStdString()); }

DataStream::DataStream(uint16 id, float rate, int electrodes, bool enabled)
    : stream_id(id), sample_rate(rate), enabled_here(enabled) {
  for (int i = 0; i < electrodes; i++) {
    spike_channels.push_back(std::make_unique<SpikeChannel>(i));
  }
}

Array<SpikeChannel *> DataStream::getSpikeChannels() const {
  Array<SpikeChannel *> channels;
  for (const auto &channel : spike_channels) {
    channels.add(channel.get());
  }
  return channels;
}

var DataStream::operator[](String name) const {
  if (name.toStdString() != "enable_stream") {
    fail("a stream has no parameter " + name.toStdString());
  }
  return var(enabled_here ? 1 : 0);
}

void GenericEditor::addTextBoxParameterEditor(Parameter::ParameterScope, const String &name, int, int) {
  owner->getParameter(name);
}

GenericProcessor::GenericProcessor(const String &) {}

GenericProcessor::~GenericProcessor() = default;

Parameter *GenericProcessor::getParameter(const String &name) {
  const auto found = parameters.find(name.toStdString());
  if (found == parameters.end()) {
    fail("the processor has no parameter " + name.toStdString());
  }
  return found->second.get();
}

Array<const DataStream *> GenericProcessor::getDataStreams() const {
  Array<const DataStream *> streams;
  for (const auto &stream : standInStreams) {
    streams.add(stream.get());
  }
  return streams;
}

void GenericProcessor::addStringParameter(Parameter::ParameterScope, const String &name, const String &, const String &,
                                          String first, bool) {
  parameters[name.toStdString()] = std::make_unique<Parameter>(var(first));
}

void GenericProcessor::addIntParameter(Parameter::ParameterScope, const String &name, const String &, const String &,
                                       int first, int, int, bool) {
  parameters[name.toStdString()] = std::make_unique<Parameter>(var(first));
}

int GenericProcessor::checkForEvents(bool with_spikes) {
  for (auto &event : standInEvents) {
    if (dynamic_cast<TTLEvent *>(event.get()) != nullptr) {
      handleTTLEvent(TTLEventPtr(static_cast<TTLEvent *>(event.release())));
    } else if (with_spikes) {
      handleSpike(SpikePtr(static_cast<Spike *>(event.release())));
    }
  }
  standInEvents.clear();
  return 0;
}

int64 GenericProcessor::getFirstSampleNumberForBlock(uint16 stream) const {
  return standInBlocks.at(stream).first_sample;
}

uint32 GenericProcessor::getNumSamplesInBlock(uint16 stream) const { return standInBlocks.at(stream).samples; }
