#include "oracle/machine_state.h"

#include <algorithm>

#include "oracle/course.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// Bytes of [gpa, gpa + size) that lie in gpa's page.
constexpr unsigned bytes_in_page(std::uint64_t gpa, unsigned size) {
  const std::uint64_t rest = kPageBytes - (gpa & (kPageBytes - 1));
  return rest < size ? static_cast<unsigned>(rest) : size;
}

constexpr std::uint64_t byte_mask(unsigned bytes) {
  return bytes >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * bytes)) - 1;
}

}  // namespace

MachineState::MachineState() : memory_{{{0, slots_[0], image_}, {1, slots_[1], image_}}} {}

void MachineState::reset(const Machine& machine, Profile profile) {
  machine_ = machine;
  profile_ = profile;
  lost_by_ = nullptr;
  for (unsigned space = 0; space < kSpaces; ++space) slots_[space].reset(machine, space);
  space_ = 0;
  // Of an EPT entry R, W, X and bit 10 each make it present.
  const bool ept = machine.core == Dimension::kBare && machine.nested == Nesting::kEpt;
  image_.reset(ept ? kSomePresent | ept::kR | ept::kW | ept::kX | ept::kUx : kSomePresent);
  dirty_.reset();
  open_.reset();
  rule_book_.reset(machine);
  const Registers start = initial_registers(machine);
  for (VcpuState& v : vcpus_) {
    v.registers = start;
    v.pdptes = pdptes_at_start(start.cr3);
    v.history.reset(root_of(v));
    v.nxe_was_on = start.efer & efer::kNxe;
    v.nxe_left = 0;
    v.smm = false;
    v.serialized = 0;
    v.guest.reset();
  }
  now_ = 0;
  allocation_fails = false;
  views_changed_ = false;
  announced_.clear();
  if (observer != nullptr) observer->on_reset(machine);
}

PdpteRegisters MachineState::pdptes_at_start(std::uint64_t cr3) const {
  if (!latches_pdptes()) return {};
  const PdptesInMemory pdptes = pdptes_at(gpa_of_pdpte(cr3, 0));
  PdpteRegisters registers = pdptes.registers;
  for (unsigned i = 0; i < 4; ++i) {
    std::uint64_t& entry = registers.entry[i];
    // Nobody is shown what was read: bits that may be set or not count as not, until an access
    // tells.
    const std::uint64_t open = entry & pdptes.open[i];
    entry &= ~open;
    if ((entry & pte::kP) && rule_book_.at(kRowPae, false).reserved(entry, 3)) entry = 0;
    if ((entry & pte::kP) && open != 0) registers.doubtful |= static_cast<std::uint8_t>(1u << i);
  }
  return registers;
}

PdptesInMemory MachineState::pdptes_at(std::uint64_t first) const {
  PdptesInMemory out;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t at = first + 8ull * i;
    out.registers.known &= memory().read(at, out.registers.entry[i]);
    out.open[i] = open_bits(at);
  }
  return out;
}

void MachineState::may_have_loaded(unsigned vcpu, const PdpteRegisters& pdptes) {
  VcpuState& v = vcpus_[vcpu];
  Root root = root_of(v);
  root.pdptes = pdptes;
  v.guest.load_root_perhaps(root, current_pcid(v.registers), now_);
}

void MachineState::settle_root(unsigned vcpu, unsigned used) {
  VcpuState& v = vcpus_[vcpu];
  if (const Root* root = v.guest.settle_root(used)) v.pdptes = root->pdptes;
}

void MachineState::settle_pdpte(unsigned vcpu, unsigned number, bool present) {
  PdpteRegisters& registers = vcpus_[vcpu].pdptes;
  registers.doubtful &= static_cast<std::uint8_t>(~(1u << number));
  if (!present) registers.entry[number] = 0;
}

void MachineState::note_dirty(const Memslot& slot, std::uint64_t gpa) {
  if (!slot.log_dirty) return;
  dirty_.note(DirtyLog::number(space_, slot.id), slots().slot(slot.id),
              slots().without_shared_bit(gpa));
}

void MachineState::store_word(std::uint64_t gpa, std::uint64_t value, Hand hand) {
  put_word(gpa, value, ~std::uint64_t{0}, hand);
}

void MachineState::put_word(std::uint64_t gpa, std::uint64_t value, std::uint64_t mask, Hand hand) {
  const Memslot* slot = slots().find(gpa);
  if (slot == nullptr) return;
  // What a walk sets says nothing of the bits that were open before; who sets them settles them.
  // And where A or D may have been set, the value that had them may have been walked.
  if (!open_.empty() && (hand == Hand::kGuest || hand == Hand::kHost)) {
    const std::uint64_t hva = Memslots::hva_of(*slot, gpa), open = open_.at(hva);
    if (open != 0) store_and_tell(hva, load_word(gpa) | open, Hand::kWalker, gpa);
    open_.close(hva, mask);
  }
  if (hand == Hand::kGuest || hand == Hand::kWalker) note_dirty(*slot, gpa);
  store_and_tell(Memslots::hva_of(*slot, gpa), value, hand, gpa);
}

void MachineState::store_and_tell(std::uint64_t hva, std::uint64_t value, Hand hand,
                                  std::uint64_t gpa) {
  image_.store(hva, value, now_, hand, memory().page_of(gpa));
  if (observer == nullptr) return;
  slots_[0].for_each_gpa(hva, [&](std::uint64_t alias) { observer->on_memory(alias, 8, value); });
}

// From now on the entry may have been cached, so it is taken to have them, and both ways stay open.
// The dirty log owes nothing yet.
void MachineState::may_have_set(std::uint64_t gpa, std::uint64_t bits) {
  const Memslot* slot = slots().find(gpa);
  if (slot == nullptr || bits == 0) return;
  const std::uint64_t word = word_of(gpa), hva = Memslots::hva_of(*slot, word);
  const std::uint64_t fresh = in_word(gpa, bits) & ~load_word(word);
  store_and_tell(hva, load_word(word) | fresh, Hand::kWalker, word);
  open_.open(hva, fresh);
}

// Within one page; touches one or two words.
void MachineState::store_part(std::uint64_t gpa, unsigned size, std::uint64_t value, Hand hand) {
  const unsigned offset = gpa & 7;
  const unsigned here = std::min(size, 8 - offset);
  const std::uint64_t at = gpa & ~std::uint64_t{7};
  const std::uint64_t mask = byte_mask(here) << (8 * offset);
  put_word(at, (load_word(at) & ~mask) | (value << (8 * offset) & mask), mask, hand);
  if (here < size) store_part(gpa + here, size - here, value >> (8 * here), hand);
}

void MachineState::store(std::uint64_t gpa, std::uint64_t gpa2, unsigned size, std::uint64_t value,
                         Hand hand, Hand hand2) {
  const unsigned here = bytes_in_page(gpa, size);
  if (is_memory(gpa)) store_part(gpa, here, value, hand);
  if (here < size && is_memory(gpa2)) store_part(gpa2, size - here, value >> (8 * here), hand2);
}

std::uint64_t MachineState::load_two_words(std::uint64_t gpa, std::uint64_t gpa2,
                                           unsigned size) const {
  const unsigned offset = gpa & 7;
  const unsigned low = 8 - offset;
  const bool crosses = bytes_in_page(gpa, size) < size;
  const std::uint64_t next = crosses ? gpa2 : gpa + low;
  return extract(load_word(gpa & ~std::uint64_t{7}), offset, low) |
         extract(load_word(next), 0, size - low) << (8 * low);
}

bool MachineState::range_meets(std::uint64_t gpa, std::uint64_t gpa2, unsigned size,
                               std::uint64_t entry, unsigned entry_bytes) const {
  const unsigned here = bytes_in_page(gpa, size);
  const std::uint64_t mask = ~std::uint64_t{entry_bytes - 1};
  const auto meets = [&](std::uint64_t first, unsigned bytes) {
    // At most 8 bytes: three 4-byte entries.
    const std::uint64_t last = (first + bytes - 1) & mask;
    for (std::uint64_t at = first & mask; at <= last; at += entry_bytes)
      if (slots().same_byte(at, entry)) return true;
    return false;
  };
  return meets(gpa, here) || (here < size && meets(gpa2, size - here));
}

void MachineState::slots_changed() {
  views_changed_ = true;
  announced_.clear();
}

bool MachineState::slot_add(const Op& op) {
  if (!slots_[op.space].add(op.slot, op.gpa, op.pages, op.hva, op.flags, now_)) return false;
  dirty_.clear(DirtyLog::number(op.space, op.slot));
  log_begins(op);
  slots_changed();
  return true;
}

// KVM: kvm_prepare_memory_region, where a new bitmap is set as a whole.
void MachineState::log_begins(const Op& op) {
  const Memslot& slot = slots_[op.space].slot(op.slot);
  if (slot.log_dirty && log_stays() && (machine_.options & option::kInitiallySet) != 0)
    dirty_.set_all(DirtyLog::number(op.space, op.slot), slot);
}

bool MachineState::slot_delete(const Op& op) {
  if (!slots_[op.space].remove(op.slot)) return false;
  for (Memslots& slots : slots_) slots.note_everything_zapped(now_);
  dirty_.clear(DirtyLog::number(op.space, op.slot));
  slots_changed();
  return true;
}

// Where it is already it stays, and nothing happens (KVM: __kvm_set_memory_region, "Nothing to
// change").
bool MachineState::slot_move(const Op& op) {
  if (op.slot < kMaxSlots) {
    const Memslot& slot = slots_[op.space].slot(op.slot);
    if (slot.live && slot.gpa == op.gpa) return true;
  }
  if (!slots_[op.space].move(op.slot, op.gpa, now_)) return false;
  for (Memslots& slots : slots_) slots.note_everything_zapped(now_);
  // KVM: kvm_prepare_memory_region, which hands the bitmap on.
  dirty_.moved(DirtyLog::number(op.space, op.slot), op.gpa / kPageBytes);
  slots_changed();
  return true;
}

bool MachineState::slot_flags(const Op& op) {
  if (op.slot >= kMaxSlots) return false;
  Memslots& slots = slots_[op.space];
  const bool logged = slots.slot(op.slot).log_dirty;
  if (!slots.set_flags(op.slot, op.flags)) return false;
  if (!logged || !slots.slot(op.slot).log_dirty) dirty_collected(op.space, op.slot);
  if (!logged) log_begins(op);
  return true;
}

bool MachineState::set_private(const Op& op) {
  if (!slots_[0].set_private(op.gpa, op.pages, op.value != 0, now_)) return false;
  views_changed_ = true;
  announced_.clear();
  return true;
}

bool MachineState::track(const Op& op) {
  Memslots& slots = slots_[op.space];
  return op.value != 0 ? slots.track(op.gpa) : slots.untrack(op.gpa);
}

void MachineState::frames_dropped(std::uint64_t hva, std::uint64_t pages) {
  image_.drop(hva, pages, now_);
  open_.close_range(hva & ~(kPageBytes - 1), std::min(pages, kHvaBytes / kPageBytes) * kPageBytes);
  views_changed_ = true;
  announced_.clear();
}

void MachineState::frames_moved(std::uint64_t hva, std::uint64_t pages) {
  image_.moved(hva, pages, now_);
}

std::uint64_t MachineState::bytes_now_mapping(unsigned vcpu, std::uint64_t gva) const {
  Walk now;
  const Registers& r = vcpus_[vcpu].registers;
  if (vcpus_[vcpu].guest.active()) [[unlikely]] {
    AccessQuery query;
    query.gva = gva;
    query.size = 1;
    query.registers = r;
    Course course;
    walk_course(make_guest_access(*this, vcpu, query), nullptr, course);
    return course.page_bytes;
  }
  const EntryRules& rules = this->rules(r);
  walk(memory(), rules, walk_root(vcpu, r), gva, now);
  return now.stop == Stop::kLeaf ? rules.mode->page_bytes(now.level) : kPageBytes;
}

Root MachineState::root_of(const VcpuState& v) {
  Root root{v.registers.cr3, row_of(v.registers), {}};
  if (root.row == kRowPae) root.pdptes = v.pdptes;
  return root;
}

// A change of the paging mode always drops everything, so that no translation made in one mode is
// used in another. SDM 3A §"Operations that Invalidate TLBs and Paging-Structure Caches": PAE for
// the current PCID, which is 0 where PAE may change, and nothing else is cached then; PSE in
// §"Invalidating the Translation Lookaside Buffers (TLBs)".
MachineState::Dropped MachineState::dropped_by(Reg reg, const Registers& before,
                                               const Registers& after, bool no_flush) const {
  Dropped out;
  if (reg == Reg::kCr3) {
    out.pcid = !no_flush;
    out.rule = &rules::kStale8;
    return out;
  }
  out.rule = &rules::kStale9;
  if (reg == Reg::kCr4) {
    const std::uint64_t change = before.cr4 ^ after.cr4;
    out.everything =
        (change & (cr4::kPge | cr4::kPae | cr4::kPse)) || (change & before.cr4 & cr4::kPcide);
    if (machine_.vendor == Vendor::kAmd) {
      out.everything |= (change & after.cr4 & cr4::kPke) != 0;
    } else {
      out.pcid = (change & after.cr4 & cr4::kSmep) != 0;
    }
  }
  // PG 1->0 drops everything; while it is 0 nothing can be cached.
  out.everything |= ((before.cr0 ^ after.cr0) & cr0::kPg) != 0;
  return out;
}

void MachineState::registers_written(unsigned vcpu, Reg reg, const Registers& after, bool no_flush,
                                     const PdpteRegisters* pdptes) {
  VcpuState& v = vcpus_[vcpu];
  const Registers before = v.registers;
  v.registers = after;
  if (reg == Reg::kCpl || reg == Reg::kAc || reg == Reg::kPkru) return;
  if (pdptes != nullptr) v.pdptes = *pdptes;
  v.serialized = now_;
  v.nxe_was_on |= (after.efer & efer::kNxe) != 0;
  if (before.efer & ~after.efer & efer::kNxe) v.nxe_left = now_;
  const unsigned pcid = current_pcid(after);
  const Dropped dropped = dropped_by(reg, before, after, no_flush);
  const bool new_root = reg == Reg::kCr3 || pdptes != nullptr || pcid != current_pcid(before) ||
                        row_of(before) != row_of(after);
  if (v.guest.active()) [[unlikely]] {
    const GuestTag tag = v.guest.tag(pcid);
    if (dropped.everything) {
      v.guest.drop({.time = now_, .rule = dropped.rule, .vpid = tag.vpid});
    } else if (dropped.pcid) {
      v.guest.drop({.time = now_,
                    .rule = dropped.rule,
                    .vpid = tag.vpid,
                    .pcid = pcid,
                    .keeps_globals = true});
    }
    if (new_root) v.guest.load_root(root_of(v), pcid, now_);
    return;
  }
  if (dropped.pcid) v.history.drop_pcid(pcid, now_, *dropped.rule);
  if (dropped.everything) v.history.drop_everything(now_, *dropped.rule);
  if (new_root) v.history.load_root(root_of(v), pcid, now_);
}

void MachineState::registers_set(unsigned vcpu, const Registers& after,
                                 const PdpteRegisters* pdptes, const Rule& rule) {
  VcpuState& v = vcpus_[vcpu];
  if (v.registers.efer & ~after.efer & efer::kNxe) v.nxe_left = now_;
  v.registers = after;
  if (pdptes != nullptr) v.pdptes = *pdptes;
  v.serialized = now_;
  v.nxe_was_on |= (after.efer & efer::kNxe) != 0;
  v.history.drop_everything(now_, rule);
  v.history.load_root(root_of(v), current_pcid(after), now_);
  if (v.guest.active()) v.guest.load_root(root_of(v), current_pcid(after), now_);
}

void MachineState::smm_changed(unsigned vcpu, bool smm) {
  vcpus_[vcpu].smm = smm;
  registers_set(vcpu, vcpus_[vcpu].registers, nullptr, rules::kSmm);
}

void MachineState::initialised(unsigned vcpu, bool reset) {
  vcpus_[vcpu].smm = false;
  registers_set(vcpu, after_init(vcpus_[vcpu].registers, reset), nullptr, rules::kInit);
}

void MachineState::recreated(unsigned vcpu) {
  const Registers start = initial_registers(machine_);
  vcpus_[vcpu].smm = false;
  look_as(vcpu);
  const PdpteRegisters pdptes = pdptes_at_start(start.cr3);
  registers_set(vcpu, start, &pdptes, rules::kNewVcpu);
}

void MachineState::capabilities_changed(const Machine& after) {
  machine_ = after;
  rule_book_.reset(after);
  for (Memslots& slots : slots_) slots.set_width(after);
  for (unsigned i = 0; i < kMaxVcpus; ++i)
    registers_set(i, vcpus_[i].registers, nullptr, rules::kCpuid);
  if (observer != nullptr) observer->on_capabilities(after);
}

void MachineState::invlpg(unsigned vcpu, std::uint64_t gva) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  const PagingMode& mode = *rules(v.registers).mode;
  gva = mode.linear(gva);
  if (!mode.canonical(gva)) return;
  const unsigned pcid = current_pcid(v.registers);
  const std::uint64_t bytes = bytes_now_mapping(vcpu, gva);
  if (v.guest.active()) [[unlikely]]
    return guest_invlpg(v, gva, bytes);
  v.history.drop_page(pcid, gva, bytes, now_, rules::kStale6);
  v.history.drop_global_page(gva, bytes, now_, rules::kStale6);
  // AMD with EFER.TCE=1 drops only the structures that lead to the target; drop_page covers those.
  const bool only_target = machine_.vendor == Vendor::kAmd && (v.registers.efer & efer::kTce);
  if (!only_target) v.history.drop_structures(pcid, now_, rules::kStale6);
}

void MachineState::invpcid(unsigned vcpu, std::uint64_t type, std::uint64_t pcid,
                           std::uint64_t gva) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  if (v.guest.active()) [[unlikely]]
    return guest_invpcid(v, type, static_cast<unsigned>(pcid), gva);
  switch (type) {
    case 0:
      v.history.drop_page(static_cast<unsigned>(pcid), gva, kPageBytes, now_, rules::kInvpcid);
      break;
    case 1:
      v.history.drop_pcid(static_cast<unsigned>(pcid), now_, rules::kInvpcid);
      break;
    case 2:
      v.history.drop_everything(now_, rules::kInvpcid);
      break;
    default:
      v.history.drop_all_but_globals(now_, rules::kInvpcid);
      break;
  }
}

void MachineState::page_faulted(unsigned vcpu, std::uint64_t gva, std::uint64_t bytes) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  const unsigned pcid = current_pcid(v.registers);
  if (v.guest.active()) [[unlikely]] {
    return v.guest.drop({.time = now_,
                         .rule = &rules::kStale4,
                         .vpid = v.guest.vpid(),
                         .pcid = pcid,
                         .page = gva,
                         .bytes = bytes,
                         .globals_of_pcid_only = true});
  }
  v.history.fault_page(pcid, gva, bytes, now_, rules::kStale4);
}

// In guest mode they act on the combined mappings of the VPID, for every EP4TA. SDM 3C §"Operations
// that Invalidate Cached Mappings".
void MachineState::guest_invlpg(VcpuState& v, std::uint64_t gva, std::uint64_t bytes) {
  const unsigned pcid = current_pcid(v.registers);
  v.guest.drop({.time = now_,
                .rule = &rules::kStale6,
                .vpid = v.guest.vpid(),
                .pcid = pcid,
                .page = gva,
                .bytes = bytes});
  if (machine_.vendor == Vendor::kAmd && (v.registers.efer & efer::kTce)) return;
  v.guest.drop({.time = now_,
                .rule = &rules::kStale6,
                .what = Drop::What::kStructures,
                .vpid = v.guest.vpid(),
                .pcid = pcid});
}

void MachineState::guest_invpcid(VcpuState& v, std::uint64_t type, unsigned pcid,
                                 std::uint64_t gva) {
  Drop d{.time = now_, .rule = &rules::kInvpcid, .vpid = v.guest.vpid()};
  if (type <= 1) d.pcid = pcid;
  if (type == 0) d.page = gva, d.bytes = kPageBytes;
  d.keeps_globals = type != 2;
  v.guest.drop(d);
}

void MachineState::vm_entered(unsigned vcpu, const Nested& nested, unsigned vpid) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  if (vpid == 0) v.history.drop_everything(now_, rules::kVpid);
  v.guest.enter(nested, vpid, root_of(v), current_pcid(v.registers), now_);
}

void MachineState::vm_exited(unsigned vcpu) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  if (v.guest.vpid() == 0) v.history.drop_everything(now_, rules::kVpid);
  v.pdptes.known &= v.guest.knows_root();
  v.guest.exit(now_);
  v.history.load_root(root_of(v), current_pcid(v.registers), now_);
}

void MachineState::announce(std::uint64_t gpa) {
  if (observer == nullptr || !views_changed_) return;
  const std::uint64_t gfn = gpa / kPageBytes;
  if (!is_memory(gpa) || std::find(announced_.begin(), announced_.end(), gfn) != announced_.end())
    return;
  announced_.push_back(gfn);
  for (std::uint64_t at = gfn * kPageBytes; at < (gfn + 1) * kPageBytes; at += 8) {
    observer->on_memory(at, 8, load_word(at));
  }
}

}  // namespace twinwalk::oracle
