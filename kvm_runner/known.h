#ifndef TWINWALK_KVM_RUNNER_KNOWN_H_
#define TWINWALK_KVM_RUNNER_KNOWN_H_

// Known deviations of KVMs from the manual (corpus/known/kvm.json): data, not code. An entry is a
// list of conditions on facts of one divergent step, all of which must hold, and names a trace that
// shows it and a near neighbour that agrees.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/subject.h"

namespace twinwalk {

// A divergent step, within what led to it.
struct DivergentStep {
  const SubjectInfo& subject;
  const Program& program;
  const OutcomeStream& outcomes;
  std::uint32_t index;
  const Verdict& verdict;
};

struct KnownCondition {
  std::string fact;
  std::string is;  // a name, or a number as the fact gives it
};

struct KnownDeviation {
  std::string id;
  std::string subject;  // "kvm"
  std::vector<std::string>
      hosts;  // the subject's version contains all words of one: "kvm_pvm", "kvm_amd npt=N"
  std::vector<KnownCondition> when;
  std::string rule, right, citation;  // the rule, who is right by it, where it stands
  std::string trace, neighbour;       // files in corpus/known
};

// The value of a fact; throws std::runtime_error if there is none of that name.
//   verb, class, field     of step and verdict, as named in traces and results
//   access, register       of the step, empty for other verbs
//   cpl                    at which the access ran: 0, 3
//   ec-change              of a #PF or #NPF whose error code alone is wrong: the bits that it lacks
//   and
//                          those that it has too many, "-w", "-p", "-w+rsvd"; empty otherwise
//   ec-rsvd                1: a #PF with RSVD was got
//   ec-w                   of a #PF or #NPF that was got: its W
//   apic-page              1: where it landed is the page at 0xfee00000
//   crosses-page           1: the access begins in one page and ends in the next
//   efer-reserved          1: an `sregs` that sets a bit of EFER that is reserved on the machine
//   rule                   id of the rule that decided (oracle/rules.cc)
//   got-kind               of the outcome: "ok", "mmio", ...
//   wp, smap, nxe          0 or 1: CR0.WP, CR4.SMAP, EFER.NXE of the step's vCPU, by its last write
//                          that was taken
//   path-xd                1: an entry of the access's path has XD
//   root-index             of the gva in the root table: 0 .. 511
//   crosses-edge           1: the access begins or ends, but not both, at a canonical address
//   high-half              1: the value written has bits above 31
//   lacked-cr4-bit         1: a write to CR4 that sets a bit whose feature the machine lacks, an
//                          `sregs` that does, or an
//                          access on a vCPU whose CR4 took such a value last
//   after-torn-store       1: a page-crossing store of CPL 0 that faulted came before, on this page
//   mode                   paging mode of the step's vCPU
//   path-ps, path-high     1: an entry of the access's path has PS; has one of the bits 62:52
//   directory-ps           1: 32-bit paging: the directory entry by which the access goes has PS,
//   or
//                          had it when some access went by it, and the guest has not changed it
//                          since
//   walked-xd              1: the access goes by a present entry with XD by which some access of a
//                          vCPU with EFER.NXE went before
//   straddled-entry        1: the access goes by an 8-byte entry into which a store of four bytes
//   of
//                          the guest's, begun in the entry before, was the last to store
//   nested                 1: the trace is a hypervisor
//   upper-g                1: a present PML4E or PML5E of the access's path has G
//   after-upper-g          1: an access of this vCPU to the page was of upper-g before, and no
//                          fault, and nothing has invalidated what it found
//   device-remembered      1: the same of one that came to the device's page where this one came to
//   kept-over-fault        1: an access of this vCPU to the page completed before, then one or more
//                          had a fault, and nothing else has invalidated what the first found; or
//                          the first is a read-modify-write whose fault says P and W
//   loads-by-former-way    1: the value that was loaded is what an access of this vCPU to the page
//                          that completed before would load by the way it went, and nothing since
//                          has invalidated what that found
//   wp0-stored             1: CPL 0 stored to the page with CR0.WP=0 by entries that are the user's
//                          and read-only, on this vCPU, and nothing since has invalidated what that
//                          found
//   rmw-beside-device      1: the image differs in a word to which a read-modify-write that came to
//   a
//                          device would have stored by its walk
//   torn-table-word        1: a word of a table that KVM shadows, the guest's or a nested one, in
//                          which a store began that had a fault in the next page, is what path,
//                          value or image differ in, or the walk meets it
//   allowed-rsvd           1: a #PF with RSVD was allowed
//   denied-store           1: a #PF with P and W and without RSVD was allowed
//   et-clear               1: a `get` of CR0 gave what an `sregs` set, without ET, and that is all
//                          that is wrong with it
//   sregs-unchanged        1: the last `sregs` of the step's vCPU changed no register
//   sregs-pcide            1: an `sregs` after which CR4.PCIDE would be set outside IA-32e mode
//   page-zero              1: the access begins in the first page of linear space
//   pse36                  1: the machine has that feature
//   pse-toggled            1: CR4.PSE of some vCPU has changed before
//   pdpte-reserved         1: PAE: a PDPTE that the access goes by is present with a reserved bit;
//                          some PDPTE that a write of a register would have in use
//   pdpte-changed          1: PAE: a PDPTE that the access goes by is another than when this vCPU
//                          last wrote a register in a way that loads PDPTEs
//   pdpte-walked           1: PAE: a PDPTE that the access goes by has an A that a walk has set
//   pdpte-at-cr0           1: PAE: a PDPTE that the access goes by was another in memory than the
//                          one that was loaded, when this vCPU last wrote CR0 in a way that loads
//                          none
//   pdpte-accessed         1: path or value differ in bit A of a PDPTE, wherever in the value that
//                          is, and in nothing else: one of the vCPU's, or one in which a walk has
//                          set A
//   pdpte-trail            1: path or value differ in a word to which an earlier access that was of
//                          pdpte-reserved, pdpte-changed or refused-for-pdptes has stored; or in A
//                          and D alone of one that a walk of it by the PDPTEs that were loaded
//                          meets; and nobody has stored all of the word since
//   refused-for-pdptes     1: an access or a write of a register, where a write of a register of
//                          this vCPU was refused with pdpte-reserved, and no later one of that
//                          register was taken; or a `get` of that register
//   ept-ad                 1: the second dimension has accessed and dirty flags: the machine's, and
//                          the processor's by its capabilities where the version tells them
//   lost-table             1: the gfn that a dirty log lacks is one where `map` puts tables, or a
//                          table through which an access before went
//   npf-at-nested-table    1: a #NPF was got, and where it was met the guest has a nested table
//                          that some walk has gone through
//   value-lacks-d          1: the value that was loaded is the access's own leaf, which has A and
//                          lacks D, and differs in that alone; with 32-bit paging either half of it
std::string fact_of(const DivergentStep& step, std::string_view name);

// Whether the entry is about the host that the subject runs on.
bool runs_on(const KnownDeviation& entry, const SubjectInfo& subject);

class KnownDeviations {
 public:
  // Throws std::runtime_error with one line on what is not understood: an unknown key or fact is an
  // error, so that no entry is wider than it reads.
  static KnownDeviations parse(std::string_view json);
  // corpus/known/kvm.json as it was when the program was built.
  static const KnownDeviations& built_in();

  // Id of the first entry that covers the step, empty if none does. What the subject complains of,
  // and a word of the image that differs at the end, is covered only by an entry that names the
  // class.
  std::string_view covering(const DivergentStep& step) const;
  const std::vector<KnownDeviation>& entries() const { return entries_; }

 private:
  std::vector<KnownDeviation> entries_;
};

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_KNOWN_H_
