// The image: takes traces from its boot module, runs each on the core under VMX, says what came of
// it, line after line (harness/trace/serial_log.h), and switches the machine off.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/binary.h"
#include "harness/trace/program.h"
#include "harness/trace/reply.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/remote/answer.h"
#include "kvm_runner/vmx_image/boot/boot_info.h"
#include "kvm_runner/vmx_image/boot/descriptors.h"
#include "kvm_runner/vmx_image/core_vmx_subject.h"
#include "kvm_runner/vmx_image/processor.h"
#include "kvm_runner/vmx_image/runtime/console.h"
#include "kvm_runner/vmx_image/runtime/heap.h"
#include "kvm_runner/vmx_image/runtime/stop.h"

namespace twinwalk::vmx {
namespace {

using StartFunction = void (*)();
extern "C" {
extern unsigned char twinwalk_image_begin[], twinwalk_image_end[];
extern const StartFunction twinwalk_init_begin[], twinwalk_init_end[];
}

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kHeapShare = 3, kTableShare = 8;  // of memory: one in so many

void note(std::uint64_t number, std::string_view text) {
  say(to_log_text(LogWord::kNote, number, text));
}

// What is run, and what is kept from one program to the next.
class Runner {
 public:
  explicit Runner(Subject& subject) : subject_(subject) {}

  // Takes the traces of a module, line by line.
  void run_all(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      one(text.substr(0, end));
      text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
  }

 private:
  void one(std::string_view text) {
    const LogRead read = read_log_line(text, line_);
    if (read == LogRead::kDamaged) note(line_.number, "a damaged line of the module");
    if (read != LogRead::kWhole || line_.word != LogWord::kTrace) return;
    // What it is about to do, first: the log stands alone, and tells of what the machine died. The
    // line is whole, its sum included.
    say(text);
    say("\n");
    set_current_trace(line_.number);
    if (!from_base64(line_.text, bytes_) || !decode(bytes_, trace_).whole)
      return note(line_.number, "that is no trace");
    lowering_.lower(trace_, program_);
    remote::answer(subject_, program_, reply_);
    bytes_.clear();
    encode_reply(reply_, bytes_);
    say(to_log_line(LogWord::kRan, line_.number, bytes_));
  }

  Subject& subject_;
  LogLine line_;
  std::vector<std::uint8_t> bytes_;
  Trace trace_;
  Lowering lowering_;
  Program program_;
  Reply reply_;
};

std::string_view text_of(const Span& span) {
  return {reinterpret_cast<const char*>(span.begin), span.bytes()};
}

}  // namespace

extern "C" [[noreturn]] void twinwalk_main(std::uint32_t magic, const unsigned char* info) {
  open_console();
  const DescriptorTables tables = load_descriptor_tables();
  if (magic != kBootMagic) switch_off();  // nothing is known of memory
  const BootInfo boot(info);
  const Span own{reinterpret_cast<std::uint64_t>(twinwalk_image_begin),
                 reinterpret_cast<std::uint64_t>(twinwalk_image_end)};
  const Span memory = boot.largest_free(own, std::uint64_t{4} << 30);
  // A whole number of pages each; what is left of the heap's share is the arena's.
  const std::uint64_t pages = memory.bytes() / kPage, heap_pages = pages / kHeapShare;
  const std::uint64_t arena = memory.begin + heap_pages * kPage;
  open_heap(memory.begin, arena);
  for (const StartFunction* f = twinwalk_init_begin; f != twinwalk_init_end; ++f) (*f)();

  Processor processor;
  std::string why;
  if (!processor.open(tables, why)) stop(why);
  kvm::CoreArena::Place place{reinterpret_cast<unsigned char*>(arena), arena, 0, 0};
  place.table_bytes = pages / kTableShare * kPage;
  place.frame_bytes = (pages - heap_pages) * kPage - place.table_bytes;
  CoreVmxSubject subject(processor, place);
  say(to_log_text(LogWord::kHost, 0, remote::describe(subject.info())));
  Runner(subject).run_all(text_of(boot.module()));
  say(to_log_text(LogWord::kBye, 0, ""));
  switch_off();
}

}  // namespace twinwalk::vmx
