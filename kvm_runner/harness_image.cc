#include "kvm_runner/harness_image.h"

#include <cstring>
#include <utility>

#include "kvm_runner/payload/payload.h"
#include "kvm_runner/payload/payload32.h"

namespace twinwalk::kvm {
namespace {

using namespace harness_page;

// Flat segments, accessed bit set so that loading them writes nothing. SDM 3A "Segment
// Descriptors".
constexpr std::uint64_t kKernelCode = 0x00af'9b00'0000'ffff, kData0 = 0x00cf'9300'0000'ffff,
                        kData3 = 0x00cf'f300'0000'ffff, kUserCode64 = 0x00af'fb00'0000'ffff,
                        kKernelCode32 = 0x00cf'9b00'0000'ffff,
                        kUserCodeOf32 = 0x00cf'fb00'0000'ffff;
constexpr std::uint16_t kKernelCs = 0x08, kKernelSs = 0x10, kUserSs = 0x18 | 3, kUserCs = 0x20 | 3,
                        kTssSelector = 0x28, kKernelCs32 = 0x38, kUserCs32 = 0x40 | 3,
                        kTssSelector32 = 0x48, kGdtLimit = 0x4f;
static_assert(kUserSs == TWINWALK_SELECTOR_USER_SS && kUserCs == TWINWALK_SELECTOR_USER_CS);
constexpr std::uint64_t kTssOffset = 0x200, kTssOffset32 = 0x280, kTssLimit = 0x67;
// The second half of the page.
constexpr std::uint64_t kIdtOffset32 = 0x800;
constexpr std::uint64_t kBatchIdtOffset = 0x400;
constexpr unsigned kVectors = 32;

void put64(unsigned char* at, std::uint64_t value) { std::memcpy(at, &value, sizeof(value)); }

void put32(unsigned char* at, std::uint32_t value) { std::memcpy(at, &value, sizeof(value)); }

// The tables that pages and window have in common, and for each mode those above them.
void build_tables(const Layout& layout, std::uint64_t* words) {
  const auto table = [&](unsigned page) { return words + page * (kPage / 8); };
  const std::uint64_t leaf = pte::kP | pte::kW | pte::kA | pte::kD;
  const auto entry = [&](unsigned page) { return layout.gpa(page) | kTableBits; };
  const RunnerEntry pml4e = layout.entry_of(Mode::k4Level);
  table(kPml4)[kRootIndex] = pml4e.value;
  table(kPdpt)[kHarnessLinear >> 30 & 511] = entry(kPd);
  for (const auto& [directory, linear] :
       {std::pair{kPd, kHarnessLinear}, std::pair{kPdPae, layout.base}}) {
    std::uint64_t* first = table(directory) + (linear >> 21 & 511);
    first[0] = entry(kPt);
    for (unsigned i = 0; i < kWindowTables; ++i) first[1 + i] = entry(kWindowPt + i);
  }
  auto* table32 = reinterpret_cast<unsigned char*>(table(kPt32));
  for (unsigned page = 0; page < kCount; ++page) {
    const bool user = page == kUserCode || page == kUserCode32;
    const std::uint64_t pte = layout.gpa(page) | leaf | (user ? pte::kU : 0);
    table(kPt)[page] = pte;
    put32(table32 + std::size_t{4} * page, static_cast<std::uint32_t>(pte));
  }
}

// A gate of 64-bit mode to vector `vector` of the code in that page, on IST 1.
void put_gate(const Layout& layout, unsigned page, unsigned vector, std::uint64_t* gate) {
  const std::uint64_t entry = layout.linear(true, page) + 8 * vector;
  const std::uint64_t dpl = vector == 3 ? 3 : 0;  // INT3 at CPL 3
  gate[0] = (entry & 0xffff) | std::uint64_t{kKernelCs} << 16 | std::uint64_t{1} << 32 |
            (0x8e | dpl << 5) << 40 | (entry >> 16 & 0xffff) << 48;
  gate[1] = entry >> 32;
}

void build_idt(const Layout& layout, std::uint64_t* idt) {
  for (unsigned vector = 0; vector < kVectors; ++vector) {
    const std::uint64_t dpl = vector == 3 ? 3 : 0;
    put_gate(layout, kCode, vector, idt + 2 * vector);
    put_gate(layout, kBatchCode, vector, idt + kBatchIdtOffset / 8 + 2 * vector);
    const std::uint64_t entry32 = layout.linear(false, kCode32) + 8 * vector;
    idt[kIdtOffset32 / 8 + vector] = (entry32 & 0xffff) | std::uint64_t{kKernelCs32} << 16 |
                                     (0x8e | dpl << 5) << 40 | (entry32 >> 16 & 0xffff) << 48;
  }
}

constexpr std::uint64_t tss_descriptor(std::uint64_t base) {
  return kTssLimit | (base & 0xff'ffff) << 16 | std::uint64_t{0x8b} << 40 |
         (base >> 24 & 0xff) << 56;
}

void build_cpu_page(const Layout& layout, unsigned char* page, unsigned index) {
  const unsigned number = kPerCpu + kPagesPerCpu * index;
  const std::uint64_t tss = layout.linear(true, number) + kTssOffset;
  put64(page + kKernelCs, kKernelCode);
  put64(page + kKernelSs, kData0);
  put64(page + (kUserSs & ~7), kData3);
  put64(page + (kUserCs & ~7), kUserCode64);
  put64(page + kTssSelector, tss_descriptor(tss));
  put64(page + kTssSelector + 8, tss >> 32);
  put64(page + kTssOffset + 4, stack_top(layout, true, index));   // RSP0
  put64(page + kTssOffset + 36, stack_top(layout, true, index));  // IST 1
  page[kTssOffset + 102] = kTssLimit + 1;                         // I/O map beyond the limit: none
  put64(page + kKernelCs32, kKernelCode32);
  put64(page + (kUserCs32 & ~7), kUserCodeOf32);
  put64(page + kTssSelector32, tss_descriptor(layout.linear(false, number) + kTssOffset32));
  put32(page + kTssOffset32 + 4, static_cast<std::uint32_t>(stack_top(layout, false, index)));
  put32(page + kTssOffset32 + 8, kKernelSs);  // SS0
  page[kTssOffset32 + 102] = kTssLimit + 1;
}

void set_segment(kvm_segment& segment, std::uint16_t selector, std::uint8_t type, bool code64) {
  segment = {};
  segment.selector = selector;
  segment.limit = 0xffff'ffff;
  segment.type = type;
  segment.present = segment.s = segment.g = 1;
  segment.dpl = selector & 3;
  segment.l = code64;
  segment.db = !code64;
}

}  // namespace

std::uint64_t stack_top(const Layout& layout, bool long_mode, unsigned index) {
  return layout.linear(long_mode, kPerCpu + kPagesPerCpu * index + 2);
}

void build_harness_image(const Layout& layout, std::uint64_t* words, unsigned vcpus) {
  build_tables(layout, words);
  build_idt(layout, words + kIdt * (kPage / 8));
  const auto put_code = [&](unsigned page, std::span<const unsigned char> code) {
    std::memcpy(words + page * (kPage / 8), code.data(), code.size());
  };
  put_code(kCode, payload_bytes(0));
  put_code(kUserCode, payload_bytes(3));
  put_code(kBatchCode, batched_payload_bytes());
  put_code(kCode32, payload32_bytes(0));
  put_code(kUserCode32, payload32_bytes(3));
  for (unsigned i = 0; i < vcpus; ++i) {
    build_cpu_page(
        layout,
        reinterpret_cast<unsigned char*>(words + (kPerCpu + kPagesPerCpu * i) * (kPage / 8)), i);
  }
}

void set_ring(kvm_sregs& sregs, std::uint8_t cpl) {
  set_segment(sregs.cs, cpl == 0 ? kKernelCs : kUserCs, 11, true);
  for (kvm_segment* s : {&sregs.ss, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs}) {
    set_segment(*s, cpl == 0 ? kKernelSs : kUserSs, 3, false);
  }
}

// Data segments have DPL 3 for CPL 0, too: IRET to CPL 3 leaves them as they are.
void set_ring_0_of_32(kvm_sregs& sregs) {
  set_segment(sregs.cs, kKernelCs32, 11, false);
  set_segment(sregs.ss, kKernelSs, 3, false);
  for (kvm_segment* s : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs})
    set_segment(*s, kUserSs, 3, false);
}

void build_batch_context(const Layout& layout, unsigned index, BatchPage& page) {
  // Below what an exception of the interpreter itself would push.
  constexpr std::uint64_t kExceptionFrame = 0x100;
  constexpr static std::uint16_t kLimit = kVectors * 16 - 1;
  const auto put_descriptor = [](unsigned char* at, std::uint64_t base) {
    std::memcpy(at, &kLimit, sizeof(kLimit));
    put64(at + 2, base);
  };
  const std::uint64_t linear = layout.linear(true, kBatch), idt = layout.linear(true, kIdt);
  BatchContext& context = page.context;
  context = {};
  context.commands = linear + offsetof(BatchPage, commands);
  context.results = linear + offsetof(BatchPage, results);
  context.words = layout.linear(true, kBatchWords);
  context.exception_stack = stack_top(layout, true, index);
  context.stack = context.exception_stack - kExceptionFrame;
  put_descriptor(context.own_idt, idt + kBatchIdtOffset);
  put_descriptor(context.idt, idt);
}

UserFrame32 user_frame_32(std::uint64_t eip, std::uint64_t eflags) {
  return {static_cast<std::uint32_t>(eip), kUserCs32, static_cast<std::uint32_t>(eflags), 0,
          kUserSs};
}

void set_descriptor_registers(const Layout& layout, bool long_mode, kvm_sregs& sregs,
                              unsigned index) {
  if (long_mode) {
    set_ring(sregs, 0);
  } else {
    set_ring_0_of_32(sregs);
  }
  const std::uint64_t page = layout.linear(long_mode, kPerCpu + kPagesPerCpu * index);
  sregs.gdt.base = page;
  sregs.gdt.limit = kGdtLimit;
  sregs.idt.base = layout.linear(long_mode, kIdt) + (long_mode ? 0 : kIdtOffset32);
  sregs.idt.limit = kVectors * (long_mode ? 16 : 8) - 1;
  sregs.tr = {};
  sregs.tr.selector = long_mode ? kTssSelector : kTssSelector32;
  sregs.tr.base = page + (long_mode ? kTssOffset : kTssOffset32);
  sregs.tr.limit = kTssLimit;
  sregs.tr.type = 11;
  sregs.tr.present = 1;
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
}

}  // namespace twinwalk::kvm
