// How an engine is opened: memory, its own paging, CPL 3, and what has to be found by probing.

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "harness/trace/x86.h"
#include "oracle/unicorn/code_page.h"
#include "oracle/unicorn/engine.h"

namespace twinwalk::oracle::unicorn {
namespace {

// Pages of the harness by use. Of the tables 32-bit paging has only the root and the last.
enum OwnPage : unsigned { kCode, kGdt, kStack, kData, kRoot, kPdpt, kPd, kPt };
constexpr std::uint64_t kProbePage =
    kOwnPages;  // the linear page after them, mapped only while probing
constexpr std::uint64_t kHostPages = kOwnPages + 1;  // and the page of INT3 that lend_pages() lends
constexpr std::uint64_t kEntryBits = pte::kP | pte::kW | pte::kU;
// What precedes the registers in a saved context: sizes and kinds, not to be touched.
constexpr std::size_t kContextHeader = 16;
constexpr std::uint64_t kDataWord = 0x0DA7'A001;
constexpr std::uint64_t kOwnCr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg;

void check(uc_err error, const char* what) {
  if (error != UC_ERR_OK) throw std::runtime_error(std::string(what) + ": " + uc_strerror(error));
}

}  // namespace

const Engine::RegisterIds Engine::kIds64 = {UC_X86_REG_RAX, UC_X86_REG_RBX,   UC_X86_REG_RCX,
                                            UC_X86_REG_RDX, UC_X86_REG_RSI,   UC_X86_REG_RDI,
                                            UC_X86_REG_RSP, UC_X86_REG_RFLAGS};
const Engine::RegisterIds Engine::kIds32 = {UC_X86_REG_EAX, UC_X86_REG_EBX,   UC_X86_REG_ECX,
                                            UC_X86_REG_EDX, UC_X86_REG_ESI,   UC_X86_REG_EDI,
                                            UC_X86_REG_ESP, UC_X86_REG_EFLAGS};

Engine::Engine(GuestImage& image, code::Width width)
    : image_(image),
      width_(width),
      place_(width == code::Width::k64 ? kPlace64 : kPlace32),
      ids_(width == code::Width::k64 ? kIds64 : kIds32) {
  try {
    open();
    map_memory();
    build_own_pages();
    enter_own_paging();
    make_base_contexts();
    find_error_code();
    find_efer();
    find_translation();
  } catch (...) {
    if (uc_ != nullptr) uc_close(uc_);
    if (own_ != nullptr) munmap(own_, kHostPages * kPageBytes);
    throw;
  }
}

Engine::~Engine() {
  for (Context context : contexts_) uc_context_free(context);
  uc_close(uc_);
  munmap(own_, kHostPages * kPageBytes);
}

// A fault's CR2 and error code are taken here, not after the run: on its way out Unicorn looks the
// `until` address up in the guest's tables, which may fault in its turn.
void Engine::on_interrupt(uc_engine* uc, std::uint32_t vector, void* self) {
  auto& engine = *static_cast<Engine*>(self);
  engine.interrupt_ = static_cast<int>(vector);
  if (vector == kPageFaultVector) {
    engine.fault_cr2_ = engine.read_register(UC_X86_REG_CR2);
    uc_context_save(uc, engine.scratch_);
    std::memcpy(&engine.fault_code_,
                reinterpret_cast<const std::uint8_t*>(engine.scratch_) + engine.error_code_at_,
                sizeof engine.fault_code_);
  }
  uc_emu_stop(uc);
}

// Where data follows the translation there is no memory at `gpa`: the run ends. An older Unicorn
// asks for the linear address, before it walks: where there is paging it is given a page to find
// there, so that it does walk.
bool Engine::on_unmapped(uc_engine* uc, uc_mem_type, std::uint64_t gpa, int size, std::int64_t,
                         void* self) {
  auto& engine = *static_cast<Engine*>(self);
  if (!engine.translates_ && engine.paging_)
    return engine.lend_pages(uc, gpa, static_cast<unsigned>(size));
  if (!engine.unmapped_) engine.unmapped_gpa_ = gpa;
  engine.unmapped_ = true;
  return false;
}

bool Engine::lend_pages(uc_engine* uc, std::uint64_t address, unsigned size) {
  const std::uint64_t first = address & ~(kPageBytes - 1);
  const std::uint64_t last = (address + size - 1) & ~(kPageBytes - 1);
  std::uint8_t* page = own_ + kOwnPages * kPageBytes;
  bool lent = uc_mem_map_ptr(uc, first, kPageBytes, UC_PROT_ALL, page) == UC_ERR_OK;
  if (last != first) lent |= uc_mem_map_ptr(uc, last, kPageBytes, UC_PROT_ALL, page) == UC_ERR_OK;
  lent_ += lent ? 1 : 0;
  return lent;
}

void Engine::open() {
  check(uc_open(UC_ARCH_X86, wide() ? UC_MODE_64 : UC_MODE_32, &uc_), "uc_open");
  // The newest server model that both generations of the library know: it has every feature of our
  // machines.
  check(uc_ctl_set_cpu_model(uc_, UC_CPU_X86_ICELAKE_SERVER), "processor model");
  uc_hook hook;
  check(uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(&on_interrupt), this, 1, 0),
        "interrupt hook");
  check(uc_hook_add(uc_, &hook, UC_HOOK_MEM_UNMAPPED, reinterpret_cast<void*>(&on_unmapped), this,
                    1, 0),
        "memory hook");
}

void Engine::map_memory() {
  void* own = mmap(nullptr, kHostPages * kPageBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (own == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "harness pages");
  own_ = static_cast<std::uint8_t*>(own);
  check(uc_mem_map_ptr(uc_, 0, image_.bytes(), UC_PROT_ALL, image_.host()), "guest memory");
  for (const std::uint64_t at : {place_.gpa, place_.code_gva[0], place_.code_gva[1]}) {
    check(uc_mem_map_ptr(uc_, at, kOwnPages * kPageBytes, UC_PROT_ALL, own_), "harness memory");
  }
}

unsigned Engine::index_at(std::uint64_t gva, unsigned level) const {
  const unsigned bits = wide() ? 9 : 10;
  return static_cast<unsigned>(gva >> (12 + bits * (level - 1)) & ((1u << bits) - 1));
}

void Engine::set_own_entry(unsigned page, unsigned index, std::uint64_t entry) {
  const unsigned bytes = wide() ? 8 : 4;
  std::memcpy(own_ + page * kPageBytes + index * bytes, &entry, bytes);
}

std::uint64_t Engine::own_cr3() const { return place_.gpa + kRoot * kPageBytes; }
std::uint64_t Engine::own_cr4() const { return wide() ? cr4::kPae : 0; }

void Engine::build_own_pages() {
  code::assemble({own_, kPageBytes}, width_);
  std::memset(own_ + kOwnPages * kPageBytes, 0xcc, kPageBytes);
  // Null, then code and data for CPL 0 and CPL 3: selectors 8, 16, 24 and 32. Bits 54 and 53 of a
  // code segment: 32-bit, 64-bit.
  const std::uint64_t code_size = wide() ? std::uint64_t{1} << 53 : std::uint64_t{1} << 54;
  const std::uint64_t descriptors[] = {0, 0x008f'9b00'0000'ffff | code_size, 0x00cf'9300'0000'ffff,
                                       0x008f'fb00'0000'ffff | code_size, 0x00cf'f300'0000'ffff};
  std::memcpy(own_ + kGdt * kPageBytes, descriptors, sizeof descriptors);
  std::memcpy(own_ + kData * kPageBytes, &kDataWord, sizeof kDataWord);
  const auto table = [&](OwnPage page) { return (place_.gpa + page * kPageBytes) | kEntryBits; };
  const std::uint64_t gva = place_.code_gva[0];
  for (const std::uint64_t root_gva : place_.code_gva)
    set_own_entry(kRoot, index_at(root_gva, wide() ? 4 : 2), table(wide() ? kPdpt : kPt));
  if (wide()) {
    set_own_entry(kPdpt, index_at(gva, 3), table(kPd));
    set_own_entry(kPd, index_at(gva, 2), table(kPt));
  }
  for (const OwnPage page : {kCode, kGdt, kStack})
    set_own_entry(kPt, index_at(gva, 1) + page, table(page));
}

void Engine::enter_own_paging() {
  write_register(UC_X86_REG_CR4, own_cr4());
  if (wide()) write_efer(efer::kLme);
  write_register(UC_X86_REG_CR3, own_cr3());
  write_register(ids_.flags, 2);
  write_register(UC_X86_REG_CR0, kOwnCr0);
  uc_x86_mmr gdtr{0, place_.code_gva[0] + kGdt * kPageBytes, 0xfff, 0};
  check(uc_reg_write(uc_, UC_X86_REG_GDTR, &gdtr), "GDTR");
  // IRET asks the stack's descriptor how wide the stack is, except in 64-bit mode.
  if (!wide()) write_register(UC_X86_REG_SS, 0x10);
}

Engine::Context Engine::save_context() {
  Context context = nullptr;
  check(uc_context_alloc(uc_, &context), "context");
  contexts_.push_back(context);
  check(uc_context_save(uc_, context), "context");
  return context;
}

void Engine::make_base_contexts() {
  const std::uint64_t code = place_.code_gva[0];
  scratch_ = save_context();
  base_[kSupervisor] = save_context();
  load(base_[kSupervisor], 0, kNowhere, 0);
  start(code + code::kNopPiece, code);
  if (interrupt_ != kBreakpointVector) throw std::runtime_error("guest code does not run");

  uc_context_restore(uc_, base_[kSupervisor]);
  enter_user();
  base_[kUser] = save_context();

  uc_context_restore(uc_, base_[kSupervisor]);
  write_register(UC_X86_REG_CR4, own_cr4() | cr4::kSmap);
  base_[kSupervisorSmap] = save_context();
}

// CPL 3 by the only honest way: the guest returns to it.
void Engine::enter_user() {
  const std::uint64_t code = place_.code_gva[0], stack = code + kStack * kPageBytes;
  const std::uint64_t frame[] = {code + code::kNopPiece, 0x1b, 2, stack + 0x800, 0x23};
  const unsigned bytes = wide() ? 8 : 4;
  for (unsigned i = 0; i < std::size(frame); ++i)
    std::memcpy(own_ + kStack * kPageBytes + i * bytes, &frame[i], bytes);
  write_register(ids_.sp, stack);
  start(code + code::kIretPiece, code);
  if (error_ != UC_ERR_OK || interrupt_ != kBreakpointVector ||
      (read_register(UC_X86_REG_CS) & 3) != 3) {
    throw std::runtime_error("the guest cannot be brought to CPL 3");
  }
}

// One access to the probe page on the harness's own tables, on a fresh TLB.
Ran Engine::probe_access(MmuIndex index, AccessKind kind, std::uint64_t entry) {
  const std::uint64_t code = place_.code_gva[0];
  set_own_entry(kPt, index_at(code, 1) + kProbePage, entry);
  flush_all(0, Freshness::kMovCr3);
  current_ = base_[index];
  current_index_ = index;
  prime(0, index);
  load(current_, code + kProbePage * kPageBytes, kNowhere, 1);
  start(code + code::access_piece(kind, 4) + code::kNoInvlpg, code);
  return collect(kNowhere, false);
}

// Unicorn's API does not tell a #PF's error code. The only 32-bit word of a saved context that
// follows five known codes is it; anything but exactly one such word means that this library is not
// understood.
void Engine::find_error_code() {
  struct Sample {
    MmuIndex index;
    AccessKind kind;
    std::uint64_t entry;
    std::uint32_t expected;
  };
  const Sample samples[] = {
      {kSupervisor, AccessKind::kRead, 0, 0},
      {kSupervisor, AccessKind::kWrite, 0, pfec::kW},
      {kUser, AccessKind::kWrite, 0, pfec::kW | pfec::kU},
      {kUser, AccessKind::kRead, 0, pfec::kU},
      {kUser, AccessKind::kWrite, (place_.gpa + kData * kPageBytes) | pte::kP | pte::kU,
       pfec::kP | pfec::kW | pfec::kU}};
  const std::size_t size = uc_context_size(uc_);
  std::vector<bool> candidate(size / 4, true);
  for (const Sample& sample : samples) {
    const Ran ran = probe_access(sample.index, sample.kind, sample.entry);
    if (ran.event != Event::kException || ran.vector != kPageFaultVector)
      throw std::runtime_error("a probing access did not page-fault");
    for (std::size_t word = 0; word < candidate.size(); ++word) {
      std::uint32_t seen;
      std::memcpy(&seen, reinterpret_cast<const std::uint8_t*>(scratch_) + 4 * word, sizeof seen);
      if (seen != sample.expected) candidate[word] = false;
    }
  }
  unsigned found = 0;
  for (std::size_t word = 0; word < candidate.size(); ++word) {
    if (!candidate[word]) continue;
    error_code_at_ = 4 * word;
    ++found;
  }
  if (found != 1) {
    throw std::runtime_error("the page-fault error code has " + std::to_string(found) +
                             " places in the saved context, not one");
  }
}

// An old Unicorn does not let EFER.NXE be written. Then it is put into saved contexts, at the one
// place where the API reads it back.
void Engine::find_efer() {
  uc_context_restore(uc_, base_[kSupervisor]);
  const std::uint64_t plain = read_efer(), wanted = plain | efer::kNxe;
  write_efer(wanted);
  if (read_efer() == wanted) return;
  uc_context_restore(uc_, base_[kSupervisor]);
  uc_context_save(uc_, scratch_);
  auto* const bytes = reinterpret_cast<std::uint8_t*>(scratch_);
  unsigned found = 0;
  for (std::size_t at = kContextHeader; at + 8 <= uc_context_size(uc_); at += 8) {
    std::uint64_t seen;
    std::memcpy(&seen, bytes + at, sizeof seen);
    if (seen != plain) continue;
    std::memcpy(bytes + at, &wanted, sizeof wanted);
    uc_context_restore(uc_, scratch_);
    if (read_efer() == wanted) efer_at_ = at, ++found;
    std::memcpy(bytes + at, &seen, sizeof seen);
  }
  uc_context_restore(uc_, base_[kSupervisor]);
  if (found != 1) throw std::runtime_error("EFER.NXE cannot be written");
}

// Does a load through a linear address that is not the physical one see the frame?
void Engine::find_translation() {
  const Ran ran =
      probe_access(kSupervisor, AccessKind::kRead, (place_.gpa + kData * kPageBytes) | kEntryBits);
  if (ran.event != Event::kCompleted || (ran.rax != kDataWord && lent_ == 0)) {
    throw std::runtime_error("a probing load neither followed the translation nor ignored it");
  }
  translates_ = ran.rax == kDataWord;
  set_own_entry(kPt, index_at(place_.code_gva[0], 1) + kProbePage, 0);
  flush_all(0, Freshness::kMovCr3);
}

}  // namespace twinwalk::oracle::unicorn
