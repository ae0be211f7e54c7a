// The library's threads: its own pool, or the threads of the OpenMP run-time library that torch ships.
//
// Two pools on the same cores slow each other down, because OpenMP's threads spin for a while after their work.
#include "parallel.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "api.h"
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace geo3d {
namespace {

using ParallelRegion = void (*)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel
std::atomic<ParallelRegion> openmp{nullptr};

struct Job {
  void (*task)(void*, int64_t);
  void* data;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};

  void work() noexcept {
    try {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(data, i);
    } catch (const std::bad_alloc&) {
      failed.store(true, std::memory_order_relaxed);
    }
  }
};

class Pool {
 public:
  // False when another thread is using the pool.
  bool run(Job& job, int helpers) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    try {
      while ((int)threads_.size() < helpers) {
        int number = (int)threads_.size();
        threads_.emplace_back([this, number] { serve(number); });
      }
    } catch (const std::system_error&) {
      return false;  // the system gives no more threads: the caller does the work
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      helpers_ = helpers;
      busy_.store(helpers, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job.work();
    for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; ++spin)
      if (spin > SPINS) {
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_.load(std::memory_order_acquire) == 0; });
      }
    return true;
  }

 private:
  static constexpr int SPINS = 4000;

  void serve(int number) {
    int64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < SPINS && round_.load(std::memory_order_acquire) == seen; ++spin) pause();
      Job* job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_.load(std::memory_order_relaxed) != seen; });
        seen = round_.load(std::memory_order_relaxed);
        if (number >= helpers_) continue;
        job = job_;
      }
      job->work();
      std::lock_guard<std::mutex> lock(mutex_);
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
    }
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  int helpers_ = 0;
  std::atomic<int> busy_{0};
  std::atomic<int64_t> round_{0};
};

std::atomic<Pool*> pool{nullptr};

// A forked process has none of the threads, so it starts a new pool. The pool is never deleted: its threads never end.
Pool* the_pool() {
  Pool* present = pool.load(std::memory_order_acquire);
  if (present) return present;
  Pool* fresh = new Pool;
  if (pool.compare_exchange_strong(present, fresh)) {
#if defined(__unix__) || defined(__APPLE__)
    static std::once_flag once;
    std::call_once(once, [] {
      pthread_atfork(nullptr, nullptr, [] {
        pool.store(nullptr);
        openmp.store(nullptr);
      });
    });
#endif
    return fresh;
  }
  delete fresh;
  return present;
}

}  // namespace

void run_tasks(int threads, int64_t count, void (*task)(void*, int64_t), void* data) {
  Job job{task, data, count};
  int helpers = (int)(threads < count ? threads : count) - 1;
  if (helpers > 0) {
    Pool* own = the_pool();
    if (ParallelRegion region = openmp.load(std::memory_order_acquire)) {
      region([](void* job) { static_cast<Job*>(job)->work(); }, &job, (unsigned)helpers + 1, 0);
    } else if (!own->run(job, helpers)) {
      job.work();
    }
  } else {
    job.work();
  }
  if (job.failed.load(std::memory_order_relaxed)) throw std::bad_alloc();
}

}  // namespace geo3d

// region: the address of GOMP_parallel in the run-time library whose threads to use; null for this library's own.
GEO3D_API void geo3d_use_openmp(void* region) { geo3d::openmp.store((geo3d::ParallelRegion)region); }
