#include "oracle/unicorn/engine.h"

#include <cstring>
#include <stdexcept>

#include "harness/trace/x86.h"
#include "oracle/unicorn/code_page.h"

namespace twinwalk::oracle::unicorn {
namespace {

constexpr std::size_t kMaxContexts = 256;
constexpr std::uint64_t kLow32 = 0xffff'ffff;

constexpr std::uint64_t page_of(std::uint64_t address) { return address & ~(kPageBytes - 1); }

}  // namespace

std::size_t Engine::RegistersHash::operator()(const RegisterRecord& r) const {
  std::uint64_t h = 0;
  for (const std::uint64_t word :
       {r.cr0, r.cr3, r.cr4, r.efer, std::uint64_t{r.pkru}, std::uint64_t{r.cpl} << 1 | r.ac}) {
    h = (h ^ word) * 0x9E37'79B9'7F4A'7C15u;
    h ^= h >> 29;
  }
  return static_cast<std::size_t>(h);
}

bool Engine::owns(std::uint64_t address) const {
  const auto in = [&](std::uint64_t own) { return address - own < (kOwnPages + 1) * kPageBytes; };
  return in(place_.gpa) || in(place_.code_gva[0]) || in(place_.code_gva[1]);
}

std::uint64_t Engine::code_gva(std::uint64_t gva, std::uint64_t second_page) const {
  const auto own = [&](std::uint64_t address) {
    return address - place_.code_gva[0] < (kOwnPages + 1) * kPageBytes;
  };
  return place_.code_gva[own(page_of(gva)) || own(second_page) ? 1 : 0];
}

void Engine::write_register(int id, std::uint64_t value) { uc_reg_write(uc_, id, &value); }

std::uint64_t Engine::read_register(int id) {
  std::uint64_t value = 0;
  uc_reg_read(uc_, id, &value);
  return value;
}

void Engine::write_efer(std::uint64_t value) {
  uc_x86_msr msr{0xC000'0080, value};
  uc_reg_write(uc_, UC_X86_REG_MSR, &msr);
}

std::uint64_t Engine::read_efer() {
  uc_x86_msr msr{0xC000'0080, 0};
  uc_reg_read(uc_, UC_X86_REG_MSR, &msr);
  return msr.value;
}

void Engine::load(Context context, std::uint64_t rdi, std::uint64_t rsi, std::uint64_t rax) {
  uc_context_restore(uc_, context);
  write_register(ids_.di, rdi);
  write_register(ids_.ax, rax);
  if (rsi != kNowhere) write_register(ids_.si, rsi);
}

// What 32-bit code needs beyond load() for 8 bytes: see code_page.h.
void Engine::load_eight_bytes(const Access& a) {
  if (a.kind == AccessKind::kRmw) {
    const std::uint64_t sum = a.expected + a.value;
    write_register(ids_.bx, sum & kLow32);
    write_register(ids_.cx, sum >> 32);
    write_register(ids_.ax, a.expected & kLow32);
    write_register(ids_.dx, a.expected >> 32);
  } else {
    write_register(ids_.dx, a.value >> 32);
  }
}

void Engine::start(std::uint64_t rip, std::uint64_t code_page) {
  interrupt_ = -1;
  unmapped_ = false;
  error_ = uc_emu_start(uc_, rip, code_page + code::kNeverReached, 0, 0);
}

Ran Engine::collect(std::uint64_t code_page, bool eight_bytes) {
  Ran ran;
  if (unmapped_) {
    ran.event = Event::kUnmapped;
    ran.gpa = unmapped_gpa_;
    return ran;
  }
  if (error_ != UC_ERR_OK || interrupt_ < 0) {
    ran.event = Event::kEngineError;
    ran.vector = static_cast<std::uint8_t>(error_);
    return ran;
  }
  if (interrupt_ == kBreakpointVector) {
    ran.rax = read_register(ids_.ax);
    if (eight_bytes && !wide()) ran.rax |= read_register(ids_.dx) << 32;
    return ran;
  }
  ran.event = Event::kException;
  ran.vector = static_cast<std::uint8_t>(interrupt_);
  if (interrupt_ != kPageFaultVector) return ran;
  ran.cr2 = fault_cr2_;
  ran.error_code = fault_code_;
  ran.code_lost = page_of(ran.cr2) == code_page;
  return ran;
}

void Engine::flush_all(unsigned alias, Freshness freshness) {
  primed_ = {};
#if UC_API_MAJOR > 2 || (UC_API_MAJOR == 2 && UC_API_MINOR >= 1)
  if (freshness == Freshness::kApi) {
    uc_ctl_flush_tlb(uc_);
    return;
  }
#endif
  // MOV CR3 with the value that is there: everything goes, and the run itself primes the code page
  // again.
  static_cast<void>(freshness);
  load(base_[kSupervisor], 0, own_cr3(), 0);
  start(place_.code_gva[alias] + code::kMovCr3Piece, place_.code_gva[alias]);
  primed_[alias] = 1u << kSupervisor;
}

void Engine::prime(unsigned alias, MmuIndex index) {
  if (primed_[alias] >> index & 1) return;
  load(base_[index], 0, kNowhere, 0);
  start(place_.code_gva[alias] + code::kNopPiece, place_.code_gva[alias]);
  primed_[alias] |= 1u << index;
}

bool Engine::select(const RegisterRecord& registers) {
  // An old Unicorn's API writes CR4.SMAP without making it work.
  if (!translates_ && (registers.cr4 & cr4::kSmap) != 0) return false;
  const auto found = selected_contexts_.find(registers);
  if (found != selected_contexts_.end()) {
    current_ = found->second;
  } else {
    if (selected_contexts_.size() >= kMaxContexts) clear_contexts();
    current_ = build(registers);
    selected_contexts_.emplace(registers, current_);
  }
  paging_ = (registers.cr0 & cr0::kPg) != 0;
  const bool smap = (registers.cr4 & cr4::kSmap) != 0 && registers.ac == 0;
  current_index_ = registers.cpl == 3 ? kUser : smap ? kSupervisorSmap : kSupervisor;
  return current_ != nullptr;
}

Engine::Context Engine::build(const RegisterRecord& registers) {
  primed_ = {};  // the register writes below flush
  uc_context_restore(uc_, base_[registers.cpl == 3 ? kUser : kSupervisor]);
  if ((registers.cr4 & cr4::kPke) != 0) {
    write_register(UC_X86_REG_CR4, own_cr4() | cr4::kPke);
    write_register(ids_.ax, registers.pkru);
    write_register(ids_.cx, 0);
    write_register(ids_.dx, 0);
    start(place_.code_gva[0] + code::kWrpkruPiece, place_.code_gva[0]);
    if (interrupt_ != kBreakpointVector) return nullptr;
  }
  write_register(ids_.flags, 2u | (registers.ac != 0 ? std::uint64_t{1} << 18 : 0));
  write_register(UC_X86_REG_CR4, registers.cr4);
  write_efer(registers.efer);
  const bool poke_efer = efer_at_ != 0 && read_efer() != registers.efer;
  write_register(UC_X86_REG_CR3, registers.cr3);
  write_register(UC_X86_REG_CR0, registers.cr0);
  const bool kept =
      read_register(UC_X86_REG_CR4) == registers.cr4 &&
      (poke_efer || read_efer() == registers.efer) &&
      read_register(UC_X86_REG_CR3) == registers.cr3 &&
      ((read_register(UC_X86_REG_CR0) ^ registers.cr0) & (cr0::kPe | cr0::kWp | cr0::kPg)) == 0;
  if (!kept) return nullptr;
  Context context = save_context();
  if (poke_efer) {
    std::memcpy(reinterpret_cast<std::uint8_t*>(context) + efer_at_, &registers.efer,
                sizeof registers.efer);
  }
  return context;
}

void Engine::clear_contexts() {
  for (const auto& [registers, context] : selected_contexts_) {
    if (context == nullptr) continue;
    std::erase(contexts_, context);
    uc_context_free(context);
  }
  selected_contexts_.clear();
  current_ = nullptr;
}

Ran Engine::access(const Access& a, Freshness freshness) {
  const std::uint64_t code_page = code_gva(a.gva, a.second_page);
  const unsigned alias = code_page == place_.code_gva[0] ? 0 : 1;
  const bool fetch = a.kind == AccessKind::kFetch;
  const bool guest_can_invalidate = !fetch && current_index_ != kUser;  // INVLPG needs CPL 0
  unsigned entry = code::kNoInvlpg;
  if (freshness != Freshness::kInvlpg) {
    flush_all(alias, freshness);
  } else if (guest_can_invalidate) {
    entry = a.second_page != kNowhere ? code::kBothInvlpg : code::kOneInvlpg;
  } else {
    const unsigned skip = a.second_page != kNowhere ? 0 : code::kOneInvlpg;
    load(base_[kSupervisor], a.gva, a.second_page, 0);
    start(code_page + code::kInvlpgPiece + skip, code_page);
    primed_[alias] |= 1u << kSupervisor;
  }
  if (alias == 1) primed_[0] = 0;  // what follows drops the first address of the code page
  // Also before a fetch, which does not run from the code page: Unicorn looks `until` up there when
  // it stops.
  prime(alias, current_index_);
  const bool eight_bytes = !fetch && a.size == 8;
  load(current_, fetch ? 0 : a.gva, a.second_page, fetch ? 0 : a.value);
  if (eight_bytes && !wide()) load_eight_bytes(a);
  start(fetch ? a.gva : code_page + code::access_piece(a.kind, a.size) + entry, code_page);
  return collect(fetch ? kNowhere : code_page, eight_bytes);
}

}  // namespace twinwalk::oracle::unicorn
