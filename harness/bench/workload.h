#ifndef TWINWALK_HARNESS_BENCH_WORKLOAD_H_
#define TWINWALK_HARNESS_BENCH_WORKLOAD_H_

// The programs that are timed, built step by step: tables are laid out by the host before the guest
// runs, then come the steps under the clock.

#include <cstdint>
#include <unordered_map>

#include "harness/trace/program.h"

namespace twinwalk::bench {

// Where workloads keep their data frames; tables lie from kInitialCr3 up to here.
inline constexpr std::uint64_t kDataGpa = std::uint64_t{32} << 20;

class Workload {
 public:
  explicit Workload(const Machine& machine);

  // Maps the 4K page `gva` to `gpa` (both aligned) under root `cr3`, rights p|w|u unless told;
  // upper entries p|w|u. Takes table pages as needed from above kInitialCr3. `set` are further bits
  // of the leaf (pte::kA and so on).
  void map(std::uint64_t gva, std::uint64_t gpa, std::uint64_t set = 0,
           std::uint64_t cr3 = kInitialCr3);
  // Makes the 2M around `gva` lead to the level-1 table of `of`, with the rights of `bits`
  // (pte::kW, pte::kU, pte::kXd). Precondition: map() made that table.
  void share(std::uint64_t gva, std::uint64_t of, std::uint64_t bits,
             std::uint64_t cr3 = kInitialCr3);
  // gpa of the level-1 entry that maps `gva`. Precondition: map() made it.
  std::uint64_t leaf_gpa(std::uint64_t gva, std::uint64_t cr3 = kInitialCr3) const;
  // A new, empty root table.
  std::uint64_t new_root();

  void access(AccessKind kind, std::uint64_t gva, std::uint8_t size = 8);
  void store(std::uint64_t gva, std::uint64_t value);  // a native 8-byte store
  void guest_write(std::uint64_t gpa, std::uint64_t value);
  void invlpg(std::uint64_t gva);
  void vm_enter(std::uint64_t root);
  void set_register(Reg reg, std::uint64_t value);
  void quota(std::uint64_t pages);  // most shadow pages in use

  const Program& program() const { return program_; }
  // Steps so far: what comes later is what is timed.
  std::size_t steps() const { return program_.steps.size(); }

 private:
  Op& add(Verb verb);
  void host_write(std::uint64_t gpa, std::uint64_t value);
  std::uint64_t table_for(std::uint64_t gva, std::uint64_t cr3, unsigned level);

  Program program_;
  std::uint64_t next_table_;
  // (table gpa, index) -> next table's gpa.
  std::unordered_map<std::uint64_t, std::uint64_t> below_;
};

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_WORKLOAD_H_
