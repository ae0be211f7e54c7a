// Work shared by threads. Tasks are numbered; the result of a task must not depend on which thread runs it, or when.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

namespace geo3d {

// Runs task(data, i) for every i in [0, count) on at most `threads` threads, the caller's among them.
void run_tasks(int threads, int64_t count, void (*task)(void*, int64_t), void* data);

template <class F>
void parallel(int threads, int64_t count, F&& f) {
  using Function = std::remove_reference_t<F>;
  run_tasks(threads, count, [](void* data, int64_t i) { (*static_cast<Function*>(data))(i); }, (void*)&f);
}

// Uninitialised values aligned to a cache line; throws std::bad_alloc.
template <class T = float>
class Scratch {
 public:
  explicit Scratch(int64_t n) : data_((T*)::operator new((size_t)n * sizeof(T) + 64, std::align_val_t(64))) {}
  ~Scratch() { ::operator delete(data_, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace geo3d
