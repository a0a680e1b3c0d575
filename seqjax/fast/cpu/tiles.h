// Matrix products of rows, by tiles whose sums stay in registers.
//
// A tile is up to ROWS_OF_TILE rows and two vectors of columns. Matrices that a product
// takes from the right are packed into panels of two vectors of columns first.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

namespace seqjax {

#if defined(__AVX512F__)
enum { W = 16, ROWS_OF_TILE = 8 };  // 16 of 32 registers are sums
#elif defined(__AVX2__)
enum { W = 8, ROWS_OF_TILE = 6 };  // 12 of 16
#else
enum { W = 4, ROWS_OF_TILE = 8 };  // aarch64: 16 of 32
#endif
enum { PANEL = 2 * W };  // columns

struct alignas(64) Line { float floats[16]; };  // of the cache, where the kernels' memory begins
typedef float Vector __attribute__((vector_size(4 * W)));
typedef float Unaligned __attribute__((vector_size(4 * W), aligned(4), may_alias));
inline Vector load(const float* p) { return *(const Unaligned*)p; }
inline void store(float* p, Vector v) { *(Unaligned*)p = v; }
inline int64_t padded(int64_t width) { return (width + W - 1) / W * W; }

// out[r][c] = from(r)[c] + sum over k of a(k, r) b(k)[c], for R rows and C vectors.
template <int R, int C, class A, class B, class F>
inline __attribute__((always_inline)) void tile(int64_t K, A a, B b, F from, float* out, int64_t stride) {
  Vector sums[R][C];
  for (int r = 0; r < R; ++r) {
    const float* row = from(r);
    for (int c = 0; c < C; ++c) sums[r][c] = row ? load(row + c * W) : Vector{};
  }
  for (int64_t k = 0; k < K; ++k) {
    const float* p = b(k);
    Vector columns[C];
    for (int c = 0; c < C; ++c) columns[c] = load(p + c * W);
    for (int r = 0; r < R; ++r) {
      float factor = a(k, r);
      for (int c = 0; c < C; ++c) sums[r][c] += columns[c] * factor;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(out + r * stride + c * W, sums[r][c]);
}

// f(first row, number of rows as a type) for n rows, in tiles as full as can be.
template <class F> inline void by_tiles(int64_t n, F f) {
  int64_t r = 0;
  for (; n - r >= ROWS_OF_TILE + 3 || n - r == ROWS_OF_TILE; r += ROWS_OF_TILE)
    f(r, std::integral_constant<int, ROWS_OF_TILE>{});
  for (; n - r >= 4; r += 4) f(r, std::integral_constant<int, 4>{});
  for (; n - r >= 2; r += 2) f(r, std::integral_constant<int, 2>{});
  if (r < n) f(r, std::integral_constant<int, 1>{});
}

// Where element (k, m) of a matrix [K, M] of panels lies, M being whole vectors.
inline int64_t in_panels(int64_t K, int64_t M, int64_t k, int64_t m) {
  const int64_t panel = m / PANEL * PANEL;
  return panel * K + k * std::min<int64_t>(PANEL, M - panel) + m - panel;
}

// A matrix [K, M] as panels, M padded with zeros to whole vectors.
struct Packed {
  int64_t K = 0, M = 0;
  std::unique_ptr<Line[]> lines;
  // Columns are in groups, padded to whole vectors each: element u of row k in group g is
  // at(k, g)[u * step], or zero where that is null.
  template <class F> Packed(int64_t K, int64_t width, int64_t num_groups, int64_t step, F at)
      : K(K), M(padded(width) * num_groups), lines(new Line[(K * M + 15) / 16]) {
    for (int64_t m = 0; m < M; m += W) {  // a vector of columns
      const int64_t g = m / padded(width), u = m % padded(width), stride = in_panels(K, M, 1, m) - in_panels(K, M, 0, m);
      float* to = values() + in_panels(K, M, 0, m);
      for (int64_t k = 0; k < K; ++k, to += stride) {
        const float* from = at(k, g);
        if (from && step == 1 && width - u >= W) store(to, load(from + u));
        else for (int64_t i = 0; i < W; ++i) to[i] = from && u + i < width ? from[(u + i) * step] : 0;
      }
    }
  }
  Packed() = default;
  float* values() const { return reinterpret_cast<float*>(lines.get()); }
};

// out[r] = from(r) + rows[r][0..K) times columns [first, last) of p, for n rows; a row that
// is null is zero. Rows `from_k` to `to_k` of p only are multiplied, if they are given.
template <class F>
inline void multiply(int64_t n, const float* const* rows, int64_t shift, const Packed& p,
                     int64_t first, int64_t last, F from, float* out, int64_t stride,
                     int64_t from_k = 0, int64_t to_k = -1) {
  const int64_t K = (to_k < 0 ? p.K : to_k) - from_k;
  for (int64_t m = first; m < last;) {
    const int64_t panel = m / PANEL * PANEL, width = std::min<int64_t>(PANEL, p.M - panel);
    const int C = std::min(last, panel + width) - m > W ? 2 : 1;
    const float* values = p.values() + panel * p.K + from_k * width + m - panel;
    by_tiles(n, [&](int64_t r, auto R) {
      const float* row[R];
      for (int i = 0; i < R; ++i) row[i] = rows[r + i] + shift;
      auto a = [&](int64_t k, int i) { return row[i][k]; };
      auto b = [&](int64_t k) { return values + k * width; };
      auto f = [&](int i) { const float* row = from(r + i); return row ? row + m - first : row; };
      float* o = out + r * stride + m - first;
      if (C == 2) tile<R, 2>(K, a, b, f, o, stride);
      else tile<R, 1>(K, a, b, f, o, stride);
    });
    m += C * W;
  }
}

// out (+)= the sum over n rows of rows[r][0..K) times d[r][first..last), in the panels of
// a matrix [K, M]: of both a block of rows is in the first cache for all tiles.
inline void add_outer(int64_t n, const float* const* rows, int64_t K, const float* d,
                      int64_t d_stride, int64_t M, int64_t first, int64_t last, float* out) {
  enum { BLOCK = 64 };
  for (int64_t begin = 0; begin < n; begin += BLOCK) for (int64_t m = first; m < last;) {
    const int64_t panel = m / PANEL * PANEL, width = std::min<int64_t>(PANEL, M - panel);
    const int C = std::min(last, panel + width) - m > W ? 2 : 1;
    const int64_t number = std::min<int64_t>(BLOCK, n - begin);
    by_tiles(K, [&](int64_t k, auto R) {
      auto a = [&](int64_t r, int i) { return rows[begin + r][k + i]; };
      auto b = [&](int64_t r) { return d + (begin + r) * d_stride + m; };
      float* o = out + in_panels(K, M, k, m);
      auto f = [&](int i) { return o + i * width; };
      if (C == 2) tile<R, 2>(number, a, b, f, o, width);
      else tile<R, 1>(number, a, b, f, o, width);
    });
    m += C * W;
  }
}

}  // namespace seqjax
