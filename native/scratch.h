// Scratch memory that keeps its pages between calls: handing large blocks back to the system and faulting
// them in again would cost a training step more than its arithmetic.
#pragma once
#include <cstddef>

namespace undertow {

// Aligned to 64 bytes, not initialised. Where the system has none, idle blocks go back to it first; then throws
// std::runtime_error.
void* scratch_take(std::size_t bytes);
void scratch_give(void* block, std::size_t bytes) noexcept;
void scratch_release() noexcept;  // back to the system: all idle blocks now, and those in use when they are given

namespace {  // each instruction-set level has its own

template <class T>
class Scratch {
 public:
  explicit Scratch(std::ptrdiff_t count)
      : bytes_(sizeof(T) * static_cast<std::size_t>(count)), data_(static_cast<T*>(scratch_take(bytes_))) {}
  ~Scratch() { scratch_give(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  std::size_t bytes_;
  T* data_;
};

}  // namespace
}  // namespace undertow
