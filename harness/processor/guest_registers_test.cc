#include "harness/processor/guest_registers.h"

#include <gtest/gtest.h>

namespace twinwalk::processor {
namespace {

using Answer = RegisterAnswer::Kind;
using Effect = TlbEffect::Kind;

class GuestRegistersTest : public testing::Test {
 protected:
  GuestRegistersTest() { machine.features = feature::kAll & ~feature::kSvm; }

  void in_mode(Mode mode) {
    machine.mode = mode;
    now = initial_registers(machine);
  }
  Answer write(Reg reg, std::uint64_t value) {
    const Registers before = now;
    const RegisterAnswer answer = write_guest_register(machine, now, reg, value);
    loads = answer.loads_pdptes;
    effect = {};
    if (answer.kind != Answer::kTaken) return answer.kind;
    now = answer.after;
    effect = effect_of_write(machine.vendor, before, now, reg, value);
    return answer.kind;
  }

  Machine machine;
  Registers now;
  bool loads = false;
  TlbEffect effect;
};

TEST_F(GuestRegistersTest, Cr0) {
  EXPECT_EQ(write(Reg::kCr0, cr0::kPg), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr0, now.cr0 | cr0::kNw), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr0, now.cr0 | bit(32)), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr0, now.cr0 & ~(cr0::kWp | cr0::kEt)), Answer::kTaken);
  EXPECT_TRUE(now.cr0 & cr0::kEt);
  EXPECT_EQ(effect.kind, Effect::kNone);
  now.cr4 |= cr4::kPcide;
  EXPECT_EQ(write(Reg::kCr0, cr0::kPe), Answer::kGeneralProtection);
  now.cr4 &= ~cr4::kPcide;
  EXPECT_EQ(write(Reg::kCr0, cr0::kPe), Answer::kTaken);
  EXPECT_EQ(now.efer & efer::kLma, 0u);
  EXPECT_EQ(effect.kind, Effect::kEverything);
  now.cr4 = 0;
  EXPECT_EQ(write(Reg::kCr0, cr0::kPe | cr0::kPg), Answer::kGeneralProtection);  // LME without PAE
  now.cr4 = cr4::kPae;
  EXPECT_EQ(write(Reg::kCr0, cr0::kPe | cr0::kPg), Answer::kTaken);
  EXPECT_TRUE(now.efer & efer::kLma);
}

TEST_F(GuestRegistersTest, Cr3) {
  EXPECT_EQ(write(Reg::kCr3, bit(40)), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr3, bit(63)), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr3, 0x5000), Answer::kTaken);
  EXPECT_EQ(effect.kind, Effect::kPcid);
  now.cr4 |= cr4::kPcide;
  EXPECT_EQ(write(Reg::kCr3, bit(63) | 0x6009), Answer::kTaken);
  EXPECT_EQ(now.cr3, 0x6009u);
  EXPECT_EQ(effect.kind, Effect::kNone);
  EXPECT_EQ(write(Reg::kCr3, 0x6007), Answer::kTaken);
  EXPECT_EQ(effect.pcid, 7u);
  in_mode(Mode::kPae);
  EXPECT_EQ(write(Reg::kCr3, bit(60) | 0x7020), Answer::kTaken);
  EXPECT_EQ(now.cr3, 0x7020u);
  EXPECT_TRUE(loads);
}

TEST_F(GuestRegistersTest, Cr4) {
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | bit(13)), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kCr4, 0), Answer::kGeneralProtection);  // PAE in long mode
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kLa57), Answer::kGeneralProtection);
  now.cr3 |= 1;
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kPcide), Answer::kGeneralProtection);
  now.cr3 &= ~std::uint64_t{1};
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kPcide), Answer::kTaken);
  EXPECT_EQ(effect.kind, Effect::kNone);
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae), Answer::kTaken);
  EXPECT_EQ(effect.kind, Effect::kEverything);
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kSmep | cr4::kSmap), Answer::kTaken);
  EXPECT_EQ(effect.kind, Effect::kEverything);
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kSmap), Answer::kTaken);
  EXPECT_EQ(effect.kind, Effect::kNone);
  machine.features &= ~feature::kSmep;
  EXPECT_EQ(write(Reg::kCr4, cr4::kPae | cr4::kSmep), Answer::kGeneralProtection);
}

TEST_F(GuestRegistersTest, AmdNamesKeysAndNotSmep) {
  machine.vendor = Vendor::kAmd;
  write(Reg::kCr4, cr4::kPae | cr4::kSmep);
  EXPECT_EQ(effect.kind, Effect::kNone);
  write(Reg::kCr4, cr4::kPae | cr4::kPke);
  EXPECT_EQ(effect.kind, Effect::kEverything);
}

TEST_F(GuestRegistersTest, PdptesAreLoadedByTheWritesThatTheManualNames) {
  in_mode(Mode::kPae);
  const std::uint64_t base = now.cr4;
  for (const std::uint64_t bits : {cr4::kPge, cr4::kPse, cr4::kSmep}) {
    write(Reg::kCr4, base | bits);
    EXPECT_TRUE(loads) << std::hex << bits;
    now.cr4 = base;
  }
  for (const std::uint64_t bits : {cr4::kSmap, cr4::kPke}) {
    write(Reg::kCr4, base | bits);
    EXPECT_FALSE(loads) << std::hex << bits;
    now.cr4 = base;
  }
  write(Reg::kCr0, now.cr0 ^ cr0::kWp);
  EXPECT_FALSE(loads);
  write(Reg::kCr0, now.cr0 | cr0::kCd);
  EXPECT_TRUE(loads);
  machine.vendor = Vendor::kAmd;
  write(Reg::kCr3, 0x5000);
  EXPECT_FALSE(loads);
}

TEST_F(GuestRegistersTest, Efer) {
  EXPECT_EQ(write(Reg::kEfer, 0), Answer::kGeneralProtection);  // LME with paging
  EXPECT_EQ(write(Reg::kEfer, now.efer | efer::kTce), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kEfer, now.efer | efer::kSvme), Answer::kGeneralProtection);
  EXPECT_EQ(write(Reg::kEfer, efer::kLme), Answer::kTaken);
  EXPECT_EQ(now.efer, efer::kLme | efer::kLma);
  machine.vendor = Vendor::kAmd;
  EXPECT_EQ(write(Reg::kEfer, efer::kLme | efer::kLma | efer::kTce), Answer::kTaken);
  machine.features |= feature::kSvm;
  EXPECT_EQ(write(Reg::kEfer, efer::kLme | efer::kLma | efer::kSvme), Answer::kTaken);
  machine.features &= ~feature::kNx;
  EXPECT_EQ(write(Reg::kEfer, efer::kLme | efer::kNxe), Answer::kGeneralProtection);
}

TEST_F(GuestRegistersTest, PkruIsThereWithItsBitInCr4) {
  EXPECT_EQ(write(Reg::kPkru, 5), Answer::kNotThere);
  now.cr4 |= cr4::kPke;
  EXPECT_EQ(write(Reg::kPkru, 5), Answer::kTaken);
  EXPECT_EQ(now.pkru, 5u);
}

TEST_F(GuestRegistersTest, Invpcid) {
  EXPECT_TRUE(invpcid_is_refused(now, 4, 0, 0));
  EXPECT_TRUE(invpcid_is_refused(now, 2, bit(12), 0));
  EXPECT_TRUE(invpcid_is_refused(now, 1, 3, 0));
  EXPECT_TRUE(invpcid_is_refused(now, 0, 0, bit(47)));
  EXPECT_FALSE(invpcid_is_refused(now, 2, 3, 0));
  now.cr4 |= cr4::kPcide;
  EXPECT_FALSE(invpcid_is_refused(now, 1, 3, bit(47)));
}

}  // namespace
}  // namespace twinwalk::processor
