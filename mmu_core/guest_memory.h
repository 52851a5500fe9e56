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
    kSlotLeaves, /* is being deleted or moved: neither there nor gone */
    kReadOnly,
    kNoFrame, /* or one that is poisoned */
    kRaced    /* cmpxchg: held something else */
  };

  // A guest page whose frame was looked up.
  class Page {
   public:
    bool there() const { return platform_ != nullptr; }  // false: read() would not be kOk
    // Precondition: there(). Naturally aligned, size 1, 2, 4 or 8.
    u64 read(u64 offset, unsigned size) const { return platform_->read_guest(hpa_ + offset, size); }

   private:
    friend class GuestMemory;
    Platform* platform_ = nullptr;
    Hpa hpa_;
  };

  // Naturally aligned, size 1, 2, 4 or 8.
  Result read(Gpa gpa, unsigned size, u64& value);
  // What is stored makes the page dirty, and whoever tracks writes to it is told. No lock is held.
  Result write(Gpa gpa, unsigned size, u64 value);
  Result compare_exchange(Gpa gpa, unsigned size, u64 expected, u64 desired);
  // The same through a slot that the caller has found, and found to let it: an access of several
  // parts is one by one state of the memslots.
  Result read(const Memslot& slot, Gpa gpa, unsigned size, u64& value);
  Result write(const Memslot& slot, Gpa gpa, unsigned size, u64 value);
  Result compare_exchange(const Memslot& slot, Gpa gpa, unsigned size, u64 expected, u64 desired);

  // The page at `gfn`, to read several words of it. Good for as long as nothing may take its frame
  // away: under the mmu lock with no invalidation in progress, or where nobody else runs.
  Page page(Gfn gfn);

  // Sets the gfn's bit if its slot logs (KVM: mark_page_dirty_in_slot).
  static void mark_dirty(const Memslot& slot, Gfn gfn);

 private:
  Platform& platform_;
  Memslots& slots_;
};

}  // namespace mmu

#endif  // MMU_CORE_GUEST_MEMORY_H_
