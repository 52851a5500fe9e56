#include "kvm_runner/harness_image.h"

#include <cstring>

#include "kvm_runner/layout.h"
#include "kvm_runner/payload/payload.h"

namespace twinwalk::kvm {
namespace {

using namespace harness_page;

// Descriptors of 64-bit mode, accessed bit set so that loading them writes nothing. SDM 3A "Segment
// Descriptors".
constexpr std::uint64_t kKernelCode = 0x00af'9b00'0000'ffff, kData0 = 0x00cf'9300'0000'ffff,
                        kData3 = 0x00cf'f300'0000'ffff, kUserCode64 = 0x00af'fb00'0000'ffff;
constexpr std::uint16_t kKernelCs = 0x08, kKernelSs = 0x10, kUserSs = 0x18 | 3, kUserCs = 0x20 | 3,
                        kTssSelector = 0x28;
constexpr std::uint64_t kTssOffset = 0x200, kTssLimit = 0x67;

void put64(unsigned char* at, std::uint64_t value) { std::memcpy(at, &value, sizeof(value)); }

void build_tables(std::uint64_t* words) {
  const auto table = [&](unsigned page) { return words + page * (kPage / 8); };
  const std::uint64_t leaf = pte::kP | pte::kW | pte::kA | pte::kD;
  table(kPml4)[kRootIndex] = root_entry(4);
  table(kPdpt)[kHarnessLinear >> 30 & 511] = harness_gpa(kPd) | kTableBits;
  const unsigned first = kHarnessLinear >> 21 & 511;
  table(kPd)[first] = harness_gpa(kPt) | kTableBits;
  for (unsigned i = 0; i < kWindowTables; ++i)
    table(kPd)[first + 1 + i] = harness_gpa(kWindowPt + i) | kTableBits;
  for (unsigned page = 0; page < kCount; ++page) {
    table(kPt)[page] = harness_gpa(page) | leaf | (page == kUserCode ? pte::kU : 0);
  }
}

void build_idt(std::uint64_t* idt) {
  for (unsigned vector = 0; vector < 32; ++vector) {
    const std::uint64_t entry = harness_linear(kCode) + 8 * vector;
    const std::uint64_t dpl = vector == 3 ? 3 : 0;  // INT3 at CPL 3
    idt[2 * vector] = (entry & 0xffff) | std::uint64_t{kKernelCs} << 16 |
                      std::uint64_t{1} << 32 /* IST 1 */ | (0x8e | dpl << 5) << 40 |
                      (entry >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = entry >> 32;
  }
}

void build_cpu_page(unsigned char* page, unsigned index) {
  const std::uint64_t tss = harness_linear(kPerCpu + kPagesPerCpu * index) + kTssOffset;
  put64(page + kKernelCs, kKernelCode);
  put64(page + kKernelSs, kData0);
  put64(page + (kUserSs & ~7), kData3);
  put64(page + (kUserCs & ~7), kUserCode64);
  put64(page + kTssSelector,
        kTssLimit | (tss & 0xff'ffff) << 16 | std::uint64_t{0x8b} << 40 | (tss >> 24 & 0xff) << 56);
  put64(page + kTssSelector + 8, tss >> 32);
  put64(page + kTssOffset + 4, stack_top(index));   // RSP0
  put64(page + kTssOffset + 36, stack_top(index));  // IST 1
  page[kTssOffset + 102] = kTssLimit + 1;           // I/O map beyond the limit: none
}

void set_segment(kvm_segment& segment, std::uint16_t selector, std::uint8_t type, bool code) {
  segment = {};
  segment.selector = selector;
  segment.limit = 0xffff'ffff;
  segment.type = type;
  segment.present = segment.s = segment.g = 1;
  segment.dpl = selector & 3;
  segment.l = code;
  segment.db = !code;
}

}  // namespace

std::uint64_t stack_top(unsigned index) {
  return harness_linear(kPerCpu + kPagesPerCpu * index + 2);
}

void build_harness_image(std::uint64_t* words, unsigned vcpus) {
  build_tables(words);
  build_idt(words + kIdt * (kPage / 8));
  const auto code = payload_bytes(0), user_code = payload_bytes(3);
  std::memcpy(words + kCode * (kPage / 8), code.data(), code.size());
  std::memcpy(words + kUserCode * (kPage / 8), user_code.data(), user_code.size());
  for (unsigned i = 0; i < vcpus; ++i) {
    build_cpu_page(
        reinterpret_cast<unsigned char*>(words + (kPerCpu + kPagesPerCpu * i) * (kPage / 8)), i);
  }
}

void set_ring(kvm_sregs& sregs, std::uint8_t cpl) {
  set_segment(sregs.cs, cpl == 0 ? kKernelCs : kUserCs, 11, true);
  for (kvm_segment* s : {&sregs.ss, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs}) {
    set_segment(*s, cpl == 0 ? kKernelSs : kUserSs, 3, false);
  }
}

void set_descriptor_registers(kvm_sregs& sregs, unsigned index) {
  set_ring(sregs, 0);
  const std::uint64_t page = harness_linear(kPerCpu + kPagesPerCpu * index);
  sregs.gdt.base = page;
  sregs.gdt.limit = kTssSelector + 15;
  sregs.idt.base = harness_linear(kIdt);
  sregs.idt.limit = 32 * 16 - 1;
  sregs.tr = {};
  sregs.tr.selector = kTssSelector;
  sregs.tr.base = page + kTssOffset;
  sregs.tr.limit = kTssLimit;
  sregs.tr.type = 11;
  sregs.tr.present = 1;
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
}

}  // namespace twinwalk::kvm
