// A recurrence over all of T, forward and backward, on the cores of a CPU.
//
// A task is up to ROWS rows of the batch through all of time. It goes in chunks of K
// steps: what needs no state (the inputs' product; backward the gradients of weights and
// inputs) is done for all steps of a chunk at once, and only the product with U and the
// cell itself step by step. Forward keeps the carry at the start of each chunk; backward
// runs a chunk again from there, so that what it needs is in cache, and goes back over
// it; or, where `Scratch` still has what forward found at each step, goes back over that.
// Sums over tasks are added in the order of the tasks: the bits do not depend on
// who ran which.
#pragma once
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "../cells.h"
#include "memory.h"
#include "tiles.h"

namespace seqjax {

// Threads to share the work with. `schedule` may run its argument at any time, or never.
struct Threads {
  int64_t number;
  std::function<void(std::function<void()>)> schedule;
};

// f(i) for i < tasks, here and on whichever threads come in time. It waits for tasks
// that others began, never for a thread to begin: they may all be in here, each in a
// call of its own.
template <class F> void deal(const Threads& threads, int64_t tasks, const F& f) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, tasks, f = &f] {
    for (int64_t i; (i = state->next.fetch_add(1)) < tasks;) {
      (*f)(i);
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (int64_t i = 1; i < std::min(threads.number, tasks); ++i) threads.schedule(work);
  work();
  while (state->done.load(std::memory_order_acquire) < tasks) std::this_thread::yield();
}

struct Options {  // in the order of `_header` in kernels.py, as `Sizes` are
  int64_t activation, gate, go_backwards, zero_output_for_mask, bptt_steps, chunk, time_first;
};

struct Sizes {
  int64_t B, T, D, H, V;  // x is [B, T, D], or with ids [V, D]; with time_first all [B, T] are [T, B]
  int64_t x_masks, h_masks;  // of dropout: 0, 1, or one for each gate
};

enum { TABLE_FLOATS = 1 << 21 };  // 8 MiB

// One model and its batch. What is null is not there.
struct Problem : Sizes {
  Options options;
  const float *x, *W, *bias, *U, *h0, *c0, *x_mask, *h_mask;
  const int32_t* ids;            // [B, T], of rows of x
  const uint8_t *mask, *reset;   // [B, T]
  float *ys, *h1, *c1;           // forward: [B, T, H], [B, H], [B, H]
  float* kept;                   // [chunks, states, B, H], a ticket: written, then read
  const float *dys, *dh1, *dc1;  // backward
  float *dx, *dW, *dbias, *dU, *dh0, *dc0;
  const float* table;  // rows of x times W, plus the bias: [V, G padded H] by groups

  int64_t chunks() const { return (T + options.chunk - 1) / options.chunk; }
  // Few rows are cut finer: four tasks at least, if they have two rows each.
  int64_t rows() const {
    return std::clamp<int64_t>((B + 3) / 4, std::min<int64_t>(B, 2), 32);
  }
  int64_t tasks() const { return (B + rows() - 1) / rows(); }
  int64_t rows_from(int64_t b0) const { return std::min(rows(), B - b0); }
  // Steps in front at which all rows of the task from b0 on have the same id and the same
  // state, in whole chunks: they are run as one row.
  int64_t alike_steps(int64_t b0) const {
    if (!ids || options.time_first || mask || reset || x_masks || h_masks || h0 || rows_from(b0) == 1) return 0;
    for (int64_t step = 0; step < T; ++step) {
      const int32_t* id = ids + b0 * T + (options.go_backwards ? T - 1 - step : step);
      for (int64_t r = 1; r < rows_from(b0); ++r)
        if (id[r * T] != *id) return step / options.chunk * options.chunk;
    }
    return T;
  }
  // Whether rows of x are all multiplied by W first, to be looked up then: that spares
  // work unless they are more than the places, or so many that memory is the slower way.
  bool wants_table(int64_t gates) const {
    return ids && !x_masks && V <= B * T && V * gates * padded(H) <= TABLE_FLOATS;
  }
};

// What sums begin with where it is zero.
inline const float* nothing(int64_t) { return nullptr; }

// Rows that lie anywhere are called for so many rows ahead.
enum { AHEAD = 16 };
enum { BLOCK = 2 * ROWS_OF_TILE };  // rows that go through a step together, or up to two more
inline void prefetch(const float* row, int64_t width) {
  for (int64_t i = 0; i < width; i += 16) __builtin_prefetch(row + i);
}

// The weights of one model, packed.
template <class Cell> struct Weights {
  static constexpr int G = Cell::gates;
  Packed W, U, W_back, U_back;
  std::vector<float> bias;  // [groups, padded H]

  Weights() = default;
  Weights(const Problem& p, bool backward) : bias(Cell::groups * padded(p.H)) {
    const int64_t D = p.D, H = p.H, HP = padded(H);
    W = Packed(D, H, G, 1, [&](int64_t k, int64_t g) { return p.W + (k * G + Cell::x_order[g]) * H; });
    U = Packed(H, H, G, 1, [&](int64_t k, int64_t g) { return p.U + (k * G + g) * H; });
    if (backward) {  // transposed: row k is column k % HP of group k / HP
      auto column = [&](const float* from, int64_t g, int64_t u) { return u < H ? from + g * H + u : nullptr; };
      W_back = Packed(G * HP, D, 1, G * H, [&](int64_t k, int64_t) { return column(p.W, Cell::x_order[k / HP], k % HP); });
      U_back = Packed(G * HP, H, 1, G * H, [&](int64_t k, int64_t) { return column(p.U, k / HP, k % HP); });
    }
    add_bias(p, bias.data());
  }
  // Adds it to sums [groups, padded H]: a row for the inputs and a row for the state, where
  // their groups differ in place and both reach the end.
  static constexpr bool two_biases = Cell::groups > Cell::gates;
  static void add_bias(const Problem& p, float* sums) {
    const int64_t H = p.H, HP = padded(H);
    for (int g = 0; g < G && p.bias; ++g) for (int64_t u = 0; u < H; ++u) {
      sums[g * HP + u] += p.bias[Cell::x_order[g] * H + u];
      if (two_biases) sums[(Cell::h_first + g) * HP + u] += p.bias[(G + g) * H + u];
    }
  }
};

// Rows first to last - 1 of an array [., width], as pointers.
inline std::vector<const float*> row_list(const float* from, int64_t width, int64_t first, int64_t last) {
  std::vector<const float*> rows(last - first);
  for (int64_t v = first; v < last; ++v) rows[v - first] = from + v * width;
  return rows;
}

template <class Cell> class Task {
  static constexpr int G = Cell::gates, S = Cell::groups;
  static constexpr int64_t STATES = 1 + Cell::memory;
  typedef const float* const* Rows;

 public:
  // `left` is where forward leaves the chunks, and backward finds them; or null.
  Task(const Problem& p, const Weights<Cell>& w, int64_t index, bool backward, float* left)
      : p(p), w(w), b0(index * p.rows()), n(p.rows_from(b0)), D(p.D), H(p.H),
        HP(padded(H)), K(backward || left ? p.options.chunk : few(p.options.chunk)), stride(S * HP + W),
        width(p.table ? G * HP : D), kinds{int(p.options.activation), int(p.options.gate)},
        alike(p.alike_steps(b0)), left(left), memory(0) {
    // Everything of a chunk lies step by step, and in a step row by row.
    const int64_t many = K * n, state = n * HP;
    const std::pair<float**, int64_t> parts[] = {
        {&own, chunk_floats(p, n, K)}, {&masked_x, p.x_masks * many * D}, {&masked_h, p.h_masks * many * HP},
        {&some, state}, {&dh, backward * state}, {&dc, backward * (Cell::memory || Cell::two_phases) * state},
        {&dxs, backward * many * padded(D)}, {&special, 2 * width}};
    int64_t size = 0;
    for (auto [place, floats] : parts) size += floats;
    memory = Scratch(size);
    float* next = memory.data();
    for (auto [place, floats] : parts) *place = std::exchange(next, next + floats);
    drh = dc;  // cotangent of r h, in a cell of two phases: none has a memory too
    if (backward && Cell::two_phases) std::fill(drh, drh + state, 0.f);
    std::fill(special, special + width, 0.f);
    std::fill(special + width, special + 2 * width, NAN);
    masked_x_rows = row_list(masked_x, D, 0, p.x_masks * many);
    masked_h_rows = row_list(masked_h, HP, 0, p.h_masks * many);
    x_rows.resize(many);
    locate(0);
  }

  // What K steps of n rows find: s, the states before each step and after the last, r h.
  static int64_t chunk_floats(const Problem& p, int64_t n, int64_t K) {
    const int64_t HP = padded(p.H);
    return n * (K * (S * HP + W) + (K + 1) * HP * STATES + K * HP * Cell::two_phases);
  }

  void forward() {
    each_state([&](float* state, int64_t i) { begin(state, i ? p.c0 : p.h0); });
    const int64_t chunk = p.options.chunk;
    for (int64_t first = 0, steps; first < p.T; first += steps) {
      steps = std::min({K, p.T - first, chunk - first % chunk});
      const int64_t m = rows(first);
      if (first && first == alike) each_state([&](float* state, int64_t) {
        for (int64_t r = 1; r < n; ++r) std::memcpy(state + r * HP, state, HP * 4);
      });
      if (first % chunk == 0) each_state([&](float* state, int64_t i) { finish(kept(first, i), state, m); });
      run(first, steps, true);
      const float* last[] = {h + steps * m * HP, c + steps * m * HP};
      if (left) locate(first + K);
      each_state([&](float* state, int64_t i) { std::memmove(state, last[i], m * HP * 4); });
    }
    each_state([&](float* state, int64_t i) { finish(i ? p.c1 : p.h1, state, rows(p.T - 1)); });
  }

  // Adds this task's gradients of the weights to `sums`: panels [D, G HP] of W and [H, G HP] of
  // U, [S HP] of the bias. `dx` [B, T, dx_width] gets the gradients of what was read of x, or
  // of the table, at each place; in steps that are `alike` only the first row's, for all.
  void backward(float* sums, float* dx) {
    both(dh, dc, [&](float* d, int64_t i) { begin(d, i ? p.dc1 : p.dh1); });
    for (int64_t chunk = p.chunks(); chunk--;) {
      const int64_t first = chunk * K, steps = std::min(K, p.T - first);
      if (first < alike && first + steps >= alike) both(dh, dc, [&](float* d, int64_t) {
        for (int64_t r = 1; r < n; ++r) add(d, d + r * HP, HP);  // from here on one row stands for all
      });
      locate(first);
      if (!left) each_state([&](float* state, int64_t i) { begin(state, kept(first, i)); });
      const bool any = left ? look_up(first, steps) : run(first, steps, false);
      for (int64_t k = 0; k < steps && any && left; ++k) mask_state(k, rows(first));
      for (int64_t k = steps; k--;) back_step(first + k, k, rows(first), any);
      if (any) collect(first, steps, sums, dx);
      else if (dx && !p.ids) for (int64_t i = 0; i < steps * n; ++i)  // others are not added up
        std::fill_n(dx + place(i % n, first + i / n) * D, D, 0.f);
    }
    both(dh, dc, [&](float* d, int64_t i) {
      if (alike) std::fill(d + HP, d + n * HP, 0.f);  // counted in the first row
      finish(i ? p.dc0 : p.dh0, d, n);
    });
  }

  // Numbers of a row of `backward`'s dx.
  static int64_t dx_width(const Problem& p) { return p.table ? G * padded(p.H) : p.D; }

 private:
  // Where forward leaves nothing behind, few steps have room in the cache with many rows.
  int64_t few(int64_t chunk) const { return std::min(chunk, (128 + n - 1) / n); }
  // Points s, h, c and r h at the chunk that begins with a step.
  void locate(int64_t first) {
    const int64_t many = K * n;
    s = left && first < p.T ? left + first / K * chunk_floats(p, n, K) : own;
    h = s + many * stride;
    c = h + (many + n) * HP;
    reset_h = c + Cell::memory * (many + n) * HP;
    s_rows = row_list(s, stride, 0, many);
    h_rows = row_list(h, HP, 0, many + n);
    reset_rows = row_list(reset_h, HP, 0, Cell::two_phases * many);
  }
  int64_t rows(int64_t first) const { return first < alike ? 1 : n; }
  int64_t place(int64_t r, int64_t step) const {
    return place_in_order(r, p.options.go_backwards ? p.T - 1 - step : step);
  }
  int64_t place_in_order(int64_t r, int64_t step) const {
    return p.options.time_first ? step * p.B + b0 + r : (b0 + r) * p.T + step;
  }
  bool real(int64_t r, int64_t step) const { return !p.mask || p.mask[place(r, step)]; }
  bool any_real(int64_t step) const {
    for (int64_t r = 0; r < n; ++r)
      if (real(r, step)) return true;
    return false;
  }
  float* kept(int64_t first, int64_t state) {
    return p.kept + (first / p.options.chunk * STATES + state) * p.B * H;
  }
  template <class F> static void both(float* of_h, float* of_c, F f) {
    f(of_h, 0);
    if (Cell::memory) f(of_c, 1);
  }
  template <class F> void each_state(F f) { both(h, c, f); }
  // The rows of this task of an array [B, H] or of zeros; and back, from m rows or one for all.
  void begin(float* to, const float* from) {
    for (int64_t r = 0; r < n; ++r, to += HP) {
      if (from) std::memcpy(to, from + (b0 + r) * H, H * 4);
      std::fill(to + (from ? H : 0), to + HP, 0.f);
    }
  }
  void finish(float* to, const float* from, int64_t m) {
    for (int64_t r = 0; r < n; ++r) std::memcpy(to + (b0 + r) * H, from + (m == 1 ? 0 : r) * HP, H * 4);
  }
  static void add(float* to, const float* from, int64_t size) {
    for (int64_t i = 0; i < size; i += W) store(to + i, load(to + i) + load(from + i));
  }
  // to[i] = from[i] times the mask of row r for gate g, for H or D numbers.
  static void times(float* to, const float* from, const float* mask, int64_t size) {
    for (int64_t i = 0; i < size; ++i) to[i] = from[i] * mask[i];
  }
  static void add_times(float* to, const float* from, const float* mask, int64_t size, bool on_top) {
    for (int64_t i = 0; i < size; ++i) to[i] = (on_top ? to[i] : 0.f) + from[i] * mask[i];
  }
  const float* mask_of_h(int64_t g, int64_t r) const { return p.h_mask + ((p.h_masks > 1 ? g : 0) * p.B + b0 + r) * H; }
  const float* mask_of_x(int64_t g, int64_t r) const { return p.x_mask + ((p.x_masks > 1 ? g : 0) * p.B + b0 + r) * D; }
  // Inputs of a chunk as group g takes them, and states as gate g takes them.
  Rows x_of(int64_t g) const {
    if (!p.x_masks) return x_rows.data();
    return masked_x_rows.data() + (p.x_masks > 1 ? Cell::x_order[g] : 0) * K * n;
  }
  Rows h_of(int64_t g) const {
    if (Cell::two_phases && g == 2) return reset_rows.data();
    if (!p.h_masks) return h_rows.data();
    return masked_h_rows.data() + (p.h_masks > 1 ? g : 0) * K * n;
  }
  // f(first, last) for the gates in runs that take the same rows.
  template <class F> static void by_runs(int first, int last, bool apart, F f) {
    if (!apart) f(first, last);
    else for (int g = first; g < last; ++g) f(g, g + 1);
  }

  // The inputs of a chunk; whether any of its steps is real.
  bool look_up(int64_t first, int64_t steps) {
    const int64_t m = rows(first), total = steps * m;
    bool any = false;
    for (int64_t k = 0; k < steps && !any; ++k) any = any_real(first + k);
    if (!any) return false;
    for (int64_t i = 0; i < total; ++i) {
      const int64_t r = i % m, at = place(r, first + i / m);
      const float* from = p.table ? p.table : p.x;
      if (!real(r, first + i / m)) x_rows[i] = special;
      else if (!p.ids) x_rows[i] = from + at * width;
      else if (p.ids[at] < 0 || p.ids[at] >= p.V) x_rows[i] = special + width;
      else x_rows[i] = from + p.ids[at] * width;
      for (int64_t g = 0; g < p.x_masks; ++g)
        times(masked_x + (g * K * n + i) * D, x_rows[i], mask_of_x(g, r), D);
    }
    return true;
  }

  // The sums of a chunk without the state's part; with a table they are there already.
  void project(int64_t total) {
    const float* bias = w.bias.data();
    by_runs(0, G, p.x_masks > 1, [&](int g, int e) {
      multiply(total, x_of(g), 0, w.W, g * HP, e * HP, [&](int64_t) { return bias + g * HP; }, s + g * HP, stride);
    });
  }
  Rows projected() const { return (p.table ? x_rows : s_rows).data(); }

  // Runs the steps of a chunk from the carry at the start of h and c; what it leaves
  // behind is the carry before each step and after the last, and in s what the cell
  // wants for the way back. Returns whether any step was real.
  bool run(int64_t first, int64_t steps, bool emit) {
    const int64_t m = rows(first);
    const bool any = look_up(first, steps);
    if (any && !p.table) project(steps * m);
    for (int64_t k = 0; k < steps; ++k) {
      const int64_t step = first + k;
      if (p.reset) for (int64_t r = 0; r < m; ++r)
        if (p.reset[place(r, step)]) each_state([&](float* state, int64_t) {
          std::fill(state + (k * m + r) * HP, state + (k * m + r + 1) * HP, 0.f);
        });
      const bool runs = any && any_real(step);
      // The gradients of U take all rows of a chunk, those of other steps times zero.
      if (any) mask_state(k, m);
      if (Cell::two_phases && any && !runs)
        std::fill(reset_h + k * m * HP, reset_h + (k + 1) * m * HP, 0.f);
      // A block of rows at a time: its sums stay in the first cache.
      for (int64_t r = 0, end = 0; r < m; ++r) {
        const int64_t i = k * m + r;
        if (r == end) {
          end = m - r < BLOCK + 3 ? m : r + BLOCK;
          if (runs) add_state(i, r, end - r);
        }
        if (p.table && any && i + BLOCK < steps * m) prefetch(x_rows[i + BLOCK], width);
        const bool now = runs && real(r, step);
        if (now && usual) step_row(UsualKinds{}, i, i + m);
        else if (now) step_row(kinds, i, i + m);
        else each_state([&](float* state, int64_t) {
          std::memcpy(state + (i + m) * HP, state + i * HP, HP * 4);
        });
        if (emit && p.ys) for (int64_t b = r; b < (m == n ? r + 1 : n); ++b) {
          // Outputs are in the order of processing.
          float* y = p.ys + place_in_order(b, step) * H;
          if (now || !p.options.zero_output_for_mask) std::memcpy(y, h + (i + m) * HP, H * 4);
          else std::fill(y, y + H, 0.f);
        }
      }
    }
    return any;
  }

  void mask_state(int64_t k, int64_t m) {
    for (int64_t g = 0; g < p.h_masks; ++g) for (int64_t r = 0; r < m; ++r)
      times(masked_h + ((g * K * n) + k * m + r) * HP, h + (k * m + r) * HP, mask_of_h(g, r), H);
  }

  void add_state(int64_t i, int64_t r, int64_t m) {  // for m rows: i in s, r in the task
    Rows without = projected() + i;
    constexpr int LAST = G == 3 ? 2 : G;  // gates together; a third needs r h, or has the bias alone
    auto add = [&](int g, int e) {
      const int64_t at = (Cell::h_first + g) * HP;
      auto from = [&](int64_t row) { return (Cell::h_first + g < G ? without[row] : w.bias.data()) + at; };
      multiply(m, h_of(g) + i, 0, w.U, g * HP, e * HP, from, s + i * stride + at, stride);
    };
    by_runs(0, LAST, p.h_masks > 1, add);
    for (int64_t row = 0; row < m && Cell::two_phases; ++row) reset_row(i + row, r + row);
    if (LAST < G) add(LAST, G);
  }

  // f(sums of row i, place) for all units, some groups at a time, which may be changed. Those
  // of groups that take no state come from `x`.
  template <int GROUPS, class F> void each_unit(int64_t i, const float* x, F f) {
    float* sums = s + i * stride;
    for (int64_t u = 0; u < HP; u += W) {
      Vector v[GROUPS];
      for (int g = 0; g < GROUPS; ++g) v[g] = load((g < Cell::h_first ? x : sums) + g * HP + u);
      f(v, u);
      for (int g = 0; g < GROUPS; ++g) store(sums + g * HP + u, v[g]);
    }
  }

  template <class K> void step_row(K kinds, int64_t i, int64_t to) {
    each_unit<S>(i, projected()[i], [&](Vector* v, int64_t u) {
      Vector y = load(h + i * HP + u), memory = Cell::memory ? load(c + i * HP + u) : Vector{};
      for (int g = 0; g < S && !Cell::two_phases; ++g) v[g] = Cell::gate(kinds, g, v[g]);
      Cell::combine(kinds, v, y, memory);
      store(h + to * HP + u, y);
      if (Cell::memory) store(c + to * HP + u, memory);
    });
  }

  void reset_row(int64_t i, int64_t r) {
    float* out = reset_h + i * HP;
    each_unit<2>(i, nullptr, [&](Vector* v, int64_t u) {
      for (int g : {0, 1}) v[g] = Cell::gate(kinds, g, v[g]);
      store(out + u, v[1] * load(h + i * HP + u));
    });
    if (p.h_masks) times(out, out, mask_of_h(2, r), H);
  }

  // out = (add ? out : 0) + the gradients d of gates [first, last) of a step times U^T,
  // times the masks.
  void through_state(int64_t k, int64_t m, int first, int last, float* out, bool adds) {
    Rows d = s_rows.data() + k * m;
    by_runs(first, last, p.h_masks > 1, [&](int g, int e) {
      float* to = p.h_masks ? some : out;
      const bool on_top = adds && !p.h_masks;
      multiply(m, d, (Cell::h_first + g) * HP, w.U_back, 0, HP,
               [&](int64_t r) { return on_top ? out + r * HP : nullptr; }, to, HP, g * HP, e * HP);
      for (int64_t r = 0; r < m && p.h_masks; ++r)
        add_times(out + r * HP, some + r * HP, mask_of_h(g, r), H, adds || g > first);
    });
  }

  // What the gradients of a chunk's sums give for weights and inputs, for all its steps.
  void collect(int64_t first, int64_t steps, float* sums, float* dx) {
    const int64_t m = rows(first), total = steps * m;
    float *dW = sums, *dU = dW + D * G * HP, *db = dU + H * G * HP;
    if (!p.table) by_runs(0, G, p.x_masks > 1, [&](int g, int e) {
      add_outer(total, x_of(g), D, s, stride, G * HP, g * HP, e * HP, dW);
    });
    const float* d = s + Cell::h_first * HP;
    auto add_states = [&](int g, int e) { add_outer(total, h_of(g), H, d, stride, G * HP, g * HP, e * HP, dU); };
    by_runs(0, G - Cell::two_phases, p.h_masks > 1, add_states);
    if (Cell::two_phases) add_states(2, 3);
    for (int64_t i = 0; i < total; ++i) add(db, s + i * stride, S * HP);
    if (!dx) return;
    const int64_t DP = padded(D);
    const int64_t wide = dx_width(p);
    auto to = [&](int64_t i) { return dx + place(i % m, first + i / m) * wide; };
    for (int64_t i = 0; i < total && p.table; ++i)
      std::memcpy(to(i), s + i * stride, wide * 4);
    if (!p.table) by_runs(0, G, p.x_masks > 1, [&](int g, int e) {
      multiply(total, s_rows.data(), g * HP, w.W_back, 0, DP, nothing, dxs, DP, g * HP, e * HP);
      for (int64_t i = 0; i < total; ++i) {
        if (p.x_masks) add_times(to(i), dxs + i * DP, mask_of_x(Cell::x_order[g], i % m), D, g > 0);
        else std::memcpy(to(i), dxs + i * DP, D * 4);
      }
    });
  }

  // From the cotangents after a step to those before it; its part of s becomes the
  // gradients of the sums, which are `read` unless no step of the chunk is real.
  void back_step(int64_t step, int64_t k, int64_t m, bool read) {
    const bool runs = any_real(step);
    for (int64_t r = 0; r < m; ++r) {
      const int64_t i = k * m + r;
      const bool now = runs && real(r, step);
      if (p.dys && (now || !p.options.zero_output_for_mask))
        for (int64_t b = r; b < (m == n ? r + 1 : n); ++b) {
          const float* dy = p.dys + place_in_order(b, step) * H;
          for (int64_t u = 0; u < H; ++u) dh[r * HP + u] += dy[u];
        }
      if (now && usual) back_row(UsualKinds{}, i, r);
      else if (now) back_row(kinds, i, r);
      else if (read) std::fill(s + i * stride, s + (i + 1) * stride, 0.f);
    }
    if (runs) {
      if constexpr (Cell::two_phases) {
        through_state(k, m, 2, 3, drh, false);
        for (int64_t r = 0; r < m; ++r) if (real(r, step)) each_unit<2>(k * m + r, nullptr, [&](Vector* v, int64_t u) {
          Vector dy = load(dh + r * HP + u), before = load(h + (k * m + r) * HP + u);
          Cell::reset_backward(kinds, v, before, load(drh + r * HP + u), dy);
          store(dh + r * HP + u, dy);
        });
      }
      through_state(k, m, 0, G - Cell::two_phases, dh, true);
    }
    const bool cut = p.options.bptt_steps && step && step % p.options.bptt_steps == 0;
    for (int64_t r = 0; r < m; ++r) if (cut || (p.reset && p.reset[place(r, step)]))
      both(dh, dc, [&](float* d, int64_t) { std::fill_n(d + r * HP, HP, 0.f); });
  }

  template <class K> void back_row(K kinds, int64_t i, int64_t r) {
    each_unit<S>(i, s_rows[i], [&](Vector* v, int64_t u) {
      Vector dy = load(dh + r * HP + u), memory{}, dm{};
      if (Cell::memory) memory = load(c + i * HP + u), dm = load(dc + r * HP + u);
      Cell::backward(kinds, v, load(h + i * HP + u), memory, dy, dm);
      store(dh + r * HP + u, dy);
      if (Cell::memory) store(dc + r * HP + u, dm);
    });
  }

  const Problem& p;
  const Weights<Cell>& w;
  const int64_t b0, n, D, H, HP, K, stride, width;  // stride: of s, no power of two
  const Kinds kinds;
  const bool usual = kinds.activation == TANH && kinds.gate == SIGMOID;
  const int64_t alike;
  float* const left;
  Scratch memory;
  float *own, *s, *h, *c, *masked_x, *masked_h, *reset_h, *some, *dh, *dc, *drh, *dxs, *special;
  std::vector<const float*> s_rows, h_rows, x_rows, masked_x_rows, masked_h_rows, reset_rows;
};

// out[id] = the sum of rows[place] over the places of each id, in the order of places: a
// slice of the vocabulary a piece of work, so no two write one row.
struct Scatter {
  // The places by id; left out are steps that are not real, ids outside [0, V), and in
  // steps that are alike all rows of a task but its first.
  explicit Scatter(const Problem& p) : p(p), starts(p.V + 1) {
    const int64_t rows = p.rows();
    std::vector<int64_t> alike;
    for (int64_t b0 = 0; b0 < p.B; b0 += rows) alike.push_back(p.alike_steps(b0));
    auto counts = [&](int64_t at) {
      const int64_t b = at / p.T, t = at % p.T, step = p.options.go_backwards ? p.T - 1 - t : t;
      const bool known = p.ids[at] >= 0 && p.ids[at] < p.V, real = !p.mask || p.mask[at];
      return known && real && (b % rows == 0 || step >= alike[b / rows]);
    };
    for (int64_t at = 0; at < p.B * p.T; ++at) if (counts(at)) ++starts[p.ids[at] + 1];
    for (int64_t v = 0; v < p.V; ++v) starts[v + 1] += starts[v];
    places.resize(starts[p.V]);
    std::vector<int64_t> next(starts.begin(), starts.end() - 1);
    for (int64_t at = 0; at < p.B * p.T; ++at) if (counts(at)) places[next[p.ids[at]]++] = at;
  }
  // Rows of `width` numbers; calls done(first, last) of the ids of the slice.
  template <class F>
  void add(int64_t slice, int64_t slices, const float* rows, int64_t width, float* out, F done) const {
    const int64_t first = border(slice, slices), last = border(slice + 1, slices);
    for (int64_t v = first; v < last; ++v) {
      float* to = out + v * width;
      std::fill(to, to + width, 0.f);
      for (int64_t i = starts[v]; i < starts[v + 1]; ++i) {
        if (i + AHEAD < starts[p.V]) prefetch(rows + places[i + AHEAD] * width, width);
        const float* from = rows + places[i] * width;
        for (int64_t j = 0; j < width; ++j) to[j] += from[j];
      }
    }
    done(first, last);
  }
  int64_t border(int64_t slice, int64_t slices) const {
    int64_t v = 0;
    while (v < p.V && (v + starts[v]) * slices < (p.V + starts[p.V]) * slice) ++v;
    return v;
  }
  const Problem& p;
  std::vector<int64_t> starts, places;
};

template <class Cell>
std::vector<Weights<Cell>> pack(const Threads& threads, const std::vector<Problem>& problems, bool backward) {
  std::vector<Weights<Cell>> weights(problems.size());
  deal(threads, problems.size(), [&](int64_t m) { weights[m] = Weights<Cell>(problems[m], backward); });
  return weights;
}

// Tables for the models that want one, which are all or none.
template <class Cell>
Scratch make_tables(const Threads& threads, const std::vector<Weights<Cell>>& weights,
                    std::vector<Problem>& problems, bool filled) {
  const Problem& like = problems[0];
  const int64_t width = Cell::gates * padded(like.H);
  const int64_t models = problems.size(), pieces = 8;
  if (!like.wants_table(Cell::gates)) return Scratch(0);
  Scratch tables(models * like.V * width);
  if (filled) deal(threads, models * pieces, [&](int64_t i) {
    const Problem& p = problems[i / pieces];
    const int64_t first = p.V * (i % pieces) / pieces, last = p.V * (i % pieces + 1) / pieces;
    const auto rows = row_list(p.x, p.D, first, last);
    const float* bias = weights[i / pieces].bias.data();
    float* out = tables.data() + (i / pieces * p.V + first) * width;
    multiply(last - first, rows.data(), 0, weights[i / pieces].W, 0, width, [&](int64_t) { return bias; }, out, width);
  });
  for (int64_t m = 0; m < models; ++m) problems[m].table = tables.data() + m * like.V * width;
  return tables;
}

// Floats that all tasks of a model leave behind, each the same.
template <class Cell> int64_t left_floats(const Problem& p) {
  return p.tasks() * p.chunks() * Task<Cell>::chunk_floats(p, p.rows(), p.options.chunk);
}
// Where a model's ticket lies, behind the carries.
template <class Cell> float* ticket(const Problem& p) {
  return p.kept + p.chunks() * p.B * (1 + Cell::memory) * p.H;
}

// One step of few rows, as in a stream, by the weights as they lie, to the same bits: to pack
// them, to share the work and to make room would take ten times as long. Whether it was one.
template <class Cell> bool one_step(const Problem& p) {
  constexpr int G = Cell::gates, S = Cell::groups, MOST = 256;
  const int64_t H = p.H, D = p.D;
  const bool options = p.mask || p.reset || p.x_masks || p.h_masks || !p.h0 || (Cell::memory && !p.c0);
  const bool small = p.T == 1 && p.B <= 4 && p.B * D <= 4 * MOST && H <= MOST && H % W == 0;
  if (!small || options || Cell::two_phases) return false;
  for (int64_t b = 0; b < p.B; ++b) if (p.ids && (p.ids[b] < 0 || p.ids[b] >= p.V)) return false;
  const Kinds kinds{int(p.options.activation), int(p.options.gate)};
  float s[S * MOST];
  // Adds to a group's sums a row times a gate's columns of a kernel.
  auto add = [&](float* to, const float* row, int64_t K, const float* columns) {
    for (int64_t u = 0; u < H;) {
      auto a = [&](int64_t k, int) { return row[k]; };
      auto b = [&](int64_t k) { return columns + k * G * H + u; };
      auto from = [&](int) { return to + u; };
      if (H - u >= 4 * W) tile<1, 4>(K, a, b, from, to + u, 0), u += 4 * W;
      else tile<1, 1>(K, a, b, from, to + u, 0), u += W;
    }
  };
  for (int64_t row = 0; row < p.B; ++row) {
    const float *x = p.x + (p.ids ? p.ids[row] : row) * D, *h = p.h0 + row * H;
    const float* c = Cell::memory ? p.c0 + row * H : h;
    std::fill(s, s + S * H, 0.f);
    Weights<Cell>::add_bias(p, s);
    for (int g = 0; g < G; ++g) add(s + g * H, x, D, p.W + Cell::x_order[g] * H);
    for (int g = 0; g < G; ++g) add(s + (Cell::h_first + g) * H, h, H, p.U + g * H);
    for (int64_t u = 0; u < H; u += W) {
      Vector v[S], y = load(h + u), memory = load(c + u);
      for (int g = 0; g < S; ++g) v[g] = Cell::gate(kinds, g, load(s + g * H + u));
      Cell::combine(kinds, v, y, memory);
      store(p.h1 + row * H + u, y);
      if (p.ys) store(p.ys + row * H + u, y);
      if (Cell::memory) store(p.c1 + row * H + u, memory);
    }
    std::memcpy(p.kept + row * H, h, H * 4);
    if (Cell::memory) std::memcpy(p.kept + (p.B + row) * H, c, H * 4);
  }
  float* none = ticket<Cell>(p);
  std::fill(none, none + 2 * H, 0.f);
  return true;
}

template <class Cell>
void forward(const Threads& threads, std::vector<Problem> problems, bool leaves) {
  if (problems.size() == 1 && !leaves && one_step<Cell>(problems[0])) return;
  const auto weights = pack<Cell>(threads, problems, false);
  const Scratch tables = make_tables<Cell>(threads, weights, problems, true);
  const int64_t tasks = problems[0].tasks(), size = left_floats<Cell>(problems[0]);
  std::vector<Scratch> left;
  leaves = leaves && size * int64_t(problems.size()) <= Scratch::KEPT * 3 / 4;
  for (size_t m = 0; m < problems.size(); ++m) left.emplace_back(leaves ? size : 0);
  deal(threads, tasks * problems.size(), [&](int64_t i) {
    const int64_t m = i / tasks, t = i % tasks;
    float* place = leaves ? left[m].data() + size / tasks * t : nullptr;
    Task<Cell>(problems[m], weights[m], t, false, place).forward();
  });
  for (size_t m = 0; m < problems.size(); ++m) {
    float* place = ticket<Cell>(problems[m]);
    std::fill(place, place + 2 * problems[m].H, 0.f);  // no NaN that jax.debug_nans would find
    left[m].leave(place);
  }
}

template <class Cell> void backward(const Threads& threads, std::vector<Problem> problems) {
  const auto weights = pack<Cell>(threads, problems, true);
  std::vector<Scratch> sums, left;
  bool runs = false;  // some steps again, which read the tables
  for (const Problem& p : problems) {
    left.emplace_back(left_floats<Cell>(p), ticket<Cell>(p));
    runs = runs || !left.back().data();
  }
  const Scratch tables = make_tables<Cell>(threads, weights, problems, runs);
  const Problem& like = problems[0];
  const int64_t tasks = like.tasks(), G = Cell::gates, HP = padded(like.H), D = like.D, H = like.H;
  const int64_t wide = G * HP, size = (D + H) * wide + Cell::groups * HP;
  const int64_t models = problems.size(), places = like.B * like.T, pieces = 8;
  const int64_t width = Task<Cell>::dx_width(like);
  const bool looks_up = like.ids && (like.dx || like.table);
  for (int64_t i = 0; i < tasks * models; ++i) sums.emplace_back(size);
  Scratch rows(looks_up ? models * places * width : 0);
  deal(threads, tasks * models, [&](int64_t i) {
    const int64_t model = i / tasks;
    const Problem& p = problems[model];
    std::fill(sums[i].data(), sums[i].data() + size, 0.f);
    float* place = left[model].data();
    if (place) place += left_floats<Cell>(p) / tasks * (i % tasks);
    Task<Cell>(p, weights[model], i % tasks, true, place)
        .backward(sums[i].data(), looks_up ? rows.data() + model * places * width : p.dx);
  });
  std::vector<std::unique_ptr<Scatter>> scatters(models);
  if (looks_up) deal(threads, models, [&](int64_t m) { scatters[m] = std::make_unique<Scatter>(problems[m]); });
  Scratch dtables(like.table ? models * like.V * wide : 0);
  deal(threads, pieces * models, [&](int64_t i) {
    const int64_t model = i / pieces, piece = i % pieces;
    const Problem& p = problems[model];
    float* dtable = dtables.data() + (p.table ? model * p.V * wide : 0);
    if (looks_up)
      scatters[model]->add(piece, pieces, rows.data() + model * places * width, width,
                           p.table ? dtable : p.dx, [&](int64_t first, int64_t last) {
        if (!p.table || !p.dx || first == last) return;
        // A whole vector of columns is written: the last row has room beside.
        const int64_t DP = padded(D);
        Scratch out((last - first) * DP);
        const auto d = row_list(dtable, wide, first, last);
        multiply(last - first, d.data(), 0, weights[model].W_back, 0, DP, nothing, out.data(), DP);
        for (int64_t v = first; v < last; ++v)
          std::memcpy(p.dx + v * D, out.data() + (v - first) * DP, D * 4);
      });
    float* total = sums[model * tasks].data();
    const int64_t from = size / W * piece / pieces * W, to = size / W * (piece + 1) / pieces * W;
    for (int64_t task = 1; task < tasks; ++task) {
      const float* part = sums[model * tasks + task].data();
      for (int64_t j = from; j < to; j += W) store(total + j, load(total + j) + load(part + j));
    }
  });
  // The gradient of W from that of the table, some columns a piece.
  const int64_t panels = (wide + PANEL - 1) / PANEL;
  if (like.table) deal(threads, models * panels, [&](int64_t i) {
    const Problem& p = problems[i / panels];
    const int64_t m = i % panels * PANEL;
    const auto x = row_list(p.x, D, 0, p.V);
    add_outer(p.V, x.data(), D, dtables.data() + i / panels * p.V * wide, wide, wide, m,
              std::min<int64_t>(m + PANEL, wide), sums[i / panels * tasks].data());
  });
  for (int64_t model = 0; model < models; ++model) {
    const Problem& p = problems[model];
    const float* total = sums[model * tasks].data();
    auto unpack = [&](int64_t K, const int* order, float* to) {
      for (int64_t k = 0; k < K; ++k) for (int g = 0; g < G; ++g)
        for (int64_t u = 0; u < H; u += W)
          std::memcpy(to + k * G * H + (order ? order[g] : g) * H + u,
                      total + in_panels(K, wide, k, g * HP + u), std::min<int64_t>(W, H - u) * 4);
      total += K * wide;
    };
    unpack(D, Cell::x_order, p.dW);
    unpack(H, nullptr, p.dU);
    if (p.dbias) for (int g = 0; g < G; ++g) {
      std::memcpy(p.dbias + Cell::x_order[g] * H, total + g * HP, H * 4);
      if (Weights<Cell>::two_biases)
        std::memcpy(p.dbias + G * H + g * H, total + (Cell::h_first + g) * HP, H * 4);
    }
  }
}

}  // namespace seqjax
