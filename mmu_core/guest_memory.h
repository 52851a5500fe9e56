#ifndef MMU_CORE_GUEST_MEMORY_H_
#define MMU_CORE_GUEST_MEMORY_H_

// Guest-physical memory through the memslots: gpa -> hva -> frame, the dirty
// log kept (KVM: kvm_read_guest, kvm_write_guest, mark_page_dirty_in_slot).

#include "mmu_core/memslot.h"

namespace mmu {

class GuestMemory {
 public:
  GuestMemory(Platform& platform, Memslots& slots) : platform_(platform), slots_(slots) {}

  enum class Result : u8 {
    kOk,
    kNoSlot,
    kReadOnly,
    kNoFrame,
    kRaced /* cmpxchg: held something else */
  };

  // Naturally aligned, size 1, 2, 4 or 8.
  Result read(Gpa gpa, unsigned size, u64& value);
  Result write(Gpa gpa, unsigned size, u64 value);  // marks the page dirty
  Result compare_exchange(Gpa gpa, unsigned size, u64 expected,
                          u64 desired);  // marks dirty when it stored

  // Sets the gfn's bit if its slot logs (KVM: mark_page_dirty_in_slot).
  static void mark_dirty(const Memslot& slot, Gfn gfn);

 private:
  Platform& platform_;
  Memslots& slots_;
};

}  // namespace mmu

#endif  // MMU_CORE_GUEST_MEMORY_H_
