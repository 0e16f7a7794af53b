// A stand-in for the types of JUCE that the plugin uses, for tests; not JUCE's. The GUI's headers bring them in.
#pragma once

#include <string>
#include <utility>
#include <vector>

using int64 = long long;
using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;

class String {
public:
  String(const char *from) : text(from) {}
  String(std::string from) : text(std::move(from)) {}
  std::string toStdString() const { return text; }

private:
  std::string text;
};

class var {
public:
  var(int from) : number(from), text(std::to_string(from)) {}
  var(const String &from) : text(from.toStdString()) {}
  operator int() const { return number; }
  operator bool() const { return number != 0; }
  String toString() const { return text; }

private:
  int number = 0;
  std::string text;
};

template <class T> class Array {
public:
  void add(T value) { values.push_back(value); }
  int size() const { return static_cast<int>(values.size()); }
  const T *begin() const { return values.data(); }
  const T *end() const { return values.data() + values.size(); }

private:
  std::vector<T> values;
};

template <class T> class AudioBuffer {};

class Timer {
public:
  Timer();
  virtual ~Timer();
  virtual void timerCallback() = 0;
  void startTimer(int interval_ms);
  void stopTimer();

  /// What the GUI's message loop does when the time has come.
  static void standInTick();
};

class Component {
public:
  virtual ~Component() = default;
  void setBounds(int, int, int, int) {}
  void addAndMakeVisible(Component *child) { standInChildren.push_back(child); }

  std::vector<Component *> standInChildren;
};

enum NotificationType { dontSendNotification };

class Label : public Component {
public:
  void setText(const String &text, NotificationType) { standInText = text; }

  String standInText{""};
};

class AudioProcessorEditor : public Component {};
