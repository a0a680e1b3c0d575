// XLA's side of the recurrence: what it hands over becomes `Problem`s.
#include <string>

#include "recur.h"
#include "xla/ffi/api/ffi.h"

namespace seqjax {
namespace {

namespace ffi = xla::ffi;

// Operands and results, in the order in which those that are given come; the names, the
// order and `Header` are those of kernels.py. Each has the number of models in front, or
// 1 where all share it.
enum Name { X, U, WX, BIAS, IDS, H0, C0, MASK, RESET, X_MASK, H_MASK, KEPT, DYS, DH1, DC1, NAMES };
const char* const names[] = {"x",    "recurrent_kernel", "kernel", "bias",   "ids",
                             "h",    "c",                "mask",   "reset",  "x_mask",
                             "h_mask", "kept",           "dys",    "dh",     "dc"};
struct Header {
  int64_t cell, given, wanted;  // that forward leaves its steps; backward: dx
  Options options;
};

struct Call {
  int64_t models = 1;
  Problem problem{};  // the first model's
  struct Part {
    int64_t size = 0;  // floats, ids or flags to the next model; 0: all share it
    const void* data = nullptr;
  } parts[NAMES];
  std::string error;

  Call(const Header& header, ffi::RemainingArgs args, int64_t gates, bool two_biases, bool memory) {
    size_t next = 0;
    ffi::Span<const int64_t> shapes[NAMES];
    for (int i = 0; i < NAMES; ++i) if (header.given >> i & 1) {
      auto buffer = args.get<ffi::AnyBuffer>(next++);
      shapes[i] = buffer->dimensions();
      parts[i].data = buffer->untyped_data();
      const bool floats = i != IDS && i != MASK && i != RESET;
      const auto type = floats ? ffi::F32 : i == IDS ? ffi::S32 : ffi::PRED;
      if (buffer->element_type() != type || shapes[i].size() < 2) refuse(i);
      else if (shapes[i][0] != 1) models = shapes[i][0];
      int64_t size = 1;
      for (size_t d = 1; d < shapes[i].size(); ++d) size *= shapes[i][d];
      parts[i].size = shapes[i][0] == 1 ? 0 : size;
    }
    if (!error.empty()) return;
    Problem& p = problem;
    const auto& x = shapes[X];
    const auto& places = parts[IDS].data ? shapes[IDS] : x;
    if (places.size() < 3 || shapes[U].size() != 3) {
      refuse(X);
      return;
    }
    const bool time_first = header.options.time_first;
    p.B = places[1 + time_first];
    p.T = places[2 - time_first];
    p.V = x[1];
    p.D = x[x.size() - 1];
    p.H = shapes[U][1];
    p.options = header.options;
    const int64_t B = p.B, T = p.T, H = p.H, G = gates * H, states = 1 + memory;
    p.x_masks = parts[X_MASK].data ? shapes[X_MASK][1] : 0;
    p.h_masks = parts[H_MASK].data ? shapes[H_MASK][1] : 0;
    const int64_t chunks = p.chunks();
    const bool looks_up = parts[IDS].data;
    const int64_t first = time_first ? T : B, second = time_first ? B : T;
    const int64_t none = -1, expected[][3] = {
        {looks_up ? p.V : first, looks_up ? p.D : second, looks_up ? none : p.D}, {H, G, none}, {p.D, G, none},
        {1 + two_biases, G, none}, {first, second, none}, {B, H, none}, {B, H, none},
        {first, second, none}, {first, second, none},
        {p.x_masks, B, p.D}, {p.h_masks, B, H}, {chunks * B * states + 2, H, none}, {B * T, H, none},
        {B, H, none}, {B, H, none}};
    for (int i = 0; i < NAMES; ++i) if (parts[i].data || shapes[i].size()) {
      const int rank = expected[i][2] == none ? 2 : 3;
      const bool fits = int(shapes[i].size()) == rank + 1 &&
                        std::equal(expected[i] + (i == KEPT), expected[i] + rank, shapes[i].begin() + 1 + (i == KEPT)) &&
                        shapes[i][1] >= expected[i][0];  // what is kept may have room for more
      if (!fits || (shapes[i][0] != 1 && shapes[i][0] != models)) refuse(i);
    }
    for (auto masks : {p.x_masks, p.h_masks}) if (masks > 1 && masks != gates) refuse(H_MASK);
  }

  void refuse(int i) { error += std::string(error.empty() ? "" : "; ") + names[i] + " does not fit"; }

  template <class T = float> const T* part(int i, int64_t model) const {
    return static_cast<const T*>(parts[i].data) + (parts[i].data ? model * parts[i].size : 0);
  }

  // `results` are those of all models, each [models, ...].
  std::vector<Problem> problems() const {
    std::vector<Problem> all(models, problem);
    for (int64_t m = 0; m < models; ++m) {
      Problem& p = all[m];
      p.x = part(X, m), p.U = part(U, m), p.W = part(WX, m), p.bias = part(BIAS, m);
      p.h0 = part(H0, m), p.c0 = part(C0, m);
      p.x_mask = part(X_MASK, m), p.h_mask = part(H_MASK, m);
      p.ids = part<int32_t>(IDS, m);
      p.mask = part<uint8_t>(MASK, m), p.reset = part<uint8_t>(RESET, m);
      p.kept = const_cast<float*>(part(KEPT, m));
      p.dys = part(DYS, m), p.dh1 = part(DH1, m), p.dc1 = part(DC1, m);
    }
    return all;
  }
};

// The next result, for every model; null stays null for results that are not there.
struct Results {
  ffi::RemainingRets rets;
  size_t next = 0;
  void put(std::vector<Problem>& problems, float* Problem::*field) {
    auto buffer = rets.get<ffi::AnyBuffer>(next++);
    float* data = static_cast<float*>((*buffer)->untyped_data());
    const int64_t size = (*buffer)->element_count() / problems.size();
    for (size_t m = 0; m < problems.size(); ++m) problems[m].*field = data + m * size;
  }
};

template <class F> ffi::Error by_cell(int64_t cell, F f) {  // as `CELLS` in problem.py
  if (cell == 0) return f(SimpleRnn{});
  if (cell == 1) return f(Lstm{});
  return cell == 2 ? f(Gru{}) : f(GruResetBefore{});
}

template <bool back> ffi::Error Run(ffi::ThreadPool pool, ffi::Span<const int64_t> attribute,
                                    ffi::RemainingArgs args, ffi::RemainingRets rets) {
  static_assert(sizeof(Header) == 10 * sizeof(int64_t));
  if (attribute.size() != 10) return ffi::Error::InvalidArgument("recurrence: wrong header");
  const Header& header = *reinterpret_cast<const Header*>(attribute.begin());
  const Threads threads{pool.num_threads(), [&](auto work) { pool.Schedule(std::move(work)); }};
  return by_cell(header.cell, [&](auto cell) {
    typedef decltype(cell) Cell;
    Call call(header, args, Cell::gates, Weights<Cell>::two_biases, Cell::memory);
    if (!call.error.empty()) return ffi::Error::InvalidArgument("recurrence: " + call.error);
    std::vector<Problem> problems = call.problems();
    Results results{rets};
    auto put = [&](bool given, float* Problem::*field) { if (given) results.put(problems, field); };
    const bool sequences = rets.size() > 2 + Cell::memory;
    if constexpr (!back) {
      put(true, &Problem::h1);
      put(Cell::memory, &Problem::c1);
      put(true, &Problem::kept);
      put(sequences, &Problem::ys);
      forward<Cell>(threads, problems, header.wanted);
    } else {
      put(true, &Problem::dU);
      put(true, &Problem::dW);
      put(problems[0].bias, &Problem::dbias);
      put(true, &Problem::dh0);
      put(Cell::memory, &Problem::dc0);
      put(header.wanted, &Problem::dx);
      backward<Cell>(threads, problems);
    }
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace seqjax

#define BINDING                                                                  \
  xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()                              \
      .Attr<xla::ffi::Span<const int64_t>>("header").RemainingArgs().RemainingRets()
#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeqjaxForward, seqjax::Run<false>, BINDING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(SeqjaxBackward, seqjax::Run<true>, BINDING);
#pragma GCC visibility pop

#if defined(__x86_64__)
#include <cpuid.h>
#endif

// Whether this processor, and the system, know the instructions of this build.
extern "C" __attribute__((visibility("default"))) int SeqjaxRunsHere() {
#if defined(__x86_64__)
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;  // OSXSAVE
  const bool fma = c >> 12 & 1;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (!fma || (low & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (!(b >> 5 & 1)) return 0;  // AVX2
#if defined(__AVX512F__)
  const unsigned needed = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  return (low & 0xe6) == 0xe6 && (b & needed) == needed;  // F, DQ, CD, BW, VL
#endif
#endif
  return 1;
}
