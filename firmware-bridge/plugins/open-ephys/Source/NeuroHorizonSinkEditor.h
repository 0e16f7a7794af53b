// The processor's panel in the signal chain: its two parameters, and what became of the events.
#pragma once

#include <EditorHeaders.h>

class NeuroHorizonSink;

/// The processor's status in words, read anew each second.
class StatusLabel : public Label, private Timer {
public:
  explicit StatusLabel(const NeuroHorizonSink &sink);
  ~StatusLabel() override;

private:
  void timerCallback() override;

  const NeuroHorizonSink &shown;
};

/// The panel.
class NeuroHorizonSinkEditor : public GenericEditor {
public:
  explicit NeuroHorizonSinkEditor(NeuroHorizonSink *sink);

private:
  StatusLabel status;
};
