// What the GUI asks a plugin library for.
#include "NeuroHorizonSink.h"

#include <PluginInfo.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

extern "C" EXPORT void getLibInfo(Plugin::LibraryInfo *info) {
  info->apiVersion = PLUGIN_API_VER;
  info->name = "NeuroHorizon";
  info->libVersion = "0.1.0";
  info->numPlugins = 1;
}

extern "C" EXPORT int getPluginInfo(int index, Plugin::PluginInfo *info) {
  if (index != 0) {
    return -1;
  }
  info->type = Plugin::PROCESSOR;
  info->processor.name = "NeuroHorizon";
  info->processor.type = Plugin::Processor::SINK;
  info->processor.creator = &Plugin::createProcessor<NeuroHorizonSink>;
  return 0;
}
