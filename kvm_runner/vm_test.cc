#include "kvm_runner/vm.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "harness/trace/content.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kBytes = 4 << 20, kRoot = 0x100000, kData = 0x200000;
constexpr std::uint64_t kGva = 0xffff'9234'0000'0000;
constexpr std::uint64_t kUser = pte::kP | pte::kW | pte::kU;

// A VM of 4 MiB whose root maps kGva to kData with 4 KiB pages.
class VmTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!host_.open(why)) GTEST_SKIP() << why;
    memory_ = static_cast<std::uint64_t*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
    word(kRoot + kRootEntryOffset) = kRootEntry;
    for (unsigned level = 4; level >= 1; --level) {
      const std::uint64_t next = level == 1 ? kData : kRoot + (5 - level) * kPage;
      word(entry_gpa(level)) = next | kUser;
    }
    machine_.vcpus = 2;
    Registers registers;
    vm_ = Vm::create(host_, machine_, {}, registers, why);
    ASSERT_NE(vm_, nullptr) << why;
    ASSERT_EQ(vm_->set_slot(0, 0, kBytes, memory_, 0), 0);
  }
  void TearDown() override {
    vm_.reset();
    if (memory_ != nullptr) munmap(memory_, kBytes);
  }
  std::uint64_t& word(std::uint64_t gpa) { return memory_[gpa / 8]; }
  static std::uint64_t entry_gpa(unsigned level) {
    return kRoot + (4 - level) * kPage + (kGva >> (12 + 9 * (level - 1)) & 511) * 8;
  }
  StubExit run(Stub stub, std::uint64_t rdi, std::uint64_t rsi = 0, std::uint8_t cpl = 0,
               unsigned vcpu = 0) {
    StubExit exit = vm_->run(vcpu, {stub, rdi, rsi, cpl, false});
    EXPECT_NE(exit.kind, StubExit::Kind::kBroken) << exit.why;
    return exit;
  }

  Host host_;
  Machine machine_;
  std::uint64_t* memory_ = nullptr;
  std::unique_ptr<Vm> vm_;
};

TEST_F(VmTest, LoadsEverySizeAtBothRings) {
  word(kData) = 0x8877'6655'4433'2211;
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    for (const unsigned size : {8u, 4u, 2u, 1u}) {
      const StubExit exit = run(sized(Stub::kLoad8, size), kGva + 8 - size, 0, cpl);
      EXPECT_EQ(exit.kind, StubExit::Kind::kDone);
      EXPECT_EQ(exit.rax, extract(word(kData), 8 - size, size))
          << "size " << size << " cpl " << int{cpl};
    }
  }
}

TEST_F(VmTest, StoresEverySizeAtBothRings) {
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    for (const unsigned size : {8u, 4u, 2u, 1u}) {
      word(kData) = 0;
      EXPECT_EQ(run(sized(Stub::kStore8, size), kGva, ~std::uint64_t{0}, cpl).kind,
                StubExit::Kind::kDone);
      EXPECT_EQ(word(kData), extract(~std::uint64_t{0}, 0, size))
          << "size " << size << " cpl " << int{cpl};
    }
  }
}

TEST_F(VmTest, ReadModifyWriteGivesTheOldValueAndAdds) {
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    for (const unsigned size : {8u, 4u, 2u, 1u}) {
      word(kData) = 0x20;
      const StubExit exit = run(sized(Stub::kRmw8, size), kGva, 0x11, cpl);
      EXPECT_EQ(exit.kind, StubExit::Kind::kDone);
      EXPECT_EQ(extract(exit.rax, 0, size), 0x20u) << "size " << size << " cpl " << int{cpl};
      EXPECT_EQ(word(kData), 0x31u);
    }
  }
}

TEST_F(VmTest, FetchOfSeedWordComesBackByBreakpoint) {
  word(kData + 0x40) = seed_word(kData + 0x40);
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    word(entry_gpa(1)) = kData | (cpl == 3 ? kUser : kUser & ~pte::kU);
    run(Stub::kInvlpg, kGva);
    const StubExit exit = run(Stub::kFetch, kGva + 0x40, 0, cpl);
    EXPECT_EQ(exit.kind, StubExit::Kind::kException);
    EXPECT_EQ(exit.vector, kVectorBp);
    EXPECT_EQ(exit.rip, kGva + 0x46);
    EXPECT_EQ(exit.rax, seed_word(kData + 0x40) >> 8 & 0xffff'ffff);
    vm_->zap_translations();
  }
}

TEST_F(VmTest, PageFaultReportsErrorCodeAndAddress) {
  word(entry_gpa(1)) = kData | pte::kP | pte::kU;
  const std::uint8_t rings[] = {0, 3};
  for (const std::uint8_t cpl : rings) {
    const StubExit exit = run(Stub::kStore8, kGva + 0x123, 1, cpl);
    EXPECT_EQ(exit.kind, StubExit::Kind::kException);
    EXPECT_EQ(exit.vector, kVectorPf);
    EXPECT_EQ(exit.error_code, pfec::kP | pfec::kW | (cpl == 3 ? pfec::kU : 0));
    EXPECT_EQ(exit.cr2, kGva + 0x123);
  }
}

TEST_F(VmTest, NonCanonicalAddressIsGp) {
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    const StubExit exit = run(Stub::kLoad8, 0x0001'0000'0000'0000, 0, cpl);
    EXPECT_EQ(exit.kind, StubExit::Kind::kException);
    EXPECT_EQ(exit.vector, kVectorGp);
  }
}

TEST_F(VmTest, AddressWithoutMemslotGoesToTheDevice) {
  word(entry_gpa(1)) = 0x4000'0000 | kUser;
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    const StubExit load = run(Stub::kLoad8, kGva + 0x18, 0, cpl);
    EXPECT_TRUE(load.device.seen);
    EXPECT_FALSE(load.device.write);
    EXPECT_EQ(load.device.gpa, 0x4000'0018u);
    EXPECT_EQ(load.rax, mmio_word(0x4000'0018));
    const StubExit store = run(Stub::kStore4, kGva + 0x20, 7, cpl);
    EXPECT_TRUE(store.device.write);
    EXPECT_EQ(store.device.gpa, 0x4000'0020u);
  }
}

TEST_F(VmTest, WindowStoresToGuestPhysicalMemory) {
  const std::uint64_t one = vm_->window(Mode::k4Level, kData >> 12, false);
  ASSERT_NE(one, 0u);
  EXPECT_EQ(vm_->window(Mode::k4Level, kData >> 12, false), one);
  run(Stub::kStore8, one + 0x10, 0xabcd);
  EXPECT_EQ(word(kData + 0x10), 0xabcdu);
  const std::uint64_t two = vm_->window(Mode::k4Level, kData >> 12, true);
  run(Stub::kStore8, two + kPage - 4, 0x1122'3344'5566'7788);
  EXPECT_EQ(word(kData + kPage) & 0xffff'ffff, 0x1122'3344u);
}

TEST_F(VmTest, ControlRegistersTakeLegalValuesAndFaultOnOthers) {
  const std::uint64_t cr0 = Registers{}.cr0;
  EXPECT_EQ(run(Stub::kWriteCr0, cr0 & ~cr0::kWp).kind, StubExit::Kind::kDone);
  EXPECT_EQ(vm_->sregs(0).cr0, cr0 & ~cr0::kWp);
  EXPECT_EQ(run(Stub::kWriteCr4, cr4::kPae | cr4::kPge).kind, StubExit::Kind::kDone);
  EXPECT_EQ(run(Stub::kWriteCr3, kRoot).kind, StubExit::Kind::kDone);
  EXPECT_EQ(run(Stub::kFlushAll, 0).kind, StubExit::Kind::kDone);
  EXPECT_EQ(vm_->sregs(0).cr4, cr4::kPae | cr4::kPge);
  const StubExit reserved = run(Stub::kWriteCr4, cr4::kPae | bit(30));
  EXPECT_EQ(reserved.kind, StubExit::Kind::kException);
  EXPECT_EQ(reserved.vector, kVectorGp);
}

TEST_F(VmTest, VcpusHaveStacksAndRegistersOfTheirOwn) {
  word(entry_gpa(1)) = 0;
  EXPECT_EQ(run(Stub::kLoad8, kGva, 0, 3, 1).vector, kVectorPf);
  EXPECT_EQ(run(Stub::kLoad8, kGva + 8, 0, 0, 0).cr2, kGva + 8);
  EXPECT_EQ(run(Stub::kLoad8, kGva + 16, 0, 3, 1).cr2, kGva + 16);
}

// Commands of a batch come back each with its own end, and the words that they asked for.
TEST_F(VmTest, BatchDoesOneCallAfterAnother) {
  const std::uint64_t window = vm_->window(Mode::k4Level, kData >> 12, false, true);
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    word(kData) = 5;
    std::vector<Vm::BatchedCall> calls = {
        {{Stub::kLoad8, kGva, 0, cpl, false}},
        {{Stub::kStore8, kGva, 7, cpl, false}, 1, 1},
        {{Stub::kLoad8, 0x0001'0000'0000'0000, 0, cpl, false}},
        {{Stub::kStore4, kGva + 0x5008, 1, cpl, false}, 0, 1},
        {{Stub::kReadCr3, 0, 0, 0, false}},
        {{Stub::kRmw8, kGva, 1, cpl, false}, 0, 1},
    };
    std::vector<std::uint64_t> words(4, window);
    std::vector<StubExit> exits;
    ASSERT_TRUE(vm_->run_batch(1, calls, words, exits)) << "cpl " << int{cpl};
    ASSERT_EQ(exits.size(), calls.size());
    EXPECT_EQ(exits[0].kind, StubExit::Kind::kDone);
    EXPECT_EQ(exits[0].rax, 5u);
    EXPECT_EQ(exits[1].kind, StubExit::Kind::kDone);
    EXPECT_EQ(exits[2].kind, StubExit::Kind::kException);
    EXPECT_EQ(exits[2].vector, kVectorGp);
    EXPECT_EQ(exits[3].vector, kVectorPf);
    EXPECT_EQ(exits[3].error_code, pfec::kW | (cpl == 3 ? pfec::kU : 0));
    EXPECT_EQ(exits[3].cr2, kGva + 0x5008);
    EXPECT_EQ(exits[4].rax, kRoot);
    EXPECT_EQ(exits[5].rax, 7u);
    EXPECT_EQ(words, (std::vector<std::uint64_t>{5, 7, 7, 8}));
    EXPECT_EQ(word(kData), 8u);
    // And one alone after it.
    EXPECT_EQ(run(Stub::kLoad8, kGva + 0x5008, 0, cpl, 1).vector, kVectorPf);
    EXPECT_EQ(run(Stub::kLoad8, kGva, 0, cpl, 1).rax, 8u);
  }
}

TEST_F(VmTest, BatchHasDevices) {
  word(entry_gpa(1)) = 0x4000'0000 | kUser;
  for (const std::uint8_t cpl : {std::uint8_t{0}, std::uint8_t{3}}) {
    std::vector<Vm::BatchedCall> calls = {{{Stub::kReadCr4, 0, 0, 0, false}},
                                          {{Stub::kLoad8, kGva + 0x18, 0, cpl, false}},
                                          {{Stub::kStore4, kGva + 0x20, 7, cpl, false}}};
    std::vector<StubExit> exits;
    ASSERT_TRUE(vm_->run_batch(0, calls, {}, exits));
    EXPECT_FALSE(exits[0].device.seen);
    EXPECT_EQ(exits[1].device.gpa, 0x4000'0018u);
    EXPECT_EQ(exits[1].rax, mmio_word(0x4000'0018));
    EXPECT_TRUE(exits[2].device.write);
    EXPECT_EQ(exits[2].device.gpa, 0x4000'0020u);
  }
}

TEST_F(VmTest, WatchdogEndsALoop) {
  word(kData) = 0xfeeb;  // jmp to itself
  EXPECT_EQ(run(Stub::kFetch, kGva, 0, 3).kind, StubExit::Kind::kHang);
}

}  // namespace
}  // namespace twinwalk::kvm
