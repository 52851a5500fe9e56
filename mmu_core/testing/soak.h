#ifndef MMU_CORE_TESTING_SOAK_H_
#define MMU_CORE_TESTING_SOAK_H_

// What tests have in common that make random calls of the facade, each followed by an audit. The
// parameter is the seed, and by its bits decides the configuration.

#include <gtest/gtest.h>

#include <cstddef>
#include <initializer_list>
#include <random>

#include "mmu_core/testing/guest.h"

namespace mmu::testing {

class SoakTest : public ::testing::TestWithParam<unsigned> {
 protected:
  explicit SoakTest(const VmConfig& config)
      : guest_(config), vcpus_(config.vcpus), random_(GetParam()) {}

  // One random call, on any vCPU.
  virtual void step(u32 vcpu) = 0;
  void run(unsigned steps) {
    for (unsigned i = 0; i < steps; ++i) {
      step(static_cast<u32>(pick(vcpus_)));
      guest_.audit();
      ASSERT_FALSE(HasFailure()) << "step " << i << ", seed " << GetParam();
    }
  }

  u64 pick(u64 n) { return random_() % n; }
  template <class T, std::size_t n>
  T any_of(const T (&from)[n]) {
    return from[pick(n)];
  }
  template <class T>
  T any_of(std::initializer_list<T> from) {
    return from.begin()[pick(from.size())];
  }
  // Of an entry: mostly every right, A set and D clear.
  u64 any_flags() {
    u64 flags = kRights | pte::kA;
    for (const u64 bit : {pte::kW, pte::kU, pte::kA, pte::kD, pte::kG, pte::kXd})
      if (pick(8) == 0) flags ^= bit;
    return flags;
  }

  Guest guest_;

 private:
  const u32 vcpus_;
  std::mt19937_64 random_;
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_SOAK_H_
