// Forward and backward of every cell, in drawn shapes with drawn options, without JAX: for
// the sanitizers. Scratch memory is poisoned; the bits must not depend on the threads.
#define SEQJAX_POISON
#include <condition_variable>
#include <cstdio>
#include <queue>
#include <random>

#include "recur.h"

using namespace seqjax;

class Pool {
 public:
  explicit Pool(int number) {
    for (int i = 0; i < number; ++i) threads.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      over = true;
    }
    changed.notify_all();
    for (auto& thread : threads) thread.join();
  }
  void schedule(std::function<void()> f) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      jobs.push(std::move(f));
    }
    changed.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [this] { return over || !jobs.empty(); });
      if (jobs.empty()) return;
      auto job = std::move(jobs.front());
      jobs.pop();
      lock.unlock();
      job();
    }
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::queue<std::function<void()>> jobs;
  std::vector<std::thread> threads;
  bool over = false;
};

std::mt19937 generator(0);
int64_t draw(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}
std::vector<float> normal(int64_t size) {
  std::normal_distribution<float> distribution(0, 0.5f);
  std::vector<float> values(size);
  for (auto& v : values) v = distribution(generator);
  return values;
}
std::vector<uint8_t> flags(int64_t size, int percent) {
  std::vector<uint8_t> values(size);
  for (auto& v : values) v = draw(0, 99) < percent;
  return values;
}

template <class Cell> std::vector<std::vector<float>> results(Pool& pool, int number, unsigned seed, bool leaves) {
  generator.seed(seed);
  const bool stream = !draw(0, 3);  // one step of few rows, which has a way of its own
  const int64_t B = draw(1, stream ? 4 : 70), T = stream ? 1 : draw(1, 13), D = draw(1, 40);
  const int64_t H = stream ? 16 * draw(1, 6) : draw(1, 40), V = draw(0, 1) * draw(1, 90);
  const int64_t G = Cell::gates * H, states = 1 + Cell::memory, models = draw(1, 2);
  const auto x = normal(V ? V * D : B * T * D), W = normal(D * G), U = normal(H * G), bias = normal(2 * G);
  const auto h0 = normal(B * H), c0 = normal(B * H), dys = normal(B * T * H), dh = normal(B * H), dc = normal(B * H);
  std::vector<int32_t> ids(B * T);
  for (auto& id : ids) id = draw(0, 9) ? draw(0, std::max<int64_t>(V, 1) - 1) : draw(0, 1) ? -1 : 1 << 30;
  const auto mask = flags(B * T, draw(0, 2) * 50), reset = flags(B * T, 20);
  Problem p{};
  p.B = B, p.T = T, p.D = D, p.H = H, p.V = V;
  p.options = {draw(TANH, LINEAR), draw(0, 2) ? SIGMOID : HARD_SIGMOID, draw(0, 1), draw(0, 1), draw(0, 3), draw(1, 6), draw(0, 1)};
  p.x_masks = !stream * draw(0, 1) * (draw(0, 1) ? 1 : Cell::gates);
  p.h_masks = !stream * draw(0, 1) * (draw(0, 1) ? 1 : Cell::gates);
  const auto x_mask = normal(p.x_masks * B * D), h_mask = normal(p.h_masks * B * H);
  p.x = x.data(), p.W = W.data(), p.U = U.data(), p.x_mask = x_mask.data(), p.h_mask = h_mask.data();
  if (draw(0, 1)) p.bias = bias.data();
  if (draw(0, 1) || stream) p.h0 = h0.data(), p.c0 = c0.data();
  if (V) p.ids = ids.data();
  if (draw(0, 1) && !stream) p.mask = mask.data();
  if (draw(0, 1) && !stream) p.reset = reset.data();
  const bool sequences = draw(0, 1), wants_dx = draw(0, 1);
  std::vector<std::vector<float>> out;
  std::vector<Problem> problems;
  for (int64_t m = 0; m < models; ++m) {
    const int64_t sizes[] = {B * H, B * H, (p.chunks() * B * states + 2) * H, B * T * H, int64_t(x.size()), D * G, H * G, 2 * G, B * H, B * H};
    const size_t first = out.size();
    for (int64_t size : sizes) out.emplace_back(size, 0.f);
    problems.push_back(p);
    (void)first;
  }
  for (int64_t m = 0; m < models; ++m) {
    Problem& q = problems[m];
    float* at[10];
    for (int i = 0; i < 10; ++i) at[i] = out[10 * m + i].data();
    q.h1 = at[0], q.c1 = at[1], q.kept = at[2], q.ys = sequences ? at[3] : nullptr;
    q.dx = wants_dx ? at[4] : nullptr, q.dW = at[5], q.dU = at[6], q.dbias = q.bias ? at[7] : nullptr;
    q.dh0 = at[8], q.dc0 = at[9];
    q.dys = sequences ? dys.data() : nullptr, q.dh1 = draw(0, 1) ? dh.data() : nullptr,
    q.dc1 = draw(0, 1) ? dc.data() : nullptr;
  }
  const Threads threads{number, [&pool](std::function<void()> f) { pool.schedule(std::move(f)); }};
  forward<Cell>(threads, problems, leaves);
  backward<Cell>(threads, problems);
  for (int64_t m = 0; m < models; ++m)  // tickets: of this call alone
    for (int64_t i : {2 * H - 1, 2 * H}) out[10 * m + 2].end()[-i] = 0;
  if (!V) for (const auto& values : out) for (float v : values) if (!std::isfinite(v)) {
    std::printf("not finite: seed %u\n", seed);
    std::exit(1);
  }
  for (auto& values : out) for (float& v : values) if (std::isnan(v)) v = NAN;  // of one sign
  return out;
}

template <class Cell> void check(Pool& pool, unsigned seed) {
  // One thread that finds what forward left, and four that run the steps again.
  const auto one = results<Cell>(pool, 1, seed, true), four = results<Cell>(pool, 4, seed, false);
  for (size_t i = 0; i < one.size(); ++i)
    if (std::memcmp(one[i].data(), four[i].data(), one[i].size() * 4)) {
      std::printf("other bits with other threads: seed %u, array %zu\n", seed, i);
      std::exit(1);
    }
}

int main(int argc, char** argv) {
  Pool pool(3);
  const unsigned number = argc > 1 ? std::atoi(argv[1]) : 60;
  for (unsigned seed = 0; seed < number; ++seed) {
    check<SimpleRnn>(pool, seed);
    check<Lstm>(pool, seed);
    check<Gru>(pool, seed);
    check<GruResetBefore>(pool, seed);
  }
  std::puts("all good");
}
