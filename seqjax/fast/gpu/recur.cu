// A recurrence over all of T, forward and backward, in one kernel each, float32.
//
// A block is one row of one model's batch: blockIdx.x the row, blockIdx.y the model. Its
// GATES * HP threads are a gate's column of the recurrent kernel each, HP being H padded:
// thread (p, unit) holds column `unit` of gate p, KR of its values in registers and the rest
// in shared memory, and what the state's dropout leaves of them: that is multiplied in once,
// before the loop, and costs nothing a step. All threads of a unit hold its state. What a
// step reads from device memory is loaded K steps ahead: one load takes longer than a step.
// Steps that are not real are skipped by the whole block.
//
// Arrays are batch-major, so a row's steps lie side by side. x, masks, what is kept and the
// gradients of sums are in the order of the input; ys and dys in that of processing.
//
// What is known when it is compiled: CELL, ACTIVATION, GATE (of cells.h), UNITS, PADDED,
// IN_REGISTERS, AHEAD: H, HP, KR, K; MASK, RESET, BACKWARDS, ZERO_OUTPUT, SAVE, YS, DYS: 0 or 1; H_MASKS: 0, 1 or GATES.
#define SEQJAX_INLINE __device__ __forceinline__
namespace seqjax {
// By the device's own e^x and quotient, which are right to 1e-7 of 1.
template <class V> SEQJAX_INLINE V sigmoid(V x) { return __fdividef(1.f, 1.f + __expf(-x)); }
template <class V> SEQJAX_INLINE V tanh(V x) {
  return __fdividef(2.f, 1.f + __expf(-2.f * x)) - 1.f;
}
}  // namespace seqjax
#include "cells.h"

using namespace seqjax;

struct Kernel {  // the kinds of its activations
  static constexpr int activation = ACTIVATION, gate = GATE;
};
enum {
  H = UNITS,
  HP = PADDED,
  KR = IN_REGISTERS,
  K = AHEAD,
  GATES = CELL::gates,
  GROUPS = CELL::groups,
  FIRST = CELL::h_first,
  LAST = GATES - 1,
  THREADS = GATES * HP,
  KS = HP - KR,
  APART = GROUPS > GATES  // the input's part of the last gate is a group of its own
};

#ifdef SEQJAX_CUDA_ON_CPU
static float tail[KS * THREADS + 4] __attribute__((aligned(16)));
#else
extern __shared__ __align__(16) float tail[];  // [KS / 4][THREADS][4]
#endif

struct Place {  // of this thread
  int j = threadIdx.x, p = j / HP, unit = j % HP;
  bool real = unit < H;  // or padding, which is zeros
  long long model = blockIdx.y, row = model * gridDim.x + blockIdx.x;
};

// sum over k of vector[k] times this thread's column k
__device__ __forceinline__ float dot(const float* vector, const float* u, int j) {
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  const float4* v = reinterpret_cast<const float4*>(vector);
#pragma unroll
  for (int k = 0; k < KR / 4; ++k) {
    const float4 a = v[k];
    s0 += a.x * u[4 * k], s1 += a.y * u[4 * k + 1];
    s2 += a.z * u[4 * k + 2], s3 += a.w * u[4 * k + 3];
  }
#pragma unroll 8
  for (int k = 0; k < KS / 4; ++k) {
    const float4 a = v[KR / 4 + k], w = reinterpret_cast<const float4*>(tail)[k * THREADS + j];
    s0 += a.x * w.x, s1 += a.y * w.y, s2 += a.z * w.z, s3 += a.w * w.w;
  }
  return (s0 + s1) + (s2 + s3);
}

// The column: at(k) for k < HP, into registers and shared memory.
template <class F> __device__ __forceinline__ void hold(float* u, int j, F at) {
#pragma unroll
  for (int k = 0; k < KR; ++k) u[k] = at(k);
  for (int k = KR; k < HP; ++k) tail[((k - KR) / 4 * THREADS + j) * 4 + (k - KR) % 4] = at(k);
}

// What the state's dropout leaves of unit k as gate p takes it.
__device__ __forceinline__ float left(const float* h_mask, const Place& at, int k) {
  if (!H_MASKS || k >= H) return 1.f;
  const long long n = H_MASKS > 1 ? H_MASKS : 1, which = H_MASKS > 1 ? at.p : 0;
  return h_mask[((at.model * n + which) * gridDim.x + blockIdx.x) * H + k];
}

template <class Cell>
__device__ __forceinline__ void through_reset(float* v, float h, float drh, float& dh) {
  if constexpr (Cell::two_phases) Cell::reset_backward(Kernel{}, v, h, drh, dh);
}

enum { RUNS = 1, RESETS = 2 };  // of a step: whether it is real, and begins with zeros
__device__ __forceinline__ int flags(const unsigned char* mask, const unsigned char* reset, long long i) {
  return (!MASK || mask[i] ? RUNS : 0) | (RESET && reset[i] ? RESETS : 0);
}

// z [M, B, T, GATES H] the inputs' part of the sums with the bias, U [M, H, GATES H],
// start [M, H] what the state's own group begins with, h0, c0 [M, B, H], mask, reset
// [M, B, T], h_mask [M, H_MASKS, B, H], dims {T, numbers kept of a model}
// -> h1, c1 [M, B, H], kept [M, ...]: h and c before each step [B, T, H],
// s [B, T, GROUPS, H]; ys [M, B, T, H].
extern "C" __global__ void __launch_bounds__(THREADS) forward(
    const float* __restrict__ z, const float* __restrict__ U, const float* __restrict__ start,
    const float* __restrict__ h0, const float* __restrict__ c0,
    const unsigned char* __restrict__ mask, const unsigned char* __restrict__ reset,
    const float* __restrict__ h_mask, const int* __restrict__ dims, float* __restrict__ h1,
    float* __restrict__ c1, float* __restrict__ kept, float* __restrict__ ys) {
  const int T = dims[0];
  const Place at;
  const int j = at.j, p = at.p, unit = at.unit;
  __shared__ __align__(16) float h_now[HP], reset_h[HP];
  __shared__ float sums[GROUPS][HP];
  float u[KR];
  hold(u, j, [&](int k) {
    const bool there = at.real && k < H;
    return there ? U[(at.model * H + k) * GATES * H + p * H + unit] * left(h_mask, at, k) : 0.f;
  });
  const float begin = APART && p == LAST && at.real ? start[at.model * H + unit] : 0.f;
  float h = at.real ? h0[at.row * H + unit] : 0.f;
  float c = CELL::memory && at.real ? c0[at.row * H + unit] : 0.f;
  if (p == 0) h_now[unit] = h;

  const long long places = (long long)gridDim.x * T;
  float* const kept_h = kept + at.model * dims[1];
  float* const kept_c = kept_h + places * H;
  float* const kept_s = kept_h + places * (1 + CELL::memory) * H;

  struct Next {
    float z;
    int flags;
  } next[K], now[K];
  auto place = [&](int step) { return BACKWARDS ? T - 1 - step : step; };
  auto load = [&](int step) {
    Next n{};
    if (step >= T) return n;
    const long long i = at.row * T + place(step);
    if (at.real) n.z = z[i * GATES * H + p * H + unit];
    n.flags = flags(mask, reset, i);
    return n;
  };
#pragma unroll
  for (int s = 0; s < K; ++s) next[s] = load(s);
  __syncthreads();
  for (int first = 0; first < T; first += K) {
#pragma unroll
    for (int s = 0; s < K; ++s) now[s] = next[s], next[s] = load(first + K + s);
#pragma unroll
    for (int s = 0; s < K; ++s) {
      const int step = first + s;
      if (step >= T) break;
      const long long i = (long long)blockIdx.x * T + place(step);
      const bool runs = now[s].flags & RUNS;
      if (now[s].flags & RESETS) {
        h = c = 0.f;
        if (p == 0) h_now[unit] = 0.f;
        __syncthreads();
      }
      if (SAVE && at.real) {
        if (p == 0) kept_h[i * H + unit] = h;
        if (CELL::memory && p == LAST) kept_c[i * H + unit] = c;
      }
      float v[GROUPS] = {};
      if (runs) {
        if (CELL::two_phases) {
          if (p < LAST) sums[p][unit] = CELL::gate(Kernel{}, p, now[s].z + dot(h_now, u, j));
          __syncthreads();
          if (p == 0) reset_h[unit] = sums[GROUPS / 2][unit] * h;
          __syncthreads();
          if (p == LAST) sums[LAST][unit] = now[s].z + dot(reset_h, u, j);
        } else {
          const float a = begin + dot(h_now, u, j);
          if (APART && p == LAST) {
            sums[0][unit] = now[s].z;
            sums[GROUPS - 1][unit] = a;
          } else {
            sums[FIRST + p][unit] = CELL::gate(Kernel{}, FIRST + p, now[s].z + a);
          }
        }
        __syncthreads();
#pragma unroll
        for (int g = 0; g < GROUPS; ++g) v[g] = sums[g][unit];
        CELL::combine(Kernel{}, v, h, c);
        if (p == 0) h_now[unit] = h;
        __syncthreads();
      }
      if (SAVE && at.real)
#pragma unroll
        for (int g = 0; g < GROUPS; ++g)
          if (g == FIRST + p || (APART && g == 0 && p == 0)) kept_s[(i * GROUPS + g) * H + unit] = v[g];
      if (YS && at.real && p == GATES / 2)
        ys[(at.row * T + step) * H + unit] = ZERO_OUTPUT && !runs ? 0.f : h;
    }
  }
  if (p == 0 && at.real) {
    h1[at.row * H + unit] = h;
    if (CELL::memory) c1[at.row * H + unit] = c;
  }
}

// Thread (p, unit) computes gate p's part of the cotangent of h[unit]. dys [M, B, T, H],
// dh1, dc1 [M, B, H], the others as above -> sums [M, B, T, GROUPS, H]: the gradients of
// the groups' sums, zero where a step is not real; dh0, dc0 [M, B, H]. Gradients end at
// a reset, and so `reset` here also says where truncated backpropagation cuts them.
extern "C" __global__ void __launch_bounds__(THREADS) backward(
    const float* __restrict__ dys, const float* __restrict__ dh1, const float* __restrict__ dc1,
    const float* __restrict__ U, const float* __restrict__ kept,
    const unsigned char* __restrict__ mask, const unsigned char* __restrict__ reset,
    const float* __restrict__ h_mask, const int* __restrict__ dims, float* __restrict__ sums,
    float* __restrict__ dh0, float* __restrict__ dc0) {
  const int T = dims[0];
  const Place at;
  const int j = at.j, p = at.p, unit = at.unit;
  __shared__ __align__(16) float d_now[GATES][HP];
  __shared__ float parts[2][GATES][HP];
  float u[KR];  // row `unit` of gate p
  const float mine = left(h_mask, at, unit);
  hold(u, j, [&](int k) {
    const bool there = at.real && k < H;
    return there ? U[(at.model * H + unit) * GATES * H + p * H + k] * mine : 0.f;
  });
  float dh = at.real ? dh1[at.row * H + unit] : 0.f;
  float dc = CELL::memory && at.real ? dc1[at.row * H + unit] : 0.f;

  const long long places = (long long)gridDim.x * T;
  const float* const kept_h = kept + at.model * dims[1];
  const float* const kept_c = kept_h + places * H;
  const float* const kept_s = kept_h + places * (1 + CELL::memory) * H;

  struct Next {
    float s[GROUPS], h, c, dy;
    int flags;
  } next[K], now[K];
  int turn = 0;
  auto place = [&](int step) { return BACKWARDS ? T - 1 - step : step; };
  auto load = [&](int step) {
    Next n{};
    if (step < 0) return n;
    const long long i = at.row * T + place(step), own = (long long)blockIdx.x * T + place(step);
    n.flags = flags(mask, reset, i);
    if (!at.real) return n;
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) n.s[g] = kept_s[(own * GROUPS + g) * H + unit];
    n.h = kept_h[own * H + unit];
    if (CELL::memory) n.c = kept_c[own * H + unit];
    if (DYS) n.dy = dys[(at.row * T + step) * H + unit];
    return n;
  };
#pragma unroll
  for (int s = 0; s < K; ++s) next[s] = load(T - 1 - s);
  for (int last = T - 1; last >= 0; last -= K) {
#pragma unroll
    for (int s = 0; s < K; ++s) now[s] = next[s], next[s] = load(last - K - s);
#pragma unroll
    for (int s = 0; s < K; ++s) {
      const int step = last - s;
      if (step < 0) break;
      Next& n = now[s];
      float v[GROUPS] = {};
      const bool runs = n.flags & RUNS;
      if (DYS && (runs || !ZERO_OUTPUT)) dh += n.dy;
      if (runs) {
#pragma unroll
        for (int g = 0; g < GROUPS; ++g) v[g] = n.s[g];
        CELL::backward(Kernel{}, v, n.h, n.c, dh, dc);
        auto (&part)[GATES][HP] = parts[turn];
        turn ^= 1;  // who is ahead by a warp must not write what others still read
        if (CELL::two_phases) {
          if (p == LAST) d_now[LAST][unit] = v[LAST];
          __syncthreads();
          if (p == LAST) part[LAST][unit] = dot(d_now[LAST], u, j);
          __syncthreads();
          through_reset<CELL>(v, n.h, part[LAST][unit], dh);
          if (p < LAST) d_now[p][unit] = p ? v[GROUPS / 2] : v[0];
        } else {
          float d = 0.f;
#pragma unroll
          for (int g = 0; g < GATES; ++g) d = g == p ? v[FIRST + g] : d;
          d_now[p][unit] = d;
        }
        // Only the threads of gate p read d_now[p].
        if (HP == 32 && !CELL::two_phases) __syncwarp();
        else __syncthreads();
        const int phase = GATES - CELL::two_phases;
        if (p < phase) part[p][unit] = dot(d_now[p], u, j);
        __syncthreads();
#pragma unroll
        for (int g = 0; g < phase; ++g) dh += part[g][unit];
      }
      if (at.real)
#pragma unroll
        for (int g = 0; g < GROUPS; ++g)
          if (g == FIRST + p || (APART && g == 0 && p == 0))
            sums[((at.row * T + place(step)) * GROUPS + g) * H + unit] = v[g];
      if (n.flags & RESETS) dh = dc = 0.f;
    }
  }
  if (p == 0 && at.real) {
    dh0[at.row * H + unit] = dh;
    if (CELL::memory) dc0[at.row * H + unit] = dc;
  }
}
