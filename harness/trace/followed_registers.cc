#include "harness/trace/followed_registers.h"

namespace twinwalk {
namespace {

// CR4 bits that choose the mode or bind it, and the features that they need.
bool has_features(std::uint64_t cr4, std::uint32_t features) {
  return (!(cr4 & cr4::kPae) || (features & feature::kPae)) &&
         (!(cr4 & cr4::kLa57) || (features & feature::kLa57)) &&
         (!(cr4 & cr4::kPcide) || (features & feature::kPcid));
}

}  // namespace

void FollowedRegisters::reset(const Machine& machine) {
  const Registers start = initial_registers(machine);
  cr0_ = start.cr0;
  cr3_ = start.cr3;
  cr4_ = start.cr4;
  efer_ = start.efer;
  features_ = machine.features;
}

// SDM 3A §"Paging-Mode Enabling".
void FollowedRegisters::write(Reg reg, std::uint64_t value) {
  switch (reg) {
    case Reg::kCr0: {
      const bool on = value & cr0::kPg;
      if (on && !(value & cr0::kPe)) return;
      if (on && !paging() && (efer_ & efer::kLme) && !(cr4_ & cr4::kPae)) return;
      if (!on && (cr4_ & cr4::kPcide)) return;
      cr0_ = value;
      efer_ &= ~efer::kLma;
      if (on && (efer_ & efer::kLme)) efer_ |= efer::kLma;
      return;
    }
    case Reg::kCr3:
      // Outside 64-bit mode the operand of MOV has 32 bits.
      cr3_ = legacy() ? value & 0xffff'ffff : value;
      return;
    case Reg::kCr4:
      if (!has_features(value, features_)) return;
      if ((value & ~cr4_ & cr4::kPcide) && (legacy() || (cr3_ & 0xfff))) return;
      if (!legacy() && (!(value & cr4::kPae) || ((value ^ cr4_) & cr4::kLa57))) return;
      cr4_ = value;
      return;
    case Reg::kEfer:
      if (paging() && ((value ^ efer_) & efer::kLme)) return;
      efer_ = (value & ~efer::kLma) | (efer_ & efer::kLma);
      return;
    default:
      return;
  }
}

void FollowedRegisters::set(const Op& sregs) {
  const std::uint64_t cr0 = sregs.gives(Field::kCr0) ? sregs.cr0 : cr0_;
  const std::uint64_t cr4 = sregs.gives(Field::kCr4) ? sregs.cr4 : cr4_;
  const std::uint64_t efer = sregs.gives(Field::kEfer) ? sregs.efer : efer_;
  const bool on = cr0 & cr0::kPg;
  const bool long_mode = on && (efer & efer::kLme);
  if (on && !(cr0 & cr0::kPe)) return;
  if (long_mode != ((efer & efer::kLma) != 0)) return;
  if (long_mode && !(cr4 & cr4::kPae)) return;
  if (!has_features(cr4, features_)) return;
  cr0_ = cr0;
  cr4_ = cr4;
  efer_ = efer;
  if (sregs.gives(Field::kCr3)) cr3_ = sregs.cr3;
}

// SDM 3A §"Processor State After Reset": paging is off, and CR3 is zero. Neither RESET's CD and NW
// nor those that INIT keeps choose anything.
void FollowedRegisters::init() {
  cr0_ = cr0::kEt | (cr0_ & (cr0::kCd | cr0::kNw));
  cr3_ = cr4_ = efer_ = 0;
}

std::uint64_t FollowedRegisters::root() const {
  return mode() == Mode::kPae ? cr3() & 0xffff'ffe0 : cr3() & pte::kAddressMask;
}

}  // namespace twinwalk
