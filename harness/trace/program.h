#ifndef TWINWALK_HARNESS_TRACE_PROGRAM_H_
#define TWINWALK_HARNESS_TRACE_PROGRAM_H_

// A trace lowered to primitive steps, which is what subjects and references
// execute. Lowering is syntactic: it never looks at memory, so that all who
// execute a program see the same steps.

#include <cstdint>
#include <vector>

#include "harness/trace/followed_registers.h"
#include "harness/trace/op.h"

namespace twinwalk {

// A step's verb is never kCpu or kMap: kCpu becomes one kMov a given register (order efer, cr4,
// cr3, cr0, pkru, cpl, ac), kMap becomes kWrite steps from the root down, in PAE
// mode perhaps with a kMov after them, with paging off none at all. A kAccess write/rmw and a
// kWrite without `value=` carry store_stamp(step index). kAccess has cpl resolved only if it was
// given (see kCplGiven).
struct Step {
  std::uint32_t op;  // index into Trace::ops
  Op what;

  Step() = default;
  Step(std::uint32_t index, const Op& operation) : op(index), what(operation) {}
};

struct Program {
  Machine machine;
  std::vector<Step> steps;
};

// How `map` chooses table pages: for each (mode, root gpa, level, gva prefix) the first `map` that
// needs it takes the next page of the pool (kTablePool + n * 4K, skipping every root seen so far),
// n modulo kTablePoolPages. Mode and root are those of the vCPU as the trace's register writes make
// them (followed_registers.h), the machine's mode and kInitialCr3 before. An upper entry is written
// unless it is what `map` last wrote there; the leaf is always written. The leaf's gpa is aligned
// down to the page's size; `ps` is added for 2M and 1G. Upper and leaf bits default to p|w|u. Bits
// of `pte=` and `upper=` within the address field are or'ed in: that is how reserved bits get
// there. By mode:
//   none     nothing to write
//   32-bit   entries of four bytes; 2M and 1G make a 4M page, with bits 39:32 of its gpa in 20:13
//   PAE      a PDPTE gets of `upper=` only P, for the rest is reserved there; where one is written
//            the vCPU loads its CR3 again, so that it counts; 1G makes a 2M page
//   4-level, 5-level
// Outside the last two, 32 bits of the gva count.
//
// `ept-map` and `npt-map` do the same for the second dimension, below the root that they name, with
// pages of a pool of their own (kNestedPool). EPT has 4 or 5 levels by `host-levels=`, NPT 3 to 5:
// 3 are those of PAE, whose first entries get of `upper=` only P. No register is loaded.
class Lowering {
 public:
  // Replaces `out`. Reuses its memory: no allocation once warm.
  void lower(const Trace& trace, Program& out);

  // The same in pieces, for who follows a trace while it is being written: begin(), then add() each
  // operation in order; its steps are appended to `out`.
  void begin(const Machine& machine, Program& out);
  void add(std::uint32_t index, const Op& op, Program& out);

 private:
  // A hash map with linear probing that forgets everything in O(1): a slot counts only in the epoch
  // it was written in.
  class Table {
   public:
    struct Slot {
      std::uint64_t key = 0, tag = 0, value = 0;
      std::uint32_t epoch = 0;
    };
    void clear();
    // The slot of (key, tag); `fresh` says that it was not there before (its value is then 0).
    Slot& find(std::uint64_t key, std::uint64_t tag, bool& fresh);

   private:
    void grow();
    std::vector<Slot> slots_;
    std::size_t used_ = 0;
    std::uint32_t epoch_ = 0;
  };

  void lower_cpu(std::uint32_t index, const Op& op, Program& out);
  void lower_map(std::uint32_t index, const Op& op, Program& out);
  void lower_nested_map(std::uint32_t index, const Op& op, Program& out);
  // Pages for tables, in turn; those that are roots are left out.
  struct TablePool {
    std::uint64_t base;
    std::uint64_t roots = 0;  // bit n: page n of the pool is a root
    std::uint64_t next = 0;   // pages taken, modulo nothing
    void restart() { roots = next = 0; }
    void name_root(std::uint64_t root);
    std::uint64_t take();
  };
  struct Mapping;  // what lower_map and lower_nested_map ask for
  // True: an entry of the top level was written.
  bool write_tables(std::uint32_t index, const Op& op, const Mapping& mapping, TablePool& pool,
                    Program& out);
  bool note_written(const Op& write);
  void follow(const Op& op, const Machine& machine);
  void write_register(const Op& op, Reg reg, std::uint64_t value);

  Table tables_;   // (root, mode, level and gva prefix) -> gpa of the table
  Table entries_;  // (gpa of a word, 0) -> what `map` last wrote there
  FollowedRegisters registers_[kMaxVcpus];
  TablePool pool_{kTablePool}, nested_pool_{kNestedPool};
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_PROGRAM_H_
