// CUDA C++ kernels on a CPU, for tests. By default the threads of a block are fibers that
// take turns: each runs to its next barrier, then the next one does, from the first to the
// last and back by turns; a barrier that is missing shows in the numbers. With -DREAL_THREADS each is a thread of the system, for
// ThreadSanitizer. Blocks run one after the other.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>
#ifdef REAL_THREADS
#include <barrier>
#include <thread>
#else
#include <ucontext.h>
#endif

#define SEQJAX_CUDA
#define SEQJAX_CUDA_ON_CPU
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static
struct float4 {
  float x, y, z, w;
};
struct Index {
  unsigned x = 0, y = 0;
};
inline Index blockIdx, gridDim;
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }

#ifdef REAL_THREADS
inline thread_local Index threadIdx;
inline std::unique_ptr<std::barrier<>> whole_block;
inline std::vector<std::unique_ptr<std::barrier<>>> warps;
inline void __syncthreads() { whole_block->arrive_and_wait(); }
inline void __syncwarp() { warps[threadIdx.x / 32]->arrive_and_wait(); }
inline void run_block(unsigned block, const std::function<void()>& body) {
  whole_block = std::make_unique<std::barrier<>>(block);
  warps.clear();
  for (unsigned w = 0; w < block; w += 32)
    warps.push_back(std::make_unique<std::barrier<>>(std::min(32u, block - w)));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < block; ++t)
    threads.emplace_back([t, &body] {
      threadIdx.x = t;
      body();
    });
  for (auto& thread : threads) thread.join();
}
#else
inline Index threadIdx;
struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool over = false;
};
inline std::vector<std::unique_ptr<Fiber>> fibers;
inline ucontext_t scheduler;
inline const std::function<void()>* fiber_body;
inline void __syncthreads() { swapcontext(&fibers[threadIdx.x]->context, &scheduler); }
inline void __syncwarp() { __syncthreads(); }
inline void run_fiber() {
  (*fiber_body)();
  fibers[threadIdx.x]->over = true;
  swapcontext(&fibers[threadIdx.x]->context, &scheduler);
}
inline void run_block(unsigned block, const std::function<void()>& body) {
  while (fibers.size() < block) fibers.push_back(std::make_unique<Fiber>());
  fiber_body = &body;
  for (unsigned t = 0; t < block; ++t) {
    Fiber& f = *fibers[t];
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    f.over = false;
    makecontext(&f.context, run_fiber, 0);
  }
  static unsigned turn = 0;
  for (bool any = true; any;) {
    any = false;
    ++turn;
    for (unsigned i = 0; i < block; ++i) {
      const unsigned t = turn % 2 ? i : block - 1 - i;
      if (fibers[t]->over) continue;
      threadIdx.x = t;
      swapcontext(&scheduler, &fibers[t]->context);
      any = any || !fibers[t]->over;
    }
  }
}
#endif

inline void run_grid(unsigned x, unsigned y, unsigned block, const std::function<void()>& body) {
  gridDim = {x, y};
  for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) run_block(block, body);
}
