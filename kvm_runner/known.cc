#include "kvm_runner/known.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <set>
#include <stdexcept>

#include "harness/trace/followed_registers.h"
#include "harness/trace/json_field.h"
#include "kvm_runner/former_ways.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/known_text.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/nested/nested_history.h"
#include "kvm_runner/pdpte_history.h"
#include "kvm_runner/replayed_registers.h"
#include "kvm_runner/step_limits.h"
#include "kvm_runner/torn_stores.h"

namespace twinwalk {
namespace {

using json = json_field::Json;

constexpr std::string_view kFacts[] = {"verb",
                                       "class",
                                       "field",
                                       "access",
                                       "register",
                                       "cpl",
                                       "rule",
                                       "got-kind",
                                       "wp",
                                       "smap",
                                       "nxe",
                                       "path-xd",
                                       "ec-change",
                                       "ec-rsvd",
                                       "root-index",
                                       "crosses-edge",
                                       "high-half",
                                       "lacked-cr4-bit",
                                       "after-torn-store",
                                       "mode",
                                       "path-ps",
                                       "directory-ps",
                                       "walked-xd",
                                       "straddled-entry",
                                       "nested",
                                       "path-high",
                                       "page-zero",
                                       "sregs-unchanged",
                                       "upper-g",
                                       "after-upper-g",
                                       "pse36",
                                       "pse-toggled",
                                       "pdpte-reserved",
                                       "pdpte-changed",
                                       "pdpte-at-cr0",
                                       "sregs-pcide",
                                       "pdpte-walked",
                                       "pdpte-accessed",
                                       "pdpte-trail",
                                       "refused-for-pdptes",
                                       "apic-page",
                                       "crosses-page",
                                       "ec-w",
                                       "efer-reserved",
                                       "ept-ad",
                                       "lost-table",
                                       "npf-at-nested-table",
                                       "value-lacks-d",
                                       "device-remembered",
                                       "denied-store",
                                       "allowed-rsvd",
                                       "et-clear",
                                       "kept-over-fault",
                                       "loads-by-former-way",
                                       "wp0-stored",
                                       "rmw-beside-device",
                                       "torn-table-word"};

// Of 8-byte entries: software's in IA-32e mode, reserved in PAE mode.
constexpr std::uint64_t kSoftwareBits = 0x7ff0'0000'0000'0000;

const Op& op_of(const DivergentStep& s, std::uint32_t index) { return s.program.steps[index].what; }

// The CPL of an access that does not say its own is what `mov cpl` left on its vCPU.
std::uint64_t cpl_at(const DivergentStep& s, std::uint32_t index) {
  const Op& op = op_of(s, index);
  if (op.gives(Field::kCpl)) return op.cpl == 3 ? 3 : 0;
  for (std::uint32_t i = index; i-- > 0;) {
    const Op& earlier = op_of(s, i);
    if (earlier.verb != Verb::kMov || earlier.reg() != Reg::kCpl || earlier.vcpu != op.vcpu)
      continue;
    if (s.outcomes.steps[i].kind == OutcomeKind::kDone) return earlier.value == 3 ? 3 : 0;
  }
  return 0;
}

std::uint64_t last_byte(const Op& op) { return op.gva + op.size - 1; }

bool is_torn_store(const DivergentStep& s, std::uint32_t index) {
  const Op& op = op_of(s, index);
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  if (op.verb != Verb::kAccess || !stores || op.gva / kvm::kPage == last_byte(op) / kvm::kPage)
    return false;
  return s.outcomes.steps[index].kind == OutcomeKind::kPageFault && cpl_at(s, index) == 0;
}

bool after_torn_store(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  if (op.verb != Verb::kAccess) return false;
  for (std::uint32_t i = 0; i < s.index; ++i) {
    if (is_torn_store(s, i) && op_of(s, i).gva / kvm::kPage == op.gva / kvm::kPage) return true;
  }
  return false;
}

bool path_has(const DivergentStep& s, std::uint64_t bits) {
  for (const Path& path : s.outcomes.steps[s.index].path) {
    for (unsigned i = 0; i < path.count; ++i) {
      if ((path.entry[i] & bits) != 0) return true;
    }
  }
  return false;
}

std::string flag(bool set) { return set ? "1" : "0"; }

// The registers of the step's vCPU, by the writes that were taken.
FollowedRegisters registers_at(const DivergentStep& s) {
  FollowedRegisters registers;
  registers.reset(s.program.machine);
  for (std::uint32_t i = 0; i < s.index; ++i) {
    const Op& op = op_of(s, i);
    if (op.vcpu != op_of(s, s.index).vcpu || s.outcomes.steps[i].kind != OutcomeKind::kDone)
      continue;
    kvm::replay(op, s.program.machine, registers);
  }
  return registers;
}

bool sregs_unchanged(const DivergentStep& s) {
  for (std::uint32_t i = s.index; i-- > 0;) {
    const Op& op = op_of(s, i);
    const bool took = s.outcomes.steps[i].kind == OutcomeKind::kDone;
    if (op.verb != Verb::kSregs || op.vcpu != op_of(s, s.index).vcpu || !took) continue;
    const FollowedRegisters before = registers_at({s.subject, s.program, s.outcomes, i, s.verdict});
    FollowedRegisters after = before;
    after.set(op);
    return after.cr0() == before.cr0() && after.cr3() == before.cr3() &&
           after.cr4() == before.cr4() && after.efer() == before.efer();
  }
  return false;
}

// CR0 is read with ET clear, and in nothing else wrong, after an `sregs` that had it so.
bool et_clear(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  if (op.verb != Verb::kGet || op.reg() != Reg::kCr0) return false;
  for (std::uint32_t i = s.index; i-- > 0;) {
    const Op& earlier = op_of(s, i);
    const bool took = s.outcomes.steps[i].kind == OutcomeKind::kDone;
    const bool writes = (earlier.verb == Verb::kSregs && earlier.gives(Field::kCr0)) ||
                        (earlier.verb == Verb::kMov && earlier.reg() == Reg::kCr0);
    if (earlier.vcpu != op.vcpu || !took || !writes) continue;
    return earlier.verb == Verb::kSregs && (earlier.cr0 & cr0::kEt) == 0 &&
           s.outcomes.steps[s.index].value == earlier.cr0 &&
           s.verdict.allowed == fmt::format("{:#x}", earlier.cr0 | cr0::kEt);
  }
  return false;
}

// SDM 3A §"Process-Context Identifiers (PCIDs)": only in IA-32e mode.
bool asks_for_pcids_outside_long_mode(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  if (op.verb != Verb::kSregs) return false;
  FollowedRegisters wanted = registers_at(s);
  wanted.set(op);
  return (wanted.cr4() & cr4::kPcide) != 0 && (wanted.efer() & efer::kLma) == 0;
}

// G in an entry above the level of PDPTEs.
bool upper_g(const DivergentStep& s) {
  const Mode mode = registers_at(s).mode();
  const unsigned upper = mode == Mode::k5Level ? 2 : mode == Mode::k4Level ? 1 : 0;
  for (const Path& path : s.outcomes.steps[s.index].path) {
    for (unsigned i = 0; i < path.count && i < upper; ++i) {
      if ((path.entry[i] & (pte::kP | pte::kG)) == (pte::kP | pte::kG)) return true;
    }
  }
  return false;
}

// What makes a vCPU drop what it has cached for the page, a fault there apart.
bool drops(const Op& op, std::uint64_t page) {
  switch (op.verb) {
    case Verb::kInvlpg:
      return op.gva / kvm::kPage == page;
    case Verb::kMov:
      return op.reg() != Reg::kCpl && op.reg() != Reg::kAc && op.reg() != Reg::kPkru;
    case Verb::kInvpcid:
      return op.type != 0 || op.gva / kvm::kPage == page;  // 0: of one address
    case Verb::kSregs:
    case Verb::kInit:
    case Verb::kNewVcpu:
      return true;
    default:
      return false;
  }
}

bool completes(OutcomeKind kind) { return kind == OutcomeKind::kOk || kind == OutcomeKind::kMmio; }

// An access of this vCPU to the page that completed, and of which `holds(index)`, came before, and
// nothing since has made the vCPU drop what that found.
template <class Holds>
bool after_access(const DivergentStep& s, Holds holds) {
  const Op& op = op_of(s, s.index);
  const std::uint64_t page = op.gva / kvm::kPage;
  for (std::uint32_t i = s.index; op.verb == Verb::kAccess && i-- > 0;) {
    const Op& earlier = op_of(s, i);
    if (earlier.vcpu != op.vcpu) continue;
    if (drops(earlier, page)) return false;
    if (earlier.verb != Verb::kAccess || earlier.gva / kvm::kPage != page) continue;
    const OutcomeKind kind = s.outcomes.steps[i].kind;
    if (completes(kind) && holds(i)) return true;
    if (kind == OutcomeKind::kPageFault) return false;
  }
  return false;
}

// The same, but for faults there that came between, one at least. A read-modify-write that must not
// store may have loaded before its fault.
bool kept_over_fault(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  const std::uint64_t page = op.gva / kvm::kPage;
  constexpr std::uint64_t kDenied = pfec::kP | pfec::kW;
  bool fault = false;
  for (std::uint32_t i = s.index; op.verb == Verb::kAccess && i-- > 0;) {
    const Op& earlier = op_of(s, i);
    if (earlier.vcpu != op.vcpu) continue;
    if (drops(earlier, page)) return false;
    if (earlier.verb != Verb::kAccess || earlier.gva / kvm::kPage != page) continue;
    const Outcome& outcome = s.outcomes.steps[i];
    if (completes(outcome.kind)) return fault;
    if (outcome.kind != OutcomeKind::kPageFault) continue;
    fault = true;
    if (earlier.access() == AccessKind::kRmw && (outcome.error_code & kDenied) == kDenied)
      return true;
  }
  return false;
}

bool after_upper_g(const DivergentStep& s) {
  return after_access(s, [&](std::uint32_t i) {
    return upper_g({s.subject, s.program, s.outcomes, i, s.verdict});
  });
}

// It came to the device's page to which this one came, too.
bool device_remembered(const DivergentStep& s) {
  const Outcome& got = s.outcomes.steps[s.index];
  return got.kind == OutcomeKind::kMmio && after_access(s, [&](std::uint32_t i) {
           const Outcome& earlier = s.outcomes.steps[i];
           return earlier.kind == OutcomeKind::kMmio &&
                  earlier.gpa[0] / kvm::kPage == got.gpa[0] / kvm::kPage;
         });
}

kvm::FormerWays ways_of(const DivergentStep& s) { return {s.program, s.outcomes, s.index}; }

bool loads_by_former_way(const DivergentStep& s) {
  return s.outcomes.steps[s.index].kind == OutcomeKind::kOk &&
         after_access(s, [&](std::uint32_t i) { return ways_of(s).loads_by_way_of(i); });
}

// A store of CPL 0 that CR0.WP=0 let pass: to a page that is the user's, and read-only.
bool wp0_stored(const DivergentStep& s) {
  return after_access(s, [&](std::uint32_t i) {
    const Op& op = op_of(s, i);
    const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
    if (!stores || cpl_at(s, i) != 0 || s.outcomes.steps[i].kind != OutcomeKind::kOk) return false;
    if ((registers_at({s.subject, s.program, s.outcomes, i, s.verdict}).cr0() & cr0::kWp) != 0)
      return false;
    std::uint64_t all = pte::kW | pte::kU;
    const Path& path = s.outcomes.steps[i].path[0];
    for (unsigned step = 0; step < path.count; ++step) all &= path.entry[step];
    return path.count != 0 && all == pte::kU;
  });
}

bool crosses_edge(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  const std::uint64_t top = bit(registers_at(s).mode() == Mode::k5Level ? 56 : 47);
  const auto canonical = [top](std::uint64_t gva) { return gva < top || gva >= -top; };
  return canonical(op.gva) != canonical(last_byte(op));
}

bool in_page_zero(const DivergentStep& s) {
  const Mode mode = registers_at(s).mode();
  const bool wide = mode == Mode::k4Level || mode == Mode::k5Level;
  const std::uint64_t gva = op_of(s, s.index).gva;
  return (wide ? gva : gva & 0xffff'ffff) < kvm::kPage;
}

// Not every CR4 that some vCPU has had until now had the same PSE.
bool pse_toggled(const DivergentStep& s) {
  const std::uint64_t pse = initial_registers(s.program.machine).cr4 & cr4::kPse;
  for (std::uint32_t i = 0; i < s.index; ++i) {
    const Op& op = op_of(s, i);
    const bool sets = (op.verb == Verb::kMov && op.reg() == Reg::kCr4) ||
                      (op.verb == Verb::kSregs && op.gives(Field::kCr4));
    if (!sets || s.outcomes.steps[i].kind != OutcomeKind::kDone) continue;
    if (((op.verb == Verb::kMov ? op.value : op.cr4) & cr4::kPse) != pse) return true;
  }
  return false;
}

kvm::PdpteHistory pdptes_at(const DivergentStep& s) { return {s.program, s.outcomes, s.index}; }

bool pdpte_reserved(const DivergentStep& s) {
  const kvm::PdpteHistory history = pdptes_at(s);
  return op_of(s, s.index).verb == Verb::kAccess
             ? history.goes_by_reserved(op_of(s, s.index), s.outcomes.steps[s.index])
             : history.finds_reserved(op_of(s, s.index));
}

// The number behind the last `name` of a text; false if there is none.
bool number_behind(std::string_view text, std::string_view name, std::uint64_t& number) {
  const std::size_t at = text.rfind(name);
  if (at == text.npos) return false;
  const char* const first = text.data() + at + name.size();
  return std::from_chars(first, text.data() + text.size(), number, 16).ec == std::errc();
}

// The gpa of the word in which path, value or image differ.
bool differing_word(const DivergentStep& s, std::uint64_t& gpa) {
  if (s.verdict.field == "image") return number_behind(s.verdict.got, " at gpa 0x", gpa);
  const bool path = s.verdict.field == "path";
  return (path || s.verdict.field == "value" || s.verdict.field == "gpa") &&
         number_behind(path ? s.verdict.got : s.verdict.allowed, path ? " at gpa=0x" : " gpa=0x",
                       gpa);
}

// It differs in the word of a table that a store has left torn, or its walk meets one.
bool torn_table_word(const DivergentStep& s) {
  const kvm::TornStores torn(s.program, s.outcomes, s.index);
  std::uint64_t gpa = 0;
  if (differing_word(s, gpa) && torn.met_table_word(gpa)) return true;
  return s.verdict.field != "image" && torn.met_on_the_way();
}

// The bits in which path or value differ.
bool differing_bits(const DivergentStep& s, std::uint64_t& bits) {
  const bool path = s.verdict.field == "path";
  const bool value = s.verdict.field == "value" || s.verdict.field == "gpa";
  const std::string_view entry = path ? " entry=0x" : " value=0x";
  std::uint64_t got = 0, allowed = 0;
  if (!(path || value) || !number_behind(" " + s.verdict.got, entry, got) ||
      !number_behind(" " + s.verdict.allowed, entry, allowed))
    return false;
  bits = got ^ allowed;
  return true;
}

// A path or value that differs in a word that an access of such a vCPU has left so. Its walk sets A
// and D alone, of an entry of four bytes or of eight.
bool pdpte_trail(const DivergentStep& s) {
  constexpr std::uint64_t kFlags = (pte::kA | pte::kD) << 32 | pte::kA | pte::kD;
  std::uint64_t gpa = 0, bits = 0;
  if (!differing_word(s, gpa)) return false;
  const kvm::PdpteHistory history = pdptes_at(s);
  return history.stored_by_such(gpa) ||
         (history.walked_by_such(gpa) && differing_bits(s, bits) && (bits & ~kFlags) == 0);
}

// Path or value differ in bit A of one of the vCPU's PDPTEs, or of one that was when a walk went by
// it, and in nothing else.
bool pdpte_accessed(const DivergentStep& s) {
  std::uint64_t bits = 0, gpa = 0;
  if (!differing_bits(s, bits) || bits == 0) return false;
  const unsigned vcpu = op_of(s, s.index).vcpu;
  const kvm::PdpteHistory history = pdptes_at(s);
  const auto shows = [&](std::uint64_t at, std::uint64_t differing) {
    return differing == pte::kA && at % 8 == 0 &&
           (history.is_pdpte(vcpu, at) || history.is_walked(at));
  };
  if (s.verdict.field == "path") return differing_word(s, gpa) && shows(gpa, bits);
  // A value byte by byte: it may begin before the PDPTE, in another page as well.
  std::uint64_t second = 0;
  if (!number_behind(s.verdict.allowed, " gpa=0x", gpa)) return false;
  number_behind(s.verdict.allowed, ",0x", second);
  const std::uint64_t room = kvm::kPage - gpa % kvm::kPage;
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t byte = bits >> 8 * i & 0xff;
    if (byte != 0 && !shows(i < room ? gpa + i : second + (i - room), byte)) return false;
  }
  return true;
}

// What goes by the vCPU's registers, which are others than they should be.
bool refused_for_pdptes(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  const kvm::PdpteHistory history = pdptes_at(s);
  if (op.verb == Verb::kGet) return history.refused_before(op.vcpu, op.reg());
  return (op.verb == Verb::kAccess || op.verb == Verb::kMov) && history.refused_before(op.vcpu);
}

// Where the #NPF that was got was met, the guest has a page of nested tables.
bool npf_at_nested_table(const DivergentStep& s) {
  const Outcome& got = s.outcomes.steps[s.index];
  return got.kind == OutcomeKind::kNestedFault &&
         kvm::NestedHistory(s.program, s.outcomes, s.index)
             .is_nested_table(op_of(s, s.index).vcpu, got.gpa[0]);
}

bool rmw_beside_device(const DivergentStep& s) {
  std::uint64_t gpa = 0;
  return s.verdict.field == "image" && differing_word(s, gpa) && ways_of(s).is_of_device_rmw(gpa);
}

// The value is the access's own leaf, which has A and should have D, and is right but for that; in
// 32-bit paging it may be the upper half.
bool value_lacks_d(const DivergentStep& s) {
  constexpr std::uint64_t kUsed = pte::kP | pte::kA | pte::kD;
  std::uint64_t got = 0, allowed = 0;
  if (s.verdict.field != "value" || !number_behind(s.verdict.got, " value=0x", got) ||
      !number_behind(s.verdict.allowed, " value=0x", allowed))
    return false;
  const bool upper = registers_at(s).mode() == Mode::k32Bit && (got ^ allowed) >> 32 != 0;
  const unsigned shift = upper ? 32 : 0;
  std::uint64_t gpa = 0;
  return differing_word(s, gpa) && ways_of(s).is_own_leaf(gpa) &&
         got == (allowed & ~(pte::kD << shift)) && (allowed >> shift & kUsed) == kUsed;
}

// A bit of EFER that is nobody's, or whose feature the machine lacks.
bool sets_reserved_efer(const Op& op, const Machine& machine) {
  std::uint64_t legal = efer::kSce | efer::kLme | efer::kLma;
  if (machine.has(feature::kNx)) legal |= efer::kNxe;
  if (machine.vendor == Vendor::kAmd) legal |= efer::kTce;
  if (machine.vendor == Vendor::kAmd && machine.has(feature::kSvm)) legal |= efer::kSvme;
  return op.verb == Verb::kSregs && op.gives(Field::kEfer) && (op.efer & ~legal) != 0;
}

bool is_cr4_write(const Op& op) { return op.verb == Verb::kMov && op.reg() == Reg::kCr4; }

bool lacked_cr4_bit(const DivergentStep& s) {
  const Op& op = op_of(s, s.index);
  if (is_cr4_write(op)) return kvm::sets_lacked_cr4_bit(op.value, s.program.machine);
  if (op.verb == Verb::kSregs)
    return op.gives(Field::kCr4) && kvm::sets_lacked_cr4_bit(op.cr4, s.program.machine);
  const bool reads = op.verb == Verb::kGet && op.reg() == Reg::kCr4;
  if (op.verb != Verb::kAccess && !reads) return false;
  for (std::uint32_t i = s.index; i-- > 0;) {
    const Op& earlier = op_of(s, i);
    const bool took = s.outcomes.steps[i].kind == OutcomeKind::kDone;
    if (is_cr4_write(earlier) && earlier.vcpu == op.vcpu && took)
      return kvm::sets_lacked_cr4_bit(earlier.value, s.program.machine);
  }
  return false;
}

// `text` contains `word` as a word: module names hold letters, digits and underscores.
bool has_word(std::string_view text, std::string_view word) {
  const auto ends = [&](std::size_t at) {
    return at >= text.size() ||
           (std::isalnum(static_cast<unsigned char>(text[at])) == 0 && text[at] != '_');
  };
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    if ((at == 0 || ends(at - 1)) && ends(at + word.size())) return true;
  }
  return false;
}

// ... and every word of `words`, which single spaces part.
bool has_words(std::string_view text, std::string_view words) {
  for (;;) {
    const std::size_t end = words.find(' ');
    if (!has_word(text, words.substr(0, end))) return false;
    if (end == words.npos) return true;
    words.remove_prefix(end + 1);
  }
}

KnownCondition parse_condition(const json& object) {
  KnownCondition condition{json_field::text(object, "fact"), json_field::text(object, "is")};
  if (object.size() != 2)
    throw std::runtime_error("a condition has \"fact\" and \"is\", nothing else");
  if (std::find(std::begin(kFacts), std::end(kFacts), condition.fact) == std::end(kFacts)) {
    throw std::runtime_error(fmt::format("no fact is called \"{}\"", condition.fact));
  }
  return condition;
}

std::vector<std::string> words_of(const json& object) {
  std::vector<std::string> words;
  if (object.contains("hosts") && object["hosts"].is_array()) {
    for (const json& word : object["hosts"]) {
      if (word.is_string()) words.push_back(word.get<std::string>());
    }
  }
  if (words.empty() || words.size() != object["hosts"].size())
    throw std::runtime_error("\"hosts\" is a list of words, at least one");
  return words;
}

// "#PF ec=A|B cr2=C", "#NPF code=A|B gpa=C": the bits' names and the rest; false for any other
// text.
bool split_fault(std::string_view text, std::set<std::string>& bits, std::string_view& address) {
  const bool nested = text.substr(0, 4) == "#NPF";
  const std::string_view start = nested ? "#NPF code=" : "#PF ec=";
  const std::size_t at = text.find(nested ? " gpa=" : " cr2=");
  if (text.substr(0, start.size()) != start || at == text.npos) return false;
  address = text.substr(at);
  std::string_view names = text.substr(start.size(), at - start.size());
  while (!names.empty() && names != "0") {
    const std::size_t end = names.find('|');
    bits.emplace(names.substr(0, end));
    names.remove_prefix(end == names.npos ? names.size() : end + 1);
  }
  return true;
}

// The bits of the #PF that was allowed; none if another outcome was.
std::set<std::string> allowed_fault(const Verdict& verdict) {
  std::set<std::string> bits;
  std::string_view address;
  if (verdict.allowed.compare(0, 3, "#PF") == 0) split_fault(verdict.allowed, bits, address);
  return bits;
}

// A #PF was allowed, of a store to a page that is there.
bool denies_store(const Verdict& verdict) {
  const std::set<std::string> bits = allowed_fault(verdict);
  return bits.count("p") != 0 && bits.count("w") != 0 && bits.count("rsvd") == 0;
}

// Whether the walk of an access before went through a table there. The last entry of a path is a
// leaf, or leads nowhere.
bool is_walked_table(const DivergentStep& s, std::uint64_t gfn) {
  for (std::uint32_t step = 0; step < s.index; ++step) {
    for (const Path& path : s.outcomes.steps[step].path) {
      for (unsigned i = 0; i + 1 < path.count; ++i) {
        if ((path.entry[i] & pte::kAddressMask) / kvm::kPage == gfn) return true;
      }
    }
  }
  return false;
}

// IA32_VMX_EPT_VPID_CAP, bit 21, where the version tells it, and the machine's own word. SDM 3D
// "Capability Reporting": VPID and EPT.
bool has_ept_ad(const DivergentStep& s) {
  constexpr std::uint64_t kAccessedDirty = 1u << 21;
  std::uint64_t capabilities = kAccessedDirty;
  number_behind(s.subject.version, " ept-vpid=0x", capabilities);
  return (s.program.machine.tdp & tdp::kAd) != 0 && (capabilities & kAccessedDirty) != 0;
}

// "gfn 0xN among them" was allowed, and that is where `map` puts tables, or a table that was used.
bool lost_table(const DivergentStep& s) {
  constexpr std::string_view kStart = "gfn 0x";
  const std::string& allowed = s.verdict.allowed;
  if (allowed.compare(0, kStart.size(), kStart) != 0) return false;
  const std::uint64_t gfn = std::strtoull(allowed.c_str() + kStart.size(), nullptr, 16);
  return gfn - kTablePool / kvm::kPage < kTablePoolPages || is_walked_table(s, gfn);
}

std::string error_code_change(const Verdict& verdict) {
  std::set<std::string> got, allowed;
  std::string_view got_at, allowed_at;
  if (!split_fault(verdict.got, got, got_at) ||
      !split_fault(verdict.allowed, allowed, allowed_at) || got_at != allowed_at) {
    return "";
  }
  std::string change;
  for (const std::string& bit : allowed) change += got.count(bit) != 0 ? "" : "-" + bit;
  for (const std::string& bit : got) change += allowed.count(bit) != 0 ? "" : "+" + bit;
  return change;
}

KnownDeviation parse_entry(const json& object) {
  constexpr std::size_t kKeys = 9;
  KnownDeviation entry;
  entry.id = json_field::text(object, "id");
  entry.subject = json_field::text(object, "subject");
  entry.rule = json_field::text(object, "rule");
  entry.right = json_field::text(object, "right");
  entry.citation = json_field::text(object, "citation");
  entry.trace = json_field::text(object, "trace");
  entry.neighbour = json_field::text(object, "neighbour");
  if (!object.contains("when") || !object["when"].is_array() || object["when"].empty() ||
      object.size() != kKeys) {
    throw std::runtime_error(fmt::format(
        "entry \"{}\": lists \"hosts\" and \"when\" and the seven texts, nothing else", entry.id));
  }
  entry.hosts = words_of(object);
  for (const json& condition : object["when"]) entry.when.push_back(parse_condition(condition));
  return entry;
}

bool names_class(const KnownDeviation& entry) {
  return std::any_of(entry.when.begin(), entry.when.end(),
                     [](const KnownCondition& c) { return c.fact == "class"; });
}

}  // namespace

bool runs_on(const KnownDeviation& entry, const SubjectInfo& subject) {
  return std::any_of(entry.hosts.begin(), entry.hosts.end(),
                     [&](std::string_view words) { return has_words(subject.version, words); });
}

std::string fact_of(const DivergentStep& s, std::string_view name) {
  const Op& op = op_of(s, s.index);
  const bool access = op.verb == Verb::kAccess, mov = op.verb == Verb::kMov;
  if (name == "verb") return std::string(name_of(op.verb));
  if (name == "class") return std::string(name_of(s.verdict.divergence));
  if (name == "field") return std::string(s.verdict.field);
  if (name == "access") return access ? std::string(name_of(op.access())) : "";
  if (name == "register") return mov ? std::string(name_of(op.reg())) : "";
  if (name == "cpl") return access ? std::to_string(cpl_at(s, s.index)) : "";
  if (name == "rule") return s.verdict.rule != nullptr ? std::string(s.verdict.rule->id) : "";
  if (name == "got-kind") return std::string(name_of(s.outcomes.steps[s.index].kind));
  if (name == "ept-ad") return flag(has_ept_ad(s));
  if (name == "lost-table") return flag(lost_table(s));
  if (name == "npf-at-nested-table") return flag(npf_at_nested_table(s));
  if (name == "value-lacks-d") return flag(value_lacks_d(s));
  if (name == "wp") return flag((registers_at(s).cr0() & cr0::kWp) != 0);
  if (name == "smap") return flag((registers_at(s).cr4() & cr4::kSmap) != 0);
  if (name == "nxe") return flag((registers_at(s).efer() & efer::kNxe) != 0);
  if (name == "path-xd") return flag(path_has(s, pte::kXd));
  if (name == "path-ps") return flag(path_has(s, pte::kPs));
  if (name == "directory-ps") return flag(ways_of(s).goes_by_ps());
  if (name == "walked-xd") return flag(ways_of(s).goes_by_walked_xd());
  if (name == "straddled-entry") return flag(ways_of(s).goes_by_straddled());
  if (name == "nested") return flag(s.program.machine.nested != Nesting::kNone);
  if (name == "loads-by-former-way") return flag(loads_by_former_way(s));
  if (name == "rmw-beside-device") return flag(rmw_beside_device(s));
  if (name == "wp0-stored") return flag(wp0_stored(s));
  if (name == "path-high") return flag(path_has(s, kSoftwareBits));
  if (name == "sregs-unchanged") return flag(sregs_unchanged(s));
  if (name == "sregs-pcide") return flag(asks_for_pcids_outside_long_mode(s));
  if (name == "page-zero") return access ? flag(in_page_zero(s)) : "";
  if (name == "upper-g") return flag(upper_g(s));
  if (name == "after-upper-g") return flag(after_upper_g(s));
  if (name == "device-remembered") return flag(device_remembered(s));
  if (name == "denied-store") return flag(denies_store(s.verdict));
  if (name == "allowed-rsvd") return flag(allowed_fault(s.verdict).count("rsvd") != 0);
  if (name == "torn-table-word")
    return access || s.verdict.field == "image" ? flag(torn_table_word(s)) : "0";
  if (name == "kept-over-fault") return flag(kept_over_fault(s));
  if (name == "et-clear") return flag(et_clear(s));
  if (name == "pse36") return flag(s.program.machine.has(feature::kPse36));
  if (name == "pse-toggled") return flag(pse_toggled(s));
  if (name == "pdpte-reserved") return flag(pdpte_reserved(s));
  if (name == "pdpte-changed")
    return flag(pdptes_at(s).goes_by_changed(op, s.outcomes.steps[s.index]));
  if (name == "pdpte-walked")
    return flag(pdptes_at(s).goes_by_walked(op, s.outcomes.steps[s.index]));
  if (name == "pdpte-at-cr0")
    return flag(pdptes_at(s).differs_at_cr0(op, s.outcomes.steps[s.index]));
  if (name == "pdpte-accessed") return flag(pdpte_accessed(s));
  if (name == "pdpte-trail") return flag(pdpte_trail(s));
  if (name == "refused-for-pdptes") return flag(refused_for_pdptes(s));
  if (name == "mode") return std::string(name_of(registers_at(s).mode()));
  if (name == "ec-change") return error_code_change(s.verdict);
  if (name == "ec-rsvd") {
    const Outcome& got = s.outcomes.steps[s.index];
    return got.kind == OutcomeKind::kPageFault && (got.error_code & pfec::kRsvd) != 0 ? "1" : "0";
  }
  if (name == "ec-w") {
    const Outcome& got = s.outcomes.steps[s.index];
    if (got.kind == OutcomeKind::kNestedFault) return flag((got.qualification & pfec::kW) != 0);
    return got.kind == OutcomeKind::kPageFault ? flag((got.error_code & pfec::kW) != 0) : "";
  }
  if (name == "crosses-page")
    return access ? flag(op.gva / kvm::kPage != last_byte(op) / kvm::kPage) : "";
  if (name == "apic-page")
    return flag(s.outcomes.steps[s.index].gpa[0] / kvm::kPage == 0xfee00000 / kvm::kPage);
  if (name == "efer-reserved") return flag(sets_reserved_efer(op, s.program.machine));
  if (name == "root-index") return access ? std::to_string(op.gva >> 39 & 511) : "";
  if (name == "crosses-edge") return access ? flag(crosses_edge(s)) : "0";
  if (name == "high-half") return mov && op.value >> 32 != 0 ? "1" : "0";
  if (name == "lacked-cr4-bit") return lacked_cr4_bit(s) ? "1" : "0";
  if (name == "after-torn-store") return after_torn_store(s) ? "1" : "0";
  throw std::runtime_error(fmt::format("no fact is called \"{}\"", name));
}

KnownDeviations KnownDeviations::parse(std::string_view text) {
  const json file = json::parse(text, nullptr, false);
  if (file.is_discarded() || !file.is_object() || file.value("version", 0) != 1 ||
      !file.contains("entries")) {
    throw std::runtime_error("not a list of known deviations, version 1");
  }
  KnownDeviations known;
  for (const json& entry : file["entries"]) known.entries_.push_back(parse_entry(entry));
  return known;
}

const KnownDeviations& KnownDeviations::built_in() {
  static const KnownDeviations known = parse(known_text());
  return known;
}

std::string_view KnownDeviations::covering(const DivergentStep& s) const {
  const bool image = s.verdict.divergence == DivergenceClass::kWrongImage;
  const bool complains = image || s.outcomes.steps[s.index].complaint != Complaint::kNone;
  for (const KnownDeviation& entry : entries_) {
    if (entry.subject != s.subject.name || !runs_on(entry, s.subject)) continue;
    if (complains && !names_class(entry)) continue;
    const auto holds = [&](const KnownCondition& c) { return fact_of(s, c.fact) == c.is; };
    if (std::all_of(entry.when.begin(), entry.when.end(), holds)) return entry.id;
  }
  return {};
}

}  // namespace twinwalk
