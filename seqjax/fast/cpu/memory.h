// Scratch memory that is kept from call to call: fresh pages would cost a fault each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <utility>
#include <vector>

namespace seqjax {

// Floats that nobody else has while this lives; whatever was in them is still there.
class Scratch {
 public:
  explicit Scratch(int64_t size) : block_(size ? take(size) : Block{}) {  // of none: null
#ifdef SEQJAX_POISON  // for tests: what is read before it is written shows
    for (int64_t i = 0; i < size; ++i) block_.floats[i] = __builtin_nanf("");
#endif
  }
  ~Scratch() {
    if (block_.floats) give_back(std::move(block_));
  }
  Scratch(Scratch&& other) noexcept : block_(std::move(other.block_)) {}
  Scratch& operator=(Scratch&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  float* data() { return block_.floats.get(); }

 private:
  static constexpr int64_t KEPT = int64_t{64} << 20;  // floats in all: 256 MiB
  struct Block {
    std::unique_ptr<float[]> floats;
    int64_t size = 0;
  };
  struct Pool {
    std::mutex mutex;
    std::vector<Block> blocks;
    int64_t size = 0;
  };
  static Pool& pool() {
    static Pool* pool = new Pool;  // never destroyed: threads may outlive main
    return *pool;
  }
  static Block take(int64_t size) {
    Pool& p = pool();
    {
      std::lock_guard<std::mutex> lock(p.mutex);
      Block* best = nullptr;
      for (Block& b : p.blocks)
        if (b.size >= size && b.size <= 2 * size + 4096 && (!best || b.size < best->size))
          best = &b;
      if (best) {
        std::swap(*best, p.blocks.back());
        Block found = std::move(p.blocks.back());
        p.blocks.pop_back();
        p.size -= found.size;
        return found;
      }
    }
    return Block{std::unique_ptr<float[]>(new float[size]), size};
  }
  static void give_back(Block block) {
    Pool& p = pool();
    std::lock_guard<std::mutex> lock(p.mutex);
    if (p.size + block.size > KEPT) return;  // the system has it back
    p.size += block.size;
    p.blocks.push_back(std::move(block));
  }
  Block block_;
};

// What forward calls leave for their way back, by tickets of two finite floats. At most
// MOST floats, the oldest go first: who finds nothing runs the steps again, to the same
// bits. What is taken is gone, as the way back writes over it.
class Left {
 public:
  static constexpr int64_t MOST = int64_t{64} << 20;  // 256 MiB

  // Keeps the memory, if there is any, and writes a ticket.
  static void put(Scratch memory, int64_t size, float* ticket) {
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.mutex);
    const uint32_t words[] = {s.process, size ? ++s.last | NORMAL : NORMAL};
    std::memcpy(ticket, words, 8);
    if (!size) return;
    s.size += size;
    s.entries.push_back({words[1], size, std::move(memory)});
    while (s.size > MOST) {
      s.size -= s.entries.front().size;
      s.entries.pop_front();
    }
  }
  static Scratch take(const float* ticket, int64_t size) {
    Shelf& s = shelf();
    std::lock_guard<std::mutex> lock(s.mutex);
    uint32_t words[2];
    std::memcpy(words, ticket, 8);
    for (auto i = s.entries.begin(); words[0] == s.process && i != s.entries.end(); ++i)
      if (i->ticket == words[1] && i->size == size) {
        Scratch memory = std::move(i->memory);
        s.size -= size;
        s.entries.erase(i);
        return memory;
      }
    return Scratch(0);
  }

 private:
  static constexpr uint32_t NORMAL = 1u << 29;  // makes any small number a normal float
  struct Entry {
    uint32_t ticket;
    int64_t size;
    Scratch memory;
  };
  struct Shelf {
    std::mutex mutex;
    std::deque<Entry> entries;
    int64_t size = 0;
    uint32_t last = 0, process = (std::random_device{}() & (NORMAL - 1)) | NORMAL;
  };
  static Shelf& shelf() {
    static Shelf* shelf = new Shelf;
    return *shelf;
  }
};

}  // namespace seqjax
