// Which paging mode has which rows of the conformance suite.

#include <array>

#include "kvm_runner/conform.h"
#include "kvm_runner/suite/suite.h"

namespace twinwalk {
namespace {

using suite::Cases;
using suite::Paging;

// Sets of modes.
constexpr unsigned in_set(Mode mode) { return 1u << static_cast<unsigned>(mode); }
constexpr unsigned kNone = in_set(Mode::kNone), k32 = in_set(Mode::k32Bit),
                   kPae = in_set(Mode::kPae), kLong = in_set(Mode::k4Level) | in_set(Mode::k5Level),
                   kLegacy = kNone | k32 | kPae, kPaged = k32 | kPae | kLong, kWide = kPae | kLong,
                   kAll = kNone | kPaged;
constexpr unsigned kModes = 5;

struct Row {
  std::string_view name, about;
  unsigned modes;
  bool nested;
  std::array<Cases (*)(), kModes> cases;  // by Mode
};

template <Mode kMode, Cases (*kMake)(const Paging&)>
Cases in() {
  return kMake(suite::paging_of(kMode));
}

template <Cases (*kMake)(const Paging&)>
constexpr Row row(std::string_view name, unsigned modes, std::string_view about) {
  return {name,
          about,
          modes,
          false,
          {in<Mode::kNone, kMake>, in<Mode::k32Bit, kMake>, in<Mode::kPae, kMake>,
           in<Mode::k4Level, kMake>, in<Mode::k5Level, kMake>}};
}

template <Cases (*kMake)(const Paging&)>
constexpr Row nested_row(std::string_view name, unsigned modes, std::string_view about) {
  Row of_hypervisor = row<kMake>(name, modes, about);
  of_hypervisor.nested = true;
  return of_hypervisor;
}

constexpr Row kRows[] = {
    row<suite::physical>("physical", kNone, "Linear addresses that are physical ones."),
    row<suite::permissions_cpl0>(
        "permissions-cpl0", kPaged,
        "Rights of leaf and upper entries, CR0.WP on and off, supervisor."),
    row<suite::permissions_cpl3>("permissions-cpl3", kPaged, "The same for user accesses."),
    row<suite::permissions_large>("permissions-large", kPaged, "The same for 2M or 4M pages."),
    row<suite::not_present>("not-present", kPaged, "P=0 at each level."),
    row<suite::reserved_bits>("reserved-bits", kPaged, "Reserved bits at each level."),
    row<suite::pdptes>("pdptes", kPae,
                       "PDPTEs are registers: what loads them, and what is refused."),
    row<suite::accessed_dirty>("accessed-dirty", kPaged, "A and D of guest entries."),
    row<suite::large_pages>("large-pages", kPaged, "2M or 4M pages, split and remapped."),
    row<suite::large_1g>("large-1g", kLong, "1G pages."),
    row<suite::canonical>("canonical", kLong, "Non-canonical addresses."),
    row<suite::wrapping>("wrapping", kLegacy, "Addresses modulo 4 GiB."),
    row<suite::linear_space>("linear-space", kPaged,
                             "Addresses from one end of linear space to the other."),
    row<suite::page_crossing>("page-crossing", kPaged, "Accesses that cross a page."),
    row<suite::invalidation>("invalidation", kPaged,
                             "Edits of entries, and what makes them count."),
    row<suite::neighbours>("neighbours", kPaged, "Entries beside the one that is used."),
    row<suite::unsync_tables>("unsync-tables", kPaged,
                              "Tables that the guest edits through its own mappings."),
    row<suite::shared_tables>("shared-tables", kPaged, "Tables used at several places."),
    row<suite::global_pages>("global-pages", kPaged, "CR4.PGE and G."),
    row<suite::control_registers>("control-registers", kAll, "Legal and illegal register writes."),
    row<suite::mode_changes>("mode-changes", kAll, "To every other mode, and back."),
    row<suite::nx_disabled>("nx-disabled", kWide, "EFER.NXE=0."),
    row<suite::memslots>("memslots", kAll, "Memslots come, go, move and change."),
    row<suite::mmio>("mmio", kAll, "Addresses without memslot."),
    row<suite::dirty_log>("dirty-log", kAll, "The dirty log."),
    row<suite::dirty_clear>("dirty-clear", kAll, "The dirty log, cleared by hand, page by page."),
    row<suite::dirty_ring>("dirty-ring", kAll, "Rings of dirty pages, one a vCPU."),
    row<suite::notifier>("notifier", kAll, "The host changes what stands behind guest memory."),
    row<suite::host_pages>("host-pages", kAll, "Host pages of 2M below."),
    row<suite::several_vcpus>("smp", kAll, "Two vCPUs."),
    row<suite::new_vcpus>("new-vcpu", kAll, "vCPUs that are made anew."),
    row<suite::pcid>("pcid", kLong, "PCIDs, no-flush CR3, INVPCID."),
    row<suite::invpcid_faults>("invpcid-faults", kAll, "Illegal INVPCID."),
    row<suite::smep>("smep", kPaged, "CR4.SMEP."),
    row<suite::smap>("smap", kPaged, "CR4.SMAP and EFLAGS.AC."),
    row<suite::pku>("pku", kLong, "CR4.PKE and PKRU."),
    nested_row<suite::nested_rights>("nested-rights", kAll, "Rights of nested entries."),
    nested_row<suite::nested_reserved>("nested-reserved", kAll, "Reserved bits of nested entries."),
    nested_row<suite::nested_accessed_dirty>("nested-accessed-dirty", kAll,
                                             "A and D of nested entries."),
    nested_row<suite::nested_tables>("nested-tables", kPaged, "The guest's tables in nested ones."),
    nested_row<suite::nested_large>("nested-large", kAll, "Nested pages of 2M and 1G."),
    nested_row<suite::nested_invalidation>("nested-invalidation", kAll,
                                           "Edits of nested entries, and what makes them count."),
    nested_row<suite::nested_smp>("nested-smp", kAll, "A hypervisor with two vCPUs."),
    nested_row<suite::nested_vmrun>("nested-vmrun", kAll, "VMRUN, and guests that meet a device."),
};

}  // namespace

std::span<const ConformFeature> conform_features(Mode mode) {
  static const auto kByMode = [] {
    std::array<std::vector<ConformFeature>, kModes> all;
    for (const Row& r : kRows) {
      for (unsigned m = 0; m < kModes; ++m) {
        if ((r.modes >> m & 1) != 0) all[m].push_back({r.name, r.about, r.nested, r.cases[m]});
      }
    }
    return all;
  }();
  return kByMode[static_cast<unsigned>(mode)];
}

}  // namespace twinwalk
