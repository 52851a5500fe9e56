#ifndef TWINWALK_HARNESS_PROCESSOR_TWO_DIMENSIONS_BED_H_
#define TWINWALK_HARNESS_PROCESSOR_TWO_DIMENSIONS_BED_H_

// For tests: flat physical memory, and tables of both dimensions built by hand.
//
//   hpa 0x100000  second dimension's tables, root first
//   hpa 0x200000  the guest's memory: gpa 0 on
//   gpa 0x010000  the guest's tables, root first

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "harness/processor/guest_processor.h"

namespace twinwalk::processor {

class FlatMemory final : public PhysicalMemory {
 public:
  static constexpr std::uint64_t kBytes = 16 << 20;
  FlatMemory() : words_(kBytes / 8) {}

  bool holds(std::uint64_t hpa) const override { return hpa < kBytes; }
  std::uint64_t load(std::uint64_t hpa, unsigned size) override {
    std::uint64_t value = 0;
    if (hpa + size <= kBytes) std::memcpy(&value, at(hpa), size);
    return value;
  }
  void store(std::uint64_t hpa, unsigned size, std::uint64_t value) override {
    if (hpa + size <= kBytes) std::memcpy(at(hpa), &value, size);
  }
  bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                        std::uint64_t desired) override {
    if (load(hpa, size) != expected) return false;
    store(hpa, size, desired);
    return true;
  }
  std::uint64_t load_nested(std::uint64_t hpa) override { return load(hpa, 8); }
  bool update_nested(std::uint64_t hpa, std::uint64_t expected, std::uint64_t desired) override {
    return compare_exchange(hpa, 8, expected, desired);
  }
  std::uint64_t& word(std::uint64_t hpa) { return words_.at(hpa / 8); }

 private:
  char* at(std::uint64_t hpa) { return reinterpret_cast<char*>(words_.data()) + hpa; }
  std::vector<std::uint64_t> words_;
};

class TwoDimensionsTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kRoot = 0x100000, kGuestRam = 0x200000, kCr3 = 0x10000,
                                 kPresent = 1, kWritable = 2, kUser = 4, kSize = 128, kGlobal = 256,
                                 kNoExecute = bit(63), kPwu = 7;
  static constexpr std::uint64_t kRwx = 7, kWb = 6 << 3, kEptLeaf = kRwx | kWb;
  static constexpr std::uint64_t kEptAccessed = 256, kEptDirty = 512;
  static constexpr std::uint64_t kGva = 0x4000'5000, kData = 0x40000;  // gpa

  TwoDimensionsTest() : processor(memory) { start(Machine{}); }

  // EPT with accessed and dirty flags, 4 levels; 64 pages of the guest's memory, mapped one by one.
  void start(const Machine& m) {
    machine = m;
    memory = FlatMemory{};
    processor.reset(machine);
    next_table = kRoot + 4096;
    next_guest_table = kCr3 + 4096;
    controls = {};
    controls.registers = initial_registers(machine);
    controls.registers.cr3 = kCr3;
    controls.registers.efer |= machine.has(feature::kNx) ? efer::kNxe : 0;
    controls.nested.kind = NestedFormat::Kind::kEpt;
    controls.nested.vpid = 1;
    with_flags(true);
    for (std::uint64_t gpa = 0; gpa < 0x80000; gpa += 4096)
      nested(gpa) = kGuestRam + gpa | kEptLeaf;
  }
  void with_flags(bool on) {
    const bool five = machine.host_levels == 5;
    controls.nested.pointer = kRoot | 6 | (five ? 4 : 3) << 3 | (on ? 64 : 0);
  }
  // The same with NPT of the machine's levels.
  void start_npt(Machine m) {
    m.vendor = Vendor::kAmd;
    start(m);
    memory = FlatMemory{};
    next_table = kRoot + 4096;
    controls.nested.kind = NestedFormat::Kind::kNpt;
    controls.nested.pointer = kRoot;
    for (std::uint64_t gpa = 0; gpa < 0x80000; gpa += 4096) nested(gpa) = kGuestRam + gpa | kPwu;
  }

  // The entry of the second dimension that translates `gpa` at `level`; tables made on the way.
  std::uint64_t& nested(std::uint64_t gpa, unsigned level = 1) {
    const bool npt = controls.nested.kind == NestedFormat::Kind::kNpt;
    const unsigned levels = npt ? machine.host_levels : machine.host_levels == 5 ? 5 : 4;
    std::uint64_t table = kRoot;
    for (unsigned l = levels;; --l) {
      std::uint64_t& e = memory.word(table + (gpa >> (12 + 9 * (l - 1)) & 511) * 8);
      if (l == level) return e;
      if (!(e & 7)) {
        // Bit 10 counts with MBEC alone.
        e = next_table | (npt && levels == 3 && l == 3 ? kPresent : npt ? kPwu : kRwx | bit(10));
        next_table += 4096;
      }
      table = e & 0x000f'ffff'ffff'f000;
    }
  }
  // hpa of the guest's entry for `gva` at `level` in its mode, tables made on the way.
  std::uint64_t guest_entry(std::uint64_t gva, unsigned level = 1) {
    const GuestFormat& f = kGuestFormats[guest_mode(controls.registers)];
    std::uint64_t table = controls.registers.cr3 & f.root;
    for (unsigned l = f.levels;; --l) {
      const std::uint64_t at = kGuestRam + f.entry_at(table, gva, l);
      if (l == level) return at;
      if (!(memory.load(at, f.entry_bytes) & 1)) {
        memory.store(at, f.entry_bytes, next_guest_table | (f.levels == 3 && l == 3 ? 1 : kPwu));
        next_guest_table += 4096;
      }
      table = memory.load(at, f.entry_bytes) & 0x000f'ffff'ffff'f000;
    }
  }
  std::uint64_t guest(std::uint64_t gva, unsigned level = 1) {
    return memory.load(guest_entry(gva, level), entry_bytes());
  }
  void map(std::uint64_t gva, std::uint64_t entry, unsigned level = 1) {
    memory.store(guest_entry(gva, level), entry_bytes(), entry);
  }
  unsigned entry_bytes() const { return kGuestFormats[guest_mode(controls.registers)].entry_bytes; }
  // gpa of the guest's table that has the entry.
  std::uint64_t table_gpa(std::uint64_t gva, unsigned level) {
    return (guest_entry(gva, level) - kGuestRam) & ~std::uint64_t{4095};
  }

  GuestResult run(std::uint64_t gva, AccessKind kind = AccessKind::kRead, std::uint64_t value = 0,
                  std::uint8_t size = 8) {
    GuestResult result;
    processor.access(controls, {gva, size, kind, false, value}, result);
    last = result;
    return result;
  }
  // "ok 0xvalue", "gp", "#PF code", "violation 0xqualification gpa", ...
  std::string text(const GuestResult& r) const {
    const auto hex = [](std::uint64_t v) {
      char digits[24];
      std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(v));
      return std::string(digits);
    };
    switch (r.kind) {
      case GuestResult::Kind::kDone:
        return "ok " + hex(r.value);
      case GuestResult::Kind::kPageFault:
        return "#PF " + std::to_string(r.error_code);
      case GuestResult::Kind::kGeneralProtection:
        return "gp";
      case GuestResult::Kind::kNoMemory:
        return "device " + hex(r.hpa[0]);
      case GuestResult::Kind::kExit:
        break;
    }
    switch (r.exit.kind) {
      case NestedExit::Kind::kEptViolation:
        return "violation " + hex(r.exit.qualification) + " " + hex(r.exit.gpa);
      case NestedExit::Kind::kEptMisconfig:
        return "misconfig " + hex(r.exit.gpa);
      case NestedExit::Kind::kNestedFault:
        return "#NPF " + hex(r.exit.qualification) + " " + hex(r.exit.gpa);
      case NestedExit::Kind::kPageLogFull:
        return "log full";
    }
    return "?";
  }
  std::string read(std::uint64_t gva = kGva) { return text(run(gva)); }
  std::string write(std::uint64_t gva = kGva) { return text(run(gva, AccessKind::kWrite, 1)); }
  std::string fetch(std::uint64_t gva = kGva) { return text(run(gva, AccessKind::kFetch)); }
  void fill(std::uint64_t gpa, std::uint64_t value) { memory.word(kGuestRam + gpa) = value; }

  Machine machine;
  FlatMemory memory;
  GuestProcessor processor;
  GuestControls controls;
  GuestResult last;
  std::uint64_t next_table = 0, next_guest_table = 0;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_TWO_DIMENSIONS_BED_H_
