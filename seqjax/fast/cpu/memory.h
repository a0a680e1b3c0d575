// Scratch memory that is kept from call to call: fresh pages would cost a fault each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace seqjax {

// Floats that nobody else has while this lives; whatever was in them is still there.
class Scratch {
 public:
  explicit Scratch(int64_t size) : block_(take(size)) {
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

}  // namespace seqjax
