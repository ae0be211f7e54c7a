// Conventions of all exported functions: a plain C interface that returns a status and throws no exceptions.
//
// Arrays are dense and row-major, of float32, int64 (indices, offsets) and uint8 (slots); the caller has checked
// shapes and types. Functions check values only. With a status other than OK the outputs are invalid.
#pragma once
#include <atomic>
#include <cstdint>
#include <new>

#if defined(_WIN32)
#define GEO3D_API extern "C" __declspec(dllexport)
#else
#define GEO3D_API extern "C" __attribute__((visibility("default")))
#endif

namespace geo3d {

enum Status : int32_t { OK = 0, OUT_OF_MEMORY = 1, BAD_INDEX = 2, NOT_FINITE = 3, BAD_OFFSETS = 4 };

// The status of several tasks: of several faults the one with the highest number.
class Fault {
 public:
  void raise(Status status) {
    int32_t present = status_.load(std::memory_order_relaxed);
    while (present < status && !status_.compare_exchange_weak(present, status, std::memory_order_relaxed)) {
    }
  }
  int32_t status() const { return status_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int32_t> status_{OK};
};

template <class F>
int32_t guarded(F&& f) noexcept {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  }
}

}  // namespace geo3d
