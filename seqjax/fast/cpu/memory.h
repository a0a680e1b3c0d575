// Memory of the kernels that is kept from call to call: fresh pages cost a fault each.
#pragma once
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <utility>

#include "tiles.h"

namespace seqjax {

// Floats that nobody else has while this lives; whatever was in them is still there. A
// call may `leave` them to a later one by a ticket: it finds them, unless they had to go.
class Scratch {
 public:
  static constexpr int64_t KEPT = int64_t{256} << 20;  // floats in all: 1 GiB

  explicit Scratch(int64_t size) {
    if (!size) return;  // of none: null
    take([&](const Block& b) { return !b.ticket && b.size >= size && b.size <= 2 * size + 4096; });
    if (!data()) block_ = Block{std::unique_ptr<Line[]>(new Line[(size + 15) / 16]), size};
#ifdef SEQJAX_POISON  // for tests: what is read before it is written shows
    for (int64_t i = 0; i < size; ++i) data()[i] = __builtin_nanf("");
#endif
  }
  // What was left with a ticket, or null. It is gone then, for one has it alone.
  Scratch(int64_t size, const float* ticket) {
    uint32_t words[2];
    std::memcpy(words, ticket, 8);
    if (words[0] != pool().process || words[1] == NORMAL) return;
    take([&](const Block& b) { return b.ticket == words[1] && b.size >= size; });
  }
  ~Scratch() {
    if (data()) give_back(0);
  }
  Scratch(Scratch&&) = default;
  Scratch& operator=(Scratch&&) = default;  // to one of none
  float* data() { return reinterpret_cast<float*>(block_.lines.get()); }

  // Writes a ticket, two normal floats.
  void leave(float* ticket) {
    const uint32_t words[] = {pool().process, give_back(1)};
    std::memcpy(ticket, words, 8);
  }

 private:
  static constexpr uint32_t NORMAL = 1u << 29;
  struct Block {
    std::unique_ptr<Line[]> lines;
    int64_t size = 0;
    uint32_t ticket = 0;
  };
  struct Pool {
    std::mutex mutex;
    std::deque<Block> blocks;  // the oldest first
    int64_t size = 0;
    uint32_t last = NORMAL, process = std::random_device{}() % NORMAL | NORMAL;
  };
  static Pool& pool() {
    static Pool* pool = new Pool;  // never destroyed: threads may outlive main
    return *pool;
  }
  // The smallest block that fits, if there is one.
  template <class F> void take(F fits) {
    Pool& p = pool();
    std::lock_guard<std::mutex> lock(p.mutex);
    auto best = p.blocks.end();
    for (auto b = p.blocks.begin(); b != p.blocks.end(); ++b)
      if (fits(*b) && (best == p.blocks.end() || b->size < best->size)) best = b;
    if (best == p.blocks.end()) return;
    block_ = std::move(*best);
    p.blocks.erase(best);
    p.size -= block_.size;
  }
  uint32_t give_back(bool leaves) {
    Pool& p = pool();
    std::lock_guard<std::mutex> lock(p.mutex);
    if (!block_.lines) return NORMAL;  // a ticket for nothing
    block_.ticket = leaves ? p.last = (p.last + 1) % NORMAL | NORMAL : 0;
    p.size += block_.size;
    p.blocks.push_back(std::move(block_));
    const uint32_t ticket = p.blocks.back().ticket;
    for (; p.size > KEPT; p.blocks.pop_front()) p.size -= p.blocks.front().size;  // the system has it back
    return ticket;
  }
  Block block_;
};

}  // namespace seqjax
