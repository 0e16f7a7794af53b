// A stand-in for the Open Ephys GUI's header of this name, for tests; not the GUI's.
#pragma once

#define PLUGIN_API_VER 10

class GenericProcessor;

namespace Plugin {

enum Type { PROCESSOR = 1 };

namespace Processor {
enum Type { FILTER = 1, SOURCE = 2, SINK = 3 };
}

struct LibraryInfo {
  const char *name;
  const char *libVersion;
  int apiVersion;
  int numPlugins;
};

struct ProcessorInfo {
  const char *name;
  GenericProcessor *(*creator)();
  Processor::Type type;
};

struct PluginInfo {
  Type type;
  ProcessorInfo processor;
};

template <class T> GenericProcessor *createProcessor() { return new T; }

} // namespace Plugin
