// The image: takes traces from its boot module, runs each on the core under VMX, says what came of
// it, line after line (harness/trace/serial_log.h), and switches the machine off.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/binary.h"
#include "harness/trace/program.h"
#include "harness/trace/reply.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/vmx_image/boot/boot_info.h"
#include "kvm_runner/vmx_image/boot/descriptors.h"
#include "kvm_runner/vmx_image/runtime/console.h"
#include "kvm_runner/vmx_image/runtime/heap.h"
#include "kvm_runner/vmx_image/runtime/stop.h"
#include "kvm_runner/vmx_image/vmx/capabilities.h"

namespace twinwalk::vmx {
namespace {

using StartFunction = void (*)();
extern "C" {
extern unsigned char twinwalk_image_begin[], twinwalk_image_end[];
extern const StartFunction twinwalk_init_begin[], twinwalk_init_end[];
}

void note(std::uint64_t number, std::string_view text) {
  say(to_log_text(LogWord::kNote, number, text));
}

}  // namespace

extern "C" [[noreturn]] void twinwalk_main(std::uint32_t magic, const unsigned char* info) {
  open_console();
  const DescriptorTables tables = load_descriptor_tables();
  (void)tables;
  if (magic != kBootMagic) switch_off();  // nothing is known of memory
  const BootInfo boot(info);
  const Span own{reinterpret_cast<std::uint64_t>(twinwalk_image_begin),
                 reinterpret_cast<std::uint64_t>(twinwalk_image_end)};
  const Span memory = boot.largest_free(own, std::uint64_t{4} << 30);
  open_heap(memory.begin, memory.end);
  for (const StartFunction* f = twinwalk_init_begin; f != twinwalk_init_end; ++f) (*f)();
  Capabilities capabilities;
  std::string why;
  if (!read_capabilities(capabilities, why)) stop(why);
  say(to_log_text(LogWord::kHost, 0, describe(capabilities)));
  note(0, "memory " + std::to_string(memory.bytes()));
  say(to_log_text(LogWord::kBye, 0, ""));
  switch_off();
}

}  // namespace twinwalk::vmx
