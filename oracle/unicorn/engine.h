#ifndef TWINWALK_ORACLE_UNICORN_ENGINE_H_
#define TWINWALK_ORACLE_UNICORN_ENGINE_H_

// One Unicorn engine, set up so that single guest instructions run on the guest's own tables: in
// 64-bit mode for 4-level and 5-level paging, or in 32-bit mode for all others.
//
// The engine's own code, GDT, stack and tables lie in a few pages above any guest's memory (Place).
// The guest's tables need not map them: a run under the engine's own CR3 puts the code page's
// translation into Unicorn's TLB ("priming"), and restoring a CPU context does not flush that TLB.
// Each context is restored before it is used, because Unicorn never forgets an exception that it
// raised and would turn the next one into a double fault.

#include <unicorn/unicorn.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "harness/trace/op.h"
#include "oracle/unicorn/code_page.h"
#include "oracle/unicorn/guest_image.h"
#include "oracle/unicorn/protocol.h"

namespace twinwalk::oracle::unicorn {

// The physical pages of the harness, and the two linear addresses of its code (the second is used
// when the first is what a trace accesses; they differ in the index of the root table only). All
// three are physical addresses too: an old Unicorn takes data to the linear address (PA = VA).
struct Place {
  std::uint64_t gpa;
  std::array<std::uint64_t, 2> code_gva;
};
inline constexpr std::uint64_t kOwnPages = 8;
inline constexpr Place kPlace64 = {0xfe'dcb4'0000, {0x3a5c'1234'0000, 0x595c'1234'0000}};
inline constexpr Place kPlace32 = {0xe2b4'0000, {0xb0f4'8000, 0xd1f4'8000}};

inline constexpr unsigned kPageFaultVector = 14, kBreakpointVector = 3;

// How the TLB is made fresh for an access. Each really drops what Unicorn may hold for the pages
// that it touches.
enum class Freshness : std::uint8_t {
  kInvlpg,  // the guest's INVLPG on each page; not enough while a large page may be cached
  kMovCr3,  // a guest MOV CR3: everything
  kApi,     // uc_ctl_flush_tlb: everything. Falls back to kMovCr3 where the library lacks it
};

struct Ran {
  Event event = Event::kCompleted;
  std::uint8_t vector = 0;
  std::uint32_t error_code = 0;
  std::uint64_t cr2 = 0;
  std::uint64_t rax = 0;
  std::uint64_t gpa = 0;  // kUnmapped
  bool code_lost =
      false;  // the code page's own translation was gone: nothing was accessed, run it again
};

struct Access {
  AccessKind kind;
  unsigned size;
  std::uint64_t gva;
  std::uint64_t second_page;  // gva of the second page, kNowhere if the access stays in one
  std::uint64_t value;
  std::uint64_t expected;  // RMW: what the bytes hold, as CMPXCHG8B wants to be told
};

class Engine {
 public:
  // Opens an engine over the image as large as it is now, and probes it. Throws std::runtime_error
  // with one line if the library cannot be used; see also probe().
  Engine(GuestImage& image, code::Width width);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Takes the registers for the accesses that follow. False if this processor model does not keep
  // them as given.
  bool select(const RegisterRecord& registers);
  Ran access(const Access& access, Freshness freshness);

  // An old Unicorn's address space fills with lent pages; then a new engine is due.
  bool full() const { return lent_ > 1000; }
  bool translates() const { return translates_; }  // data follows the translation (2.1 or newer)
  // The linear address of the code page that an access to `gva` is executed from.
  std::uint64_t code_gva(std::uint64_t gva, std::uint64_t second_page) const;
  // Whether the physical (to an old Unicorn: linear) address is that of one of the harness's pages.
  bool owns(std::uint64_t address) const;

 private:
  friend class BareRun;
  using Context = uc_context*;
  struct RegistersHash {
    std::size_t operator()(const RegisterRecord&) const;
  };
  enum MmuIndex : unsigned { kSupervisor, kSupervisorSmap, kUser, kMmuIndexes };
  // Unicorn's numbers of the registers that hold an access's operands, by width.
  struct RegisterIds {
    int ax, bx, cx, dx, si, di, sp, flags;
  };
  static const RegisterIds kIds32, kIds64;

  void open();
  void map_memory();
  void build_own_pages();
  void enter_own_paging();
  void enter_user();
  void make_base_contexts();
  void find_error_code();
  void find_efer();
  void find_translation();
  Ran probe_access(MmuIndex index, AccessKind kind, std::uint64_t pte);

  Context build(const RegisterRecord& registers);
  void clear_contexts();
  void flush_all(unsigned alias, Freshness freshness);
  void prime(unsigned alias, MmuIndex index);
  // One run: the context with its operands, then the code from `rip` on.
  void load(Context context, std::uint64_t rdi, std::uint64_t rsi, std::uint64_t rax);
  void load_eight_bytes(const Access& access);
  void start(std::uint64_t rip, std::uint64_t code_page);
  Ran collect(std::uint64_t code_page, bool eight_bytes);

  void write_register(int id, std::uint64_t value);
  std::uint64_t read_register(int id);
  void write_efer(std::uint64_t value);
  std::uint64_t read_efer();
  bool lend_pages(uc_engine* uc, std::uint64_t address, unsigned size);
  bool wide() const { return width_ == code::Width::k64; }
  std::uint64_t own_cr3() const;
  std::uint64_t own_cr4() const;
  unsigned index_at(std::uint64_t gva, unsigned level) const;
  void set_own_entry(unsigned page, unsigned index, std::uint64_t entry);
  Context save_context();

  static void on_interrupt(uc_engine*, std::uint32_t vector, void* self);
  static bool on_unmapped(uc_engine*, uc_mem_type, std::uint64_t gpa, int size, std::int64_t value,
                          void* self);

  GuestImage& image_;
  const code::Width width_;
  const Place& place_;
  const RegisterIds& ids_;
  uc_engine* uc_ = nullptr;
  std::uint8_t* own_ = nullptr;              // host address of the kOwnPages pages
  std::array<Context, kMmuIndexes> base_{};  // on the harness's own tables
  Context scratch_ = nullptr;
  std::vector<Context> contexts_;  // all that are to be freed
  std::unordered_map<RegisterRecord, Context, RegistersHash> selected_contexts_;
  Context current_ = nullptr;
  MmuIndex current_index_ = kSupervisor;
  std::array<unsigned, 2>
      primed_{};                   // by alias: bit i set: MmuIndex i has the code page in the TLB
  std::size_t error_code_at_ = 0;  // offset in a saved context
  std::size_t efer_at_ = 0;        // the same, 0 if the API can write EFER
  bool translates_ = false;
  bool paging_ = true;  // of current_

  int interrupt_ = -1;           // of the last run
  std::uint64_t fault_cr2_ = 0;  // of the last #PF
  std::uint32_t fault_code_ = 0;
  unsigned lent_ = 0;  // pages lent to an old Unicorn
  bool unmapped_ = false;
  std::uint64_t unmapped_gpa_ = 0;
  uc_err error_ = UC_ERR_OK;
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_ENGINE_H_
