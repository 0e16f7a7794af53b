#include "NeuroHorizonSinkEditor.h"

#include "NeuroHorizonSink.h"

StatusLabel::StatusLabel(const NeuroHorizonSink &sink) : shown(sink) { startTimer(1000); }

StatusLabel::~StatusLabel() { stopTimer(); }

void StatusLabel::timerCallback() { setText(shown.status(), dontSendNotification); }

NeuroHorizonSinkEditor::NeuroHorizonSinkEditor(NeuroHorizonSink *sink) : GenericEditor(sink), status(*sink) {
  desiredWidth = 260;
  addTextBoxParameterEditor(Parameter::PROCESSOR_SCOPE, "address", 10, 28);
  addTextBoxParameterEditor(Parameter::PROCESSOR_SCOPE, "device_id", 10, 52);
  status.setBounds(10, 76, 240, 50);
  addAndMakeVisible(&status);
}
