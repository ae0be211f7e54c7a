// What the tests of the kernels need: a check that names its place, and numbers that are the same on every machine.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                 \
    }                                                                               \
  } while (0)

// Evenly spread in [-1, 1); the same sequence for the same seed.
inline std::vector<float> numbers(int64_t count, uint64_t seed) {
  std::vector<float> values((size_t)count);
  for (float& value : values) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    value = (float)((int64_t)(seed >> 40) - (1 << 23)) / (float)(1 << 23);
  }
  return values;
}
