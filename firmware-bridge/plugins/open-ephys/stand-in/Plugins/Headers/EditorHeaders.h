// A stand-in for the Open Ephys GUI's header of this name, for tests; not the GUI's.
#pragma once

#include "JuceTypes.h"

class GenericProcessor;

class Parameter {
public:
  enum ParameterScope { PROCESSOR_SCOPE };

  explicit Parameter(var first) : standInValue(std::move(first)) {}
  var getValue() const { return standInValue; }

  var standInValue;
};

class GenericEditor : public AudioProcessorEditor {
public:
  explicit GenericEditor(GenericProcessor *of) : owner(of) {}
  int desiredWidth = 0;

protected:
  /// Fails where there is no such parameter.
  void addTextBoxParameterEditor(Parameter::ParameterScope, const String &name, int x, int y);

private:
  GenericProcessor *owner;
};
