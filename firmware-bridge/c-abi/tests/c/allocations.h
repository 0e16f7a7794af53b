// Counts what C++ allocates while `in_callback` is set.
#pragma once

extern bool in_callback;
extern unsigned long allocations;
