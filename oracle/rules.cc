#include "oracle/rules.h"

namespace twinwalk::oracle::rules {

const Rule kFresh{"fresh",
                  "An access may always do what a walk of the tables as they are now says.",
                  "SDM 3A §\"Hierarchical Paging Structures: an Overview\""};
const Rule kPresent{"present",
                    "An entry with P=0 ends the walk: #PF with P=0, whatever its other bits are.",
                    "SDM 3A §\"Page-Fault Exceptions\""};
const Rule kReserved{"reserved",
                     "A present entry with a reserved bit ends the walk: #PF with P=1 and RSVD=1, "
                     "before any right is looked at.",
                     "SDM 3A §\"Page-Fault Exceptions\" and §\"Paging\", tables \"Format of a ... "
                     "Entry\"; APM 2 §\"Page-Translation-Table Entry Fields\""};
const Rule kRights{"rights",
                   "Rights are decided after the whole walk: U/S and R/W are the AND, XD the OR of "
                   "all entries used.",
                   "SDM 3A §\"Determination of Access Rights\""};
const Rule kWriteProtect{
    "write-protect",
    "With CR0.WP=1 a supervisor write needs R/W=1 in every entry; with CR0.WP=0 it does not.",
    "SDM 3A §\"Determination of Access Rights\""};
const Rule kSmep{"smep",
                 "With CR4.SMEP=1 a supervisor fetch from a user page faults, whatever XD says.",
                 "SDM 3A §\"Determination of Access Rights\""};
const Rule kSmap{"smap",
                 "With CR4.SMAP=1 a supervisor data access to a user page faults if it is implicit "
                 "or EFLAGS.AC=0.",
                 "SDM 3A §\"Determination of Access Rights\""};
const Rule kProtectionKeys{"pkey",
                           "With CR4.PKE=1 PKRU limits data accesses to user pages by key; WD does "
                           "not bind supervisor writes with CR0.WP=0.",
                           "SDM 3A §\"Protection Keys\""};
const Rule kNoExecute{"no-execute", "With EFER.NXE=1 a fetch faults if XD=1 in any entry used.",
                      "SDM 3A §\"Determination of Access Rights\""};
const Rule kErrorCode{"error-code",
                      "The error code says P, W, U, RSVD, PK of the access, and I for a fetch iff "
                      "CR4.SMEP, or CR4.PAE "
                      "and EFER.NXE, are on.",
                      "SDM 3A §\"Page-Fault Exceptions\""};
const Rule kFaultAddress{"cr2",
                         "CR2 holds the linear address; of an access that crosses a page, an "
                         "address in the page that faults.",
                         "SDM 3A §\"Page-Fault Exceptions\""};
const Rule kCanonical{"canonical",
                      "An access to a non-canonical address raises #GP(0) and walks nothing.",
                      "SDM 1 §\"Canonical Addressing\""};
const Rule kCrossing{"crossing",
                     "Both pages of an access that crosses are translated; which of two faults "
                     "comes first is open, the #GP of a non-canonical half among them.",
                     "SDM 3A §\"Priority Among Concurrent Events\""};
const Rule kAccessed{"accessed", "A is set in every entry that an access used.",
                     "SDM 3A §\"Accessed and Dirty Flags\""};
const Rule kDirty{"dirty",
                  "D is set in the entry that maps the page written to, and never by a read.",
                  "SDM 3A §\"Accessed and Dirty Flags\""};
const Rule kAdOnFault{"ad-fault",
                      "A faulting access may set A in entries that it walked; it sets no D and "
                      "changes no entry with P=0.",
                      "SDM 3A §\"Accessed and Dirty Flags\""};
const Rule kAdKept{
    "ad-kept",
    "After software clears A or D without invalidation the processor need not set it again.",
    "SDM 3A §\"Accessed and Dirty Flags\""};
const Rule kPath{"path", "A walk changes nothing in an entry but A and D.",
                 "SDM 3A §\"Accessed and Dirty Flags\""};
const Rule kData{"data",
                 "A load returns what was last stored in the frame that the address translates to.",
                 "SDM 3A §\"Memory Ordering\""};
const Rule kWrap{
    "wrap",
    "An access across the end of the 32-bit linear address space goes on at 0 or raises "
    "an exception: implementation-specific.",
    "SDM 3A §\"Limit Checking\""};
const Rule kPdpte{
    "pdpte",
    "PAE paging uses the PDPTEs as they were loaded: at MOV to CR3, and where a write changes "
    "CR0.CD, NW, PG or CR4.PAE, PGE, PSE, SMEP; a present one with a reserved bit raises #GP(0) "
    "there and nothing changes.",
    "SDM 3A §\"PDPTE Registers\""};
const Rule kPdpteAmd{
    "pdpte-amd",
    "PDPTEs are read on demand like other entries: a reserved bit in a present one "
    "is a #PF with RSVD=1 at its use.",
    "APM 2 §\"Legacy PAE Paging\""};
const Rule kMovCr{"mov-cr",
                  "MOV to a control register raises #GP(0) on reserved bits and illegal "
                  "combinations, else it takes effect.",
                  "SDM 2B §\"MOV - Move to/from Control Registers\""};
const Rule kMovCr32{
    "mov-cr-32",
    "Outside 64-bit mode MOV to CR0 and CR4 has a 32-bit operand; what more in it would do is "
    "nobody's to say.",
    "SDM 2B §\"MOV - Move to/from Control Registers\""};
const Rule kEfer{"efer",
                 "WRMSR to EFER raises #GP(0) on reserved bits and on a change of LME while paging "
                 "is on; LMA is read-only.",
                 "SDM 3A §\"Extended Feature Enable Register\""};
const Rule kEferAmd{
    "efer-amd",
    "A write of EFER.LMA that differs raises #GP(0) on the processors the manual describes, "
    "hypervisors ignore it; TCE depends on a CPUID bit that the machine line does not have.",
    "APM 2 §\"Extended Feature Enable Register (EFER)\""};
const Rule kInvpcid{"invpcid",
                    "INVPCID raises #GP(0) for type > 3, descriptor bits 63:12, a PCID with "
                    "CR4.PCIDE=0, a non-canonical address with type 0.",
                    "SDM 2A §\"INVPCID - Invalidate Process-Context Identifier\""};
const Rule kSregs{"sregs",
                  "The host may set any consistent control registers of a vCPU, at once; "
                  "inconsistent ones are refused and change nothing. Nothing cached survives.",
                  "KVM API §\"KVM_SET_SREGS\""};
const Rule kSmm{"smm",
                "Inside SMM memory is address space 1, outside it space 0; no translation made in "
                "one is used in the other. SMI in SMM and RSM outside it do nothing here.",
                "SDM 3C §\"SMRAM\"; KVM API §\"KVM_SET_USER_MEMORY_REGION\""};
const Rule kInit{
    "init",
    "INIT and RESET give the registers their values of the manual's table, end SMM and "
    "leave nothing cached.",
    "SDM 3A §\"Processor State After Reset\""};
const Rule kCpuid{"cpuid",
                  "The host may change the guest's capabilities, unless a vCPU uses what would go "
                  "or the shared bit would be another; "
                  "reserved bits and page sizes follow at once and nothing cached survives.",
                  "KVM API §\"KVM_SET_CPUID2\"; SDM 3A §\"Enumeration of Paging Features by "
                  "CPUID\""};
const Rule kNewVcpu{"new-vcpu", "A vCPU that is made anew has nothing of the one before it.",
                    "KVM API §\"KVM_CREATE_VCPU\""};
const Rule kInvlpga{"invlpga",
                    "INVLPGA raises #UD without EFER.SVME; with ASID 0 it is INVLPG, and another "
                    "ASID has no translations of this guest.",
                    "APM 3 §\"INVLPGA\""};
const Rule kGet{"get", "A register is read as it was last set.",
                "SDM 2B §\"MOV - Move to/from Control Registers\""};
const Rule kMode{"mode", "A step for a vCPU that the machine does not have is skipped.",
                 "harness/trace README"};
const Rule kStale1{"stale-1",
                   "Nothing is cached from an entry with P=0 or a reserved bit, at any level.",
                   "SDM 3A §\"Caching Translation Information\""};
const Rule kStale2{"stale-2", "Nothing is cached from an entry with A=0.",
                   "SDM 3A §\"Caching Translation Information\""};
const Rule kStale3{"stale-3",
                   "After rights were widened without invalidation an address may fault once more; "
                   "a second time is wrong.",
                   "SDM 3A §\"Optional Invalidation\""};
const Rule kStale4{"stale-4",
                   "A #PF invalidates the TLB entries of its page number and the paging-structure "
                   "entries for its address.",
                   "SDM 3A §\"Operations that Invalidate TLBs and Paging-Structure Caches\""};
const Rule kStale5{
    "stale-5",
    "Until an invalidation covers it, an old translation may be used beside the new one.",
    "SDM 3A §\"Delayed Invalidation\""};
const Rule kStale6{"stale-6",
                   "INVLPG drops its page number (global ones in all PCIDs) and all "
                   "paging-structure caches of the current PCID.",
                   "SDM 3A §\"Operations that Invalidate TLBs and Paging-Structure Caches\""};
const Rule kStale7{
    "stale-7",
    "INVLPG or a #PF drops all of a large page if the structures now map the address with one; "
    "what "
    "was cached of smaller pages elsewhere in it may stay.",
    "SDM 3A §\"Details of TLB Use\", §\"Operations that Invalidate TLBs and Paging-Structure "
    "Caches\""};
const Rule kStale8{"stale-8",
                   "MOV to CR3 drops the non-global translations of the PCID it loads, unless "
                   "CR4.PCIDE=1 and bit 63 is set.",
                   "SDM 3A §\"Operations that Invalidate TLBs and Paging-Structure Caches\""};
const Rule kStale9{
    "stale-9",
    "A change of CR0.PG, CR4.PAE, PSE, PGE or a clear of CR4.PCIDE drops everything; "
    "SMEP 0 to 1 drops the current PCID.",
    "SDM 3A §\"Operations that Invalidate TLBs and Paging-Structure Caches\", "
    "§\"Invalidating the Translation Lookaside Buffers (TLBs)\"; APM 2 "
    "§\"Translation-Lookaside Buffer (TLB)\""};
const Rule kStale10{
    "stale-10",
    "Speculation may walk present entries and set A; whether it may set D the manual leaves open "
    "(AMD: never).",
    "SDM 3A §\"Accessed and Dirty Flags\"; APM 2 §\"Page-Translation-Table Entry Fields\""};
const Rule kStale11{"stale-11",
                    "Updates of A and D are locked: a concurrent change of the entry is not lost.",
                    "SDM 3A §\"Automatic Locking\""};
const Rule kStale12{"stale-12",
                    "With CR4.PGE=1 a global translation is used under any PCID, a stale one too.",
                    "SDM 3A §\"Global Pages\""};
const Rule kStale13{"stale-13", "INVLPG of a non-canonical address does nothing.",
                    "SDM 2A §\"INVLPG - Invalidate TLB Entries\""};
const Rule kStale14{
    "stale-14", "Two linear addresses of one frame owe each other no coherence of translations.",
    "SDM 3A §\"Caching Translation Information\""};
const Rule kEptPresent{"ept-present",
                       "An EPT entry with none of R, W, X (with MBEC: and bit 10) is not present, "
                       "whatever its other bits are: EPT violation, with bits 5:3 of the "
                       "qualification 0.",
                       "SDM 3C §\"EPT Violations\""};
const Rule kEptMisconfig{
    "ept-misconfig",
    "A present EPT entry with W but not R, X but not R without execute-only support, a reserved "
    "bit, or in a leaf memory type 2, 3 or 7 ends the walk: EPT misconfiguration, before any right "
    "is looked at.",
    "SDM 3C §\"EPT Misconfigurations\""};
const Rule kEptRights{
    "ept-rights",
    "Rights of a guest-physical address are decided after its whole EPT walk, as the AND of all "
    "entries used.",
    "SDM 3C §\"EPT Violations\" and §\"Prioritization of EPT Misconfigurations and EPT "
    "Violations\""};
const Rule kEptQualification{
    "ept-qualification",
    "The exit qualification says what was tried (bits 2:0), what the EPT entries allow (6:3), "
    "whether there is a linear address (7) and whether the guest-physical one is its translation "
    "(8); of a read-modify-write bit 0 is open, bits 11:9 are as the guest's tables have it with "
    "advanced information only.",
    "SDM 3C §\"Basic VM-Exit Information\", table \"Exit Qualification for EPT Violations\""};
const Rule kEptTables{
    "ept-tables",
    "With accessed and dirty flags for EPT an access to a guest paging-structure entry is a write; "
    "without, it is a read, and the processor's own update of A and D a write. PDPTE loads are "
    "reads.",
    "SDM 3C §\"EPT Violations\" and §\"Accessed and Dirty Flags for EPT\""};
const Rule kEptp{
    "eptp",
    "VM entry takes an EPTP with memory type 0 or 6, a supported page-walk length, bit 6 only with "
    "support, and no reserved bit or one beyond MAXPHYADDR.",
    "SDM 3C §\"VM-Execution Control Fields\" of \"Checks on VMX Controls\""};
const Rule kGpaWidth{
    "gpa-width",
    "What a guest-physical address does that is wider than the second dimension's tables is not "
    "modelled.",
    "SDM 3C §\"EPT Overview\"; APM 2 §\"Nested Paging\""};
const Rule kTdpTags{
    "tdp-tags",
    "Guest-physical mappings are kept by EP4TA, combined ones by VPID, PCID and EP4TA; NPT's by "
    "ASID.",
    "SDM 3C §\"Caching Translation Information\"; APM 2 §\"TLB Management\""};
const Rule kTdpStale{
    "tdp-stale",
    "Until INVEPT a former EPT translation may be used beside the new one; a violation ends those "
    "of its guest-physical address and, if that is the translation of a linear address, the "
    "combined ones of that address.",
    "SDM 3C §\"Operations that Invalidate Cached Mappings\" and §\"Guidelines for Use of the "
    "INVEPT Instruction\""};
const Rule kTdpNothing{
    "tdp-nothing",
    "Nothing is cached from an entry of the second dimension that is not present or misconfigured.",
    "SDM 3C §\"Caching Translation Information\""};
const Rule kVpid{
    "vpid",
    "With VPIDs not enabled VM entry and VM exit drop all linear and combined mappings of VPID 0; "
    "else they drop nothing.",
    "SDM 3C §\"Operations that Invalidate Cached Mappings\""};
const Rule kInvept{
    "invept",
    "INVEPT of type 1 drops guest-physical and combined mappings of the EP4TA, type 2 of all; any "
    "other type, or with type 1 an EPTP that VM entry would not take, fails.",
    "SDM 3C §\"INVEPT - Invalidate Translations Derived from EPT\""};
const Rule kInvvpid{
    "invvpid",
    "INVVPID drops linear and combined mappings of a VPID: of one address (0), all (1, and 3 "
    "except "
    "globals), or of all VPIDs but 0 (2). VPID 0, a type above 3 and a non-canonical address fail.",
    "SDM 3C §\"INVVPID - Invalidate Translations Based on VPID\""};
const Rule kPml{
    "pml",
    "Whenever D of an EPT entry goes from 0 to 1 the guest-physical page is logged; with the log "
    "full, setting A or D is an exit instead, and nothing is changed.",
    "SDM 3C §\"Page-Modification Logging\""};
const Rule kNpt{"npt",
                "A nested entry with P=0 ends the nested walk: #NPF, with bit 33 for an entry of "
                "the guest's tables and 32 for the final address, one of both.",
                "APM 2 §\"Nested versus Guest Page Faults, Fault Ordering\""};
const Rule kNptRights{
    "npt-rights",
    "The nested walk is a user access: U, for stores W, must be set in every nested entry; a fetch "
    "needs XD=0 in each if the host's EFER.NXE is on.",
    "APM 2 §\"Nested Table Walk\" and §\"Nested versus Guest Page Faults, Fault Ordering\""};
const Rule kNptTables{"npt-tables",
                      "An access to an entry of the guest's tables is a write in the nested walk.",
                      "APM 2 §\"Nested Table Walk\""};
const Rule kNptReserved{
    "npt-reserved",
    "A present nested entry with a bit that the host's paging mode reserves is a #NPF with RSVD.",
    "APM 2 §\"Nested versus Guest Page Faults, Fault Ordering\""};
const Rule kTlbControl{
    "tlb-control", "TLB_CONTROL 1 drops everything, 3 all of the guest's ASID, 7 that but globals.",
    "APM 2 §\"TLB Control\""};
const Rule kVmrun{
    "vmrun",
    "VMRUN fails with ASID 0; what it makes of reserved encodings of TLB_CONTROL and of an nCR3 "
    "beyond MAXPHYADDR is open here.",
    "APM 2 §\"Canonicalization and Consistency Checks\""};
const Rule kVirtual25{
    "virtual-25", "Faults that only the hypervisor's tables cause are never visible to the guest.",
    "SDM 3C §\"Virtual TLB Scheme\""};
const Rule kVirtual26{"virtual-26", "A virtual TLB may forget more than hardware would.",
                      "SDM 3C §\"Virtual TLB Scheme\""};
const Rule kVirtual27{"virtual-27", "An aligned 8-byte entry is never seen torn.",
                      "SDM 3A §\"Guaranteed Atomic Operations\""};
const Rule kVirtual28{
    "virtual-28",
    "The dirty log holds at least every page that the guest wrote since the last collection, or, "
    "with manual-clear, since it was last cleared.",
    "KVM API §\"KVM_GET_DIRTY_LOG\", §\"KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2\""};
const Rule kVirtual29{"virtual-29",
                      "An access is MMIO exactly where the current memslots have no memory (or no "
                      "writable memory) for it.",
                      "KVM API §\"KVM_SET_USER_MEMORY_REGION\""};
const Rule kVirtual30{
    "virtual-30",
    "A frame that the host took back, moved or unmapped from the guest is never seen again.",
    "SDM 3C §\"Virtual TLB Scheme\"; Linux mmu_notifier"};
const Rule kVirtual31{
    "virtual-31",
    "Edits of guest tables by the host process, or through another gfn of the same "
    "host page, may leave old translations until the guest stores to the entry "
    "by the gfn that the table is walked by.",
    "KVM API §\"KVM_SET_USER_MEMORY_REGION\"; Linux kvm_gfn_is_write_tracked"};
const Rule kVirtual32{"virtual-32", "An emulated access obeys the control registers as they are.",
                      "SDM 3A §\"Access Rights\""};
const Rule kVirtual33{"virtual-33",
                      "When nothing changes, an access completes after a bounded number of faults.",
                      "SDM 3C §\"Virtual TLB Scheme\""};
const Rule kProfileKvm{"kvm",
                       "Under profile kvm injected faults equal the fresh walk, and only level-1 "
                       "entries and untracked edits may be stale.",
                       "SDM 3C §\"Virtual TLB Scheme\"; oracle README"};
const Rule kHostRequest{
    "host-request",
    "A host request is refused exactly if it is malformed; a refused one changes nothing.",
    "KVM API §\"KVM_SET_USER_MEMORY_REGION\""};
const Rule kPrivate{
    "private",
    "Private memory is reached by private addresses only and shared memory by shared ones only; an "
    "access by the other kind ends in a memory fault.",
    "KVM API §\"KVM_SET_MEMORY_ATTRIBUTES\", §\"KVM_EXIT_MEMORY_FAULT\""};
const Rule kIdentityMap{"identity-map",
                        "What a guest finds in a page that its hypervisor keeps in its memory for "
                        "itself is not defined.",
                        "KVM API §\"KVM_SET_IDENTITY_MAP_ADDR\""};
const Rule kTableMmio{
    "table-mmio",
    "What a walk reads from a table without memory behind it is not defined by the architecture.",
    "SDM 3A §\"Memory Typing and Paging\""};
const Rule kTableReadOnly{"table-read-only",
                          "What happens when A or D must be set in a table in read-only memory is "
                          "not defined by the architecture.",
                          "KVM API §\"KVM_SET_USER_MEMORY_REGION\""};
const Rule kOwnChecks{
    "own-checks", "The subject's own audit, host memory or liveness bound found its state broken.",
    "oracle README"};

namespace {
constexpr const Rule* kAll[] = {&kFresh,
                                &kPresent,
                                &kReserved,
                                &kRights,
                                &kWriteProtect,
                                &kSmep,
                                &kSmap,
                                &kProtectionKeys,
                                &kNoExecute,
                                &kErrorCode,
                                &kFaultAddress,
                                &kCanonical,
                                &kCrossing,
                                &kAccessed,
                                &kDirty,
                                &kAdOnFault,
                                &kAdKept,
                                &kPath,
                                &kData,
                                &kWrap,
                                &kPdpte,
                                &kPdpteAmd,
                                &kMovCr,
                                &kMovCr32,
                                &kEfer,
                                &kEferAmd,
                                &kSregs,
                                &kInvpcid,
                                &kMode,
                                &kSmm,
                                &kInit,
                                &kCpuid,
                                &kNewVcpu,
                                &kInvlpga,
                                &kGet,
                                &kStale1,
                                &kStale2,
                                &kStale3,
                                &kStale4,
                                &kStale5,
                                &kStale6,
                                &kStale7,
                                &kStale8,
                                &kStale9,
                                &kStale10,
                                &kStale11,
                                &kStale12,
                                &kStale13,
                                &kStale14,
                                &kEptPresent,
                                &kEptMisconfig,
                                &kEptRights,
                                &kEptQualification,
                                &kEptTables,
                                &kEptp,
                                &kGpaWidth,
                                &kTdpTags,
                                &kTdpStale,
                                &kTdpNothing,
                                &kVpid,
                                &kInvept,
                                &kInvvpid,
                                &kPml,
                                &kNpt,
                                &kNptRights,
                                &kNptTables,
                                &kNptReserved,
                                &kTlbControl,
                                &kVmrun,
                                &kVirtual25,
                                &kVirtual26,
                                &kVirtual27,
                                &kVirtual28,
                                &kVirtual29,
                                &kVirtual30,
                                &kVirtual31,
                                &kVirtual32,
                                &kVirtual33,
                                &kProfileKvm,
                                &kHostRequest,
                                &kPrivate,
                                &kIdentityMap,
                                &kTableMmio,
                                &kTableReadOnly,
                                &kOwnChecks};
}  // namespace

std::span<const Rule* const> all() { return kAll; }

const Rule* find(std::string_view id) {
  for (const Rule* rule : kAll) {
    if (rule->id == id) return rule;
  }
  return nullptr;
}

}  // namespace twinwalk::oracle::rules
