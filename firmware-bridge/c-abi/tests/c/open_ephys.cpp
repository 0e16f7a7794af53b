// Plays the Open Ephys GUI to the plugin: loads it, adds it to a signal chain and acquires. The arguments are the
// plugin's file, the address and what to play: "streams" or "flood". What it plays, tests/plugin.rs knows. Prints what
// a user would see.
#include "allocations.h"

#include <PluginInfo.h>
#include <ProcessorHeaders.h>

#include <cstdio>
#include <dlfcn.h>
#include <string>

namespace {

constexpr uint16 PROBE = 10'000, AUX = 10'007, DISABLED = 10'009;

const SpikeChannel electrodes[] = {SpikeChannel(0), SpikeChannel(1), SpikeChannel(2)};
const EventChannel event_channels[] = {EventChannel(0), EventChannel(1)};

class Gui {
public:
  Gui(GenericProcessor &plugin, const char *address) : processor(plugin) {
    processor.registerParameters();
    processor.getParameter("address")->standInValue = var(String(address));
    processor.getParameter("device_id")->standInValue = var(40);
    processor.createEditor();
    processor.standInStreams.push_back(std::make_unique<DataStream>(PROBE, 30'000.0F, 3, true));
    processor.standInStreams.push_back(std::make_unique<DataStream>(DISABLED, 20'000.0F, 1, false));
    processor.standInStreams.push_back(std::make_unique<DataStream>(AUX, 2'500.4F, 0, true));
  }

  void start() {
    if (!processor.startAcquisition()) {
      std::printf("the acquisition was refused\n");
    }
  }

  void stop() {
    Timer::standInTick();
    show_panel();
    processor.stopAcquisition();
    for (const std::string &message : standInMessages()) {
      std::printf("message: %s\n", message.c_str());
    }
    standInMessages().clear();
  }

  void spike(uint16 stream, int64 sample, int electrode, uint16 unit) {
    processor.standInEvents.push_back(std::make_unique<Spike>(stream, sample, &electrodes[electrode], unit));
  }

  void ttl(uint16 stream, int64 sample, int channel, uint8 line, bool high) {
    processor.standInEvents.push_back(std::make_unique<TTLEvent>(stream, sample, &event_channels[channel], line, high));
  }

  void block(int64 probe_first, uint32 probe_samples, int64 aux_first, uint32 aux_samples) {
    processor.standInBlocks = {
        {PROBE, {probe_first, probe_samples}}, {AUX, {aux_first, aux_samples}}, {DISABLED, {0, 400}}};
    AudioBuffer<float> buffer;
    in_callback = true;
    processor.process(buffer);
    in_callback = false;
  }

private:
  void show_panel() const {
    for (const Component *child : processor.editor->standInChildren) {
      if (const auto *label = dynamic_cast<const Label *>(child)) {
        std::printf("panel: %s\n", label->standInText.toStdString().c_str());
      }
    }
  }

  GenericProcessor &processor;
};

/// Two acquisitions: twenty blocks of all that there is, then one of nearly nothing.
void play_streams(Gui &gui) {
  gui.start();
  int64 probe = 0, aux = 0;
  for (int block = 0; block < 20; block++) {
    const uint32 samples = block == 12 ? 0 : 640;
    // More than the plugin keeps at once in one block, none in others.
    const int count = block == 4 ? 1200 : block % 3 == 0 && samples > 0 ? 5 : 0;
    for (int i = 0; i < count; i++) {
      gui.spike(PROBE, probe + i * 640 / count, i % 3, static_cast<uint16>(i % 4));
    }
    if (block == 1) {
      gui.spike(PROBE, probe - 50, 1, 2); // across the two blocks
      gui.spike(PROBE, probe, 0, 300);
      gui.spike(DISABLED, probe, 0, 1);
      gui.ttl(DISABLED, probe, 0, 1, true);
    }
    if (block == 5 || block == 8) {
      gui.ttl(PROBE, probe + 7, 0, 3, block == 5);
    }
    if (block == 9) {
      gui.ttl(PROBE, probe + 8, 1, 1, true);
      gui.ttl(AUX, aux + 52, 0, 0, true);
    }
    gui.block(probe, samples, aux, 53);
    probe += samples;
    aux += 53;
  }
  gui.stop();
  gui.start();
  gui.spike(PROBE, -3, 0, 1);
  gui.block(0, 640, 0, 53);
  gui.stop();
}

/// More than a link holds.
void play_flood(Gui &gui) {
  gui.start();
  for (int block = 0; block < 40; block++) {
    for (int i = 0; i < 5000; i++) {
      gui.spike(PROBE, block * 640 + i / 8, i % 3, 1);
    }
    gui.ttl(PROBE, block * 640, 0, 0, block % 2 == 0);
    gui.block(block * 640, 640, block * 53, 53);
  }
  gui.stop();
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    return 2;
  }
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::printf("%s\n", dlerror());
    return 1;
  }
  const auto get_lib_info = reinterpret_cast<void (*)(Plugin::LibraryInfo *)>(dlsym(library, "getLibInfo"));
  const auto get_plugin_info = reinterpret_cast<int (*)(int, Plugin::PluginInfo *)>(dlsym(library, "getPluginInfo"));
  Plugin::LibraryInfo library_info{};
  get_lib_info(&library_info);
  Plugin::PluginInfo info{};
  const int first = get_plugin_info(0, &info), second = get_plugin_info(1, &info);
  std::printf("library %s %s, API %d, %d plugin: %d %d\n", library_info.name, library_info.libVersion,
              library_info.apiVersion, library_info.numPlugins, first, second);
  std::printf("plugin %s, type %d, processor %d\n", info.processor.name, info.type, info.processor.type);

  const std::unique_ptr<GenericProcessor> processor(info.processor.creator());
  Gui gui(*processor, argv[2]);
  std::string(argv[3]) == "streams" ? play_streams(gui) : play_flood(gui);
  std::printf("%lu allocations in the callback\n", allocations);
  return 0;
}
