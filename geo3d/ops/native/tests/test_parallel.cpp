#include <atomic>
#include <thread>
#include <vector>
#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "../src/parallel.h"
#include "check.h"

using geo3d::parallel;

namespace {

void every_task_runs_once(int threads, int64_t count) {
  std::vector<std::atomic<int>> runs((size_t)count);
  parallel(threads, count, [&](int64_t i) { ++runs[(size_t)i]; });
  for (auto& number : runs) CHECK(number == 1);
}

void callers_side_by_side() {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([] {
      for (int round = 0; round < 50; ++round) every_task_runs_once(3, 17);
    });
  for (auto& caller : callers) caller.join();
}

void memory_runs_out_in_a_task() {
  bool told = false;
  try {
    parallel(2, 8, [](int64_t i) {
      if (i == 5) throw std::bad_alloc();
    });
  } catch (const std::bad_alloc&) {
    told = true;
  }
  CHECK(told);
}

}  // namespace

void test_parallel() {
  for (int threads : {1, 2, 3, 8})
    for (int64_t count : {0, 1, 2, 100}) every_task_runs_once(threads, count);
  callers_side_by_side();
  memory_runs_out_in_a_task();
#if defined(__unix__) && !defined(__SANITIZE_THREAD__)
  pid_t child = fork();
  if (child == 0) {
    every_task_runs_once(4, 100);  // the parent's threads are not there
    _exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
#endif
}
