#ifndef TWINWALK_HARNESS_PROCESSOR_PHYSICAL_MEMORY_H_
#define TWINWALK_HARNESS_PROCESSOR_PHYSICAL_MEMORY_H_

// What a processor with two dimensions sees of the machine's memory. The guest's tables are data
// like any other; the second dimension's are asked for apart, for with a core they are the core's.

#include <cstdint>

namespace twinwalk::processor {

class PhysicalMemory {
 public:
  // False: no memory answers at that address, a device does.
  virtual bool holds(std::uint64_t hpa) const = 0;
  // Data and the guest's tables. Naturally aligned within a page, size 1..8. Where nothing answers
  // a load gives 0 and a store goes nowhere.
  virtual std::uint64_t load(std::uint64_t hpa, unsigned size) = 0;
  virtual void store(std::uint64_t hpa, unsigned size, std::uint64_t value) = 0;
  // The locked update of an entry; false: it did not hold `expected`.
  virtual bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                                std::uint64_t desired) = 0;
  // Entries of EPT and NPT, 8 bytes.
  virtual std::uint64_t load_nested(std::uint64_t hpa) = 0;
  virtual bool update_nested(std::uint64_t hpa, std::uint64_t expected, std::uint64_t desired) = 0;
  // For those who only look: as the loads above, but nobody is to blame for where they lead.
  virtual std::uint64_t look(std::uint64_t hpa, unsigned size) { return load(hpa, size); }
  virtual std::uint64_t look_nested(std::uint64_t hpa) { return load_nested(hpa); }
  // A cached translation or paging-structure entry now reaches the frame.
  virtual void note_reached(std::uint64_t pfn) { (void)pfn; }

 protected:
  ~PhysicalMemory() = default;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_PHYSICAL_MEMORY_H_
