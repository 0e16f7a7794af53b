// In a file of its own: where the compiler sees both ends of a replaced operator, it takes them for a mismatch.
#include "allocations.h"

#include <cstdlib>
#include <new>

bool in_callback = false;
unsigned long allocations = 0;

void *operator new(std::size_t size) {
  allocations += in_callback;
  if (void *memory = std::malloc(size)) {
    return memory;
  }
  throw std::bad_alloc();
}

void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
