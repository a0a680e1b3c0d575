// The GPU's kernels as C functions that run on a CPU. What a call may choose is a variable
// here, so that one build serves every option; sizes and activations are macros.
#include "cuda_on_cpu.h"

static int options[8];
#define MASK options[0]
#define RESET options[1]
#define BACKWARDS options[2]
#define ZERO_OUTPUT options[3]
#define SAVE options[4]
#define YS options[5]
#define DYS options[6]
#define H_MASKS options[7]
#include "gpu/recur.cu"

typedef float* F;
typedef unsigned char* B;
extern "C" void run_forward(const int* chosen, int x, int y, void** p) {
  std::memcpy(options, chosen, sizeof options);
  run_grid(x, y, THREADS, [=] {
    forward(F(p[0]), F(p[1]), F(p[2]), F(p[3]), F(p[4]), B(p[5]), B(p[6]), F(p[7]), (int*)p[8],
            F(p[9]), F(p[10]), F(p[11]), F(p[12]));
  });
}
extern "C" void run_backward(const int* chosen, int x, int y, void** p) {
  std::memcpy(options, chosen, sizeof options);
  run_grid(x, y, THREADS, [=] {
    backward(F(p[0]), F(p[1]), F(p[2]), F(p[3]), F(p[4]), B(p[5]), B(p[6]), F(p[7]), (int*)p[8],
             F(p[9]), F(p[10]), F(p[11]));
  });
}

#ifdef REAL_THREADS  // a program for ThreadSanitizer: drawn numbers forward and back
#include <cstdio>
#include <random>
int main() {
  const int T = 5, x = 2, y = 2, rows = x * y, S = GROUPS, states = 1 + CELL::memory;
  std::mt19937 generator(0);
  auto normal = [&](long n) {
    std::normal_distribution<float> draw(0, 0.5f);
    std::vector<float> values(n);
    for (auto& v : values) v = draw(generator);
    return values;
  };
  auto flags = [&](long n, int share) {
    std::vector<unsigned char> values(n);
    for (auto& v : values) v = int(generator() % 100) < share;
    return values;
  };
  auto z = normal(rows * T * GATES * H), U = normal(y * H * GATES * H), b = normal(y * H),
       h0 = normal(rows * H), c0 = normal(rows * H), hm = normal(rows * GATES * H),
       dys = normal(rows * T * H), h1 = normal(rows * H), c1 = normal(rows * H),
       ys = normal(rows * T * H), sums = normal(rows * T * S * H), dh = normal(rows * H),
       dc = normal(rows * H);
  auto mask = flags(rows * T, 80), reset = flags(rows * T, 30);
  std::vector<float> kept((long)rows * T * (states + S) * H);
  int dims[] = {T, int(kept.size()) / y}, chosen[] = {1, 1, 0, 1, 1, 1, 1, GATES};
  static_assert(sizeof chosen == sizeof options);
  void* up[] = {z.data(), U.data(), b.data(), h0.data(), c0.data(), mask.data(), reset.data(),
                hm.data(), dims, h1.data(), c1.data(), kept.data(), ys.data()};
  run_forward(chosen, x, y, up);
  void* down[] = {dys.data(), h0.data(), c0.data(), U.data(), kept.data(), mask.data(),
                  reset.data(), hm.data(), dims, sums.data(), dh.data(), dc.data()};
  run_backward(chosen, x, y, down);
  float total = 0;
  for (float d : sums) total += d;
  puts(std::isfinite(total) ? "all good" : "not finite");
}
#endif
