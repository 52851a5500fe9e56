// What the compiler and the C++ library call that a system would bring.

#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>

#include "harness/core/fiber_stack.h"
#include "harness/trace/binary_notes.h"
#include "kvm_runner/vmx_image/runtime/stop.h"

namespace {

[[noreturn]] void stop(const char* why) { twinwalk::vmx::stop(why); }

}  // namespace

// The names are not ours to choose. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
// Of a library's type; its address is all that matters.
void* __dso_handle = nullptr;
// Nothing here is ever destroyed.
int __cxa_atexit(void (*)(void*), void*, void*) { return 0; }
[[noreturn]] void __cxa_pure_virtual() { stop("a pure virtual function is called"); }
void __assert_fail(const char* what, const char*, unsigned, const char*) { stop(what); }
void abort() { stop("abort"); }
}

// What the library throws: there is nobody to catch it.
namespace std {
void __throw_bad_alloc() { stop("bad_alloc"); }
void __throw_bad_array_new_length() { stop("bad_array_new_length"); }
void __throw_length_error(const char* what) { stop(what); }
void __throw_logic_error(const char* what) { stop(what); }
void __throw_out_of_range(const char* what) { stop(what); }
void __throw_out_of_range_fmt(const char* what, ...) { stop(what); }
void __throw_bad_function_call() { stop("bad_function_call"); }
}  // namespace std

// NOLINTEND(bugprone-reserved-identifier)

namespace twinwalk {

std::uint8_t* take_fiber_stack() {
  return static_cast<std::uint8_t*>(::operator new(kFiberStackBytes));
}
void give_fiber_stack_back(std::uint8_t* stack) { ::operator delete(stack); }

// Programs come here without notes.
bool binary::keep_legal_notes(Trace& trace) {
  trace.requires_line.clear();
  trace.known.clear();
  trace.comments.clear();
  trace.expectations.clear();
  return false;
}

}  // namespace twinwalk
