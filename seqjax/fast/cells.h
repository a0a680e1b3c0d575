// The equations of the cells, once, for every kernel: V is a number or a vector of them.
//
// A cell's pre-activations lie in `groups` side by side. The input's product gives the groups
// from 0, the state's those from `h_first`, `gates` each; `x_order` says which of the layer's
// gates the input's groups are (the state's are in order). Where both give a group it is their
// sum. `gate` turns the sum of one group into what the cell takes; `combine` turns these, s,
// into what `backward` wants, and h, c into those after the step; `backward`, given h and c
// before it, turns s into the gradients of the sums, and the cotangents dh, dc into those
// before the step, less what comes through the state's product.
#pragma once
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifndef SEQJAX_CUDA  // gpu/recur.cu, compiled without headers, has its own of these
#include <cstdint>
#include <cstring>
#define SEQJAX_INLINE inline
#endif

namespace seqjax {

template <class V> SEQJAX_INLINE V clip(V x, float low, float high) {
  V l = low - V{}, h = high - V{};
#if defined(__AVX512F__)  // otherwise GCC compares and blends: 8 % of forward
  if constexpr (sizeof(V) == 64) return (V)_mm512_min_ps((__m512)h, _mm512_max_ps((__m512)l, (__m512)x));
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return (V)_mm256_min_ps((__m256)h, _mm256_max_ps((__m256)l, (__m256)x));
#endif
  x = x < l ? l : x;
  return x > h ? h : x;
}

#ifndef SEQJAX_CUDA
// tanh by a rational function that is right to a few units in the last place. The
// polynomials are those of Eigen's and XLA's float32 tanh.
template <class V> inline V tanh(V x) {
  // Beyond, it is 1 in float32. NaN goes through: both comparisons fail.
  x = clip(x, -7.90531110763549805f, 7.90531110763549805f);
  V y = x * x;
  V p = y * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * y + -8.60467152213735e-11f;
  p = p * y + 5.12229709037114e-08f;
  p = p * y + 1.48572235717979e-05f;
  p = p * y + 6.37261928875436e-04f;
  p = p * y + 4.89352455891786e-03f;
  V q = y * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * y + 2.26843463243900e-03f;
  q = q * y + 4.89352518554385e-03f;
  return x * p / q;
}

template <class V> struct IntegersOf { typedef decltype(V{} < V{}) type; };
template <> struct IntegersOf<float> { typedef uint32_t type; };

// e^x to a unit or two in the last place: 2^n e^r with |r| <= ln 2 / 2, e^r by the
// polynomial of the Cephes library. Not below 2^-126, and not above 2^127.
template <class V> inline V exp(V x) {
  typedef typename IntegersOf<V>::type Integers;
  x = clip(x, -87.3365447f, 88.3762626f);
  const float round = 12582912.f;  // 3 * 2^22: added, it leaves n in the last bits
  V n = x * 1.44269504f + round, y;
  Integers bits;
  std::memcpy(&bits, &n, sizeof n);
  const Integers exponent = bits << 23;
  n = n - round;
  x = x - n * 0.693359375f + n * 2.12194440e-4f;
  y = x * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * x + 8.3334519073e-3f;
  y = y * x + 4.1665795894e-2f;
  y = y * x + 1.6666665459e-1f;
  y = y * x + 5.0000001201e-1f;
  y = y * (x * x) + x + 1.f;
  std::memcpy(&bits, &y, sizeof y);
  bits = bits + exponent;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

// Small values are right to the last places too: by tanh they would be off by 1e-8.
template <class V> inline V sigmoid(V x) { return 1.f / (1.f + exp(-x)); }
#endif

// In the order of `ACTIVATIONS` in problem.py. HARD_SIGMOID is Keras 3's, a sixth of
// relu6(x + 3); HARD_SIGMOID_2 is that of Keras 1 and 2.
enum Activation { TANH, SIGMOID, RELU, LINEAR, HARD_SIGMOID, HARD_SIGMOID_2 };

template <class V> SEQJAX_INLINE V activate(int kind, V x) {
  switch (kind) {
    case TANH: return tanh(x);
    case SIGMOID: return sigmoid(x);
    case RELU: return x < V{} ? V{} : x;
    case HARD_SIGMOID: return clip(x * (1 / 6.f) + 0.5f, 0.f, 1.f);
    case HARD_SIGMOID_2: return clip(x * 0.2f + 0.5f, 0.f, 1.f);
    default: return x;
  }
}

// The derivative, from the value y.
template <class V> SEQJAX_INLINE V slope(int kind, V y) {
  V zero{}, one = 1.f - zero;
  switch (kind) {
    case TANH: return 1.f - y * y;
    case SIGMOID: return y * (1.f - y);
    case RELU: return y > zero ? one : zero;
    case HARD_SIGMOID: return (y > zero) & (y < one) ? one * (1 / 6.f) : zero;
    case HARD_SIGMOID_2: return (y > zero) & (y < one) ? one * 0.2f : zero;
    default: return one;
  }
}

struct Kinds {
  int activation, gate;
};
struct UsualKinds {  // known when compiled: nothing is left to choose at each number
  static constexpr int activation = TANH, gate = SIGMOID;
};

// h' = act(s).
struct SimpleRnn {
  static constexpr int gates = 1, groups = 1, h_first = 0, x_order[] = {0};
  static constexpr bool memory = false, two_phases = false;
  template <class K, class V> static SEQJAX_INLINE V gate(K k, int, V s) {
    return activate(k.activation, s);
  }
  template <class K, class V> static SEQJAX_INLINE void combine(K, V* s, V& h, V&) { h = s[0]; }
  template <class K, class V> static SEQJAX_INLINE void backward(K k, V* s, V, V, V& dh, V&) {
    s[0] = dh * slope(k.activation, s[0]);
    dh = V{};
  }
};

// c' = f c + i g, h' = o act(c'); groups i, f, g, o.
struct Lstm {
  static constexpr int gates = 4, groups = 4, h_first = 0, x_order[] = {0, 1, 2, 3};
  static constexpr bool memory = true, two_phases = false;
  template <class K, class V> static SEQJAX_INLINE V gate(K k, int g, V s) {
    return g == 2 ? activate(k.activation, s) : activate(k.gate, s);
  }
  template <class K, class V> static SEQJAX_INLINE void combine(K k, V* s, V& h, V& c) {
    c = s[1] * c + s[0] * s[2];
    h = s[3] * activate(k.activation, c);
  }
  template <class K, class V> static SEQJAX_INLINE void backward(K k, V* s, V, V c, V& dh, V& dc) {
    V i = s[0], f = s[1], g = s[2], o = s[3], y = activate(k.activation, f * c + i * g);
    V d = dc + dh * o * slope(k.activation, y);
    s[0] = d * g * slope(k.gate, i);
    s[1] = d * c * slope(k.gate, f);
    s[2] = d * i * slope(k.activation, g);
    s[3] = dh * y * slope(k.gate, o);
    dh = V{};
    dc = d * f;
  }
};

// h' = z h + (1 - z) n, n = act(a + r b): groups a, z, r, b, where a is the input's part
// of n and b the state's.
struct Gru {
  static constexpr int gates = 3, groups = 4, h_first = 1, x_order[] = {2, 0, 1};
  static constexpr bool memory = false, two_phases = false;
  template <class K, class V> static SEQJAX_INLINE V gate(K k, int g, V s) {
    return g == 1 || g == 2 ? activate(k.gate, s) : s;
  }
  template <class K, class V> static SEQJAX_INLINE void combine(K k, V* s, V& h, V&) {
    s[0] = activate(k.activation, s[0] + s[2] * s[3]);
    h = s[1] * h + (1.f - s[1]) * s[0];
  }
  template <class K, class V> static SEQJAX_INLINE void backward(K k, V* s, V h, V, V& dh, V&) {
    V n = s[0], z = s[1], r = s[2], b = s[3];
    V d = dh * (1.f - z) * slope(k.activation, n);
    s[0] = d;
    s[1] = dh * (h - n) * slope(k.gate, z);
    s[2] = d * b * slope(k.gate, r);
    s[3] = d * r;
    dh = dh * z;
  }
};

// h' = z h + (1 - z) n, n = act(a) with (r h) U in a: groups z, r, a. Two phases: the
// first is the gates z and r, which give r h, whose product is added to a; `combine` is the
// second. Backward the second comes first; then, with `drh` the cotangent of r h, the first.
struct GruResetBefore {
  static constexpr int gates = 3, groups = 3, h_first = 0, x_order[] = {0, 1, 2};
  static constexpr bool memory = false, two_phases = true;
  template <class K, class V> static SEQJAX_INLINE V gate(K k, int, V s) {
    return activate(k.gate, s);
  }
  template <class K, class V> static SEQJAX_INLINE void combine(K k, V* s, V& h, V&) {
    s[2] = activate(k.activation, s[2]);
    h = s[0] * h + (1.f - s[0]) * s[2];
  }
  template <class K, class V> static SEQJAX_INLINE void backward(K k, V* s, V h, V, V& dh, V&) {
    V z = s[0], n = s[2];
    s[0] = dh * (h - n) * slope(k.gate, z);
    s[2] = dh * (1.f - z) * slope(k.activation, n);
    dh = dh * z;
  }
  template <class K, class V> static SEQJAX_INLINE void reset_backward(K k, V* s, V h, V drh, V& dh) {
    dh = dh + drh * s[1];
    s[1] = drh * h * slope(k.gate, s[1]);
  }
};

}  // namespace seqjax
