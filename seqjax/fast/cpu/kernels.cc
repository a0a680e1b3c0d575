// XLA's side of the recurrence: what it hands over becomes `Problem`s.
#include "recur.h"
#include "xla/ffi/api/ffi.h"

namespace seqjax {
namespace {

namespace ffi = xla::ffi;

// As `_header` in kernels.py has it, which has seen that every array is of these sizes.
struct Header {
  int64_t cell, given, wanted, models;  // wanted: that forward leaves its steps; backward: dx
  Sizes sizes;
  Options options;
};

template <class F> ffi::Error by_cell(int64_t cell, F f) {  // as `CELLS` in problem.py
  if (cell == 0) return f(SimpleRnn{});
  if (cell == 1) return f(Lstm{});
  return cell == 2 ? f(Gru{}) : f(GruResetBefore{});
}

template <bool back> ffi::Error Run(ffi::ThreadPool pool, ffi::Span<const int64_t> attribute,
                                    ffi::RemainingArgs args, ffi::RemainingRets rets) {
  if (attribute.size() * sizeof(int64_t) != sizeof(Header))
    return ffi::Error::InvalidArgument("the CPU kernels are of another version: run seqjax/fast/cpu/build.py");
  const Header& header = *reinterpret_cast<const Header*>(attribute.begin());
  const Threads threads{pool.num_threads(), [&](auto work) { pool.Schedule(std::move(work)); }};
  std::vector<Problem> problems(header.models, Problem{header.sizes, header.options});
  // Every buffer has the number of models in front, or 1 where all share it.
  auto set = [&](auto field, const ffi::AnyBuffer& buffer) {
    const int64_t models = buffer.dimensions()[0], size = models == 1 ? 0 : buffer.element_count() / models;
    for (int64_t m = 0; m < header.models; ++m) {
      auto& pointer = problems[m].*field;
      pointer = static_cast<std::decay_t<decltype(pointer)>>(buffer.untyped_data()) + m * size;
    }
  };
  size_t name = 0, operand = 0, result = 0;
  auto take = [&](auto... fields) {
    ((header.given >> name++ & 1 ? set(fields, *args.get<ffi::AnyBuffer>(operand++)) : void()), ...);
  };
  auto give = [&](bool is_result, auto field) {
    if (is_result) set(field, **rets.get<ffi::AnyBuffer>(result++));
  };
  // Operands, and results, in the order in which those that are given come: kernels.py's.
  take(&Problem::x, &Problem::U, &Problem::W, &Problem::bias, &Problem::ids, &Problem::h0, &Problem::c0,
       &Problem::mask, &Problem::reset, &Problem::x_mask, &Problem::h_mask, &Problem::kept,
       &Problem::dys, &Problem::dh1, &Problem::dc1);
  return by_cell(header.cell, [&](auto cell) {
    typedef decltype(cell) Cell;
    if constexpr (!back) {
      give(true, &Problem::h1);
      give(Cell::memory, &Problem::c1);
      give(true, &Problem::kept);
      give(rets.size() > 2 + Cell::memory, &Problem::ys);
      forward<Cell>(threads, problems, header.wanted);
    } else {
      give(true, &Problem::dU);
      give(true, &Problem::dW);
      give(problems[0].bias, &Problem::dbias);
      give(true, &Problem::dh0);
      give(Cell::memory, &Problem::dc0);
      give(header.wanted, &Problem::dx);
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
