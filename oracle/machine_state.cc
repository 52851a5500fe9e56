#include "oracle/machine_state.h"

#include <algorithm>

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

MachineState::MachineState() : memory_(slots_, image_) {}

void MachineState::reset(const Machine& machine, Profile profile) {
  machine_ = machine;
  profile_ = profile;
  slots_.reset(machine);
  image_.reset();
  dirty_.reset();
  open_.reset();
  for (const bool nxe : {false, true}) rules_[nxe] = make_entry_rules(kModes[0], machine, nxe);
  const Registers start = initial_registers(machine);
  for (VcpuState& v : vcpus_) {
    v.registers = start;
    v.history.reset(start.cr3);
    v.nxe_was_on = start.efer & efer::kNxe;
    v.serialized = 0;
  }
  now_ = 0;
  allocation_fails = false;
  views_changed_ = false;
  announced_.clear();
  if (observer != nullptr) observer->on_reset(machine);
}

void MachineState::note_dirty(const Memslot& slot, std::uint64_t gpa) {
  if (slot.log_dirty) dirty_.note(static_cast<unsigned>(&slot - &slots_.slot(0)), slot, gpa);
}

void MachineState::store_word(std::uint64_t gpa, std::uint64_t value, Hand hand) {
  put_word(gpa, value, ~std::uint64_t{0}, hand);
}

void MachineState::put_word(std::uint64_t gpa, std::uint64_t value, std::uint64_t mask, Hand hand) {
  const Memslot* slot = slots_.find(gpa);
  if (slot == nullptr) return;
  // What a walk sets says nothing of the bits that were open before; who sets them settles them.
  if (!open_.empty() && (hand == Hand::kGuest || hand == Hand::kHost))
    open_.close(Memslots::hva_of(*slot, gpa), mask);
  if (hand == Hand::kGuest || hand == Hand::kWalker) note_dirty(*slot, gpa);
  image_.store(Memslots::hva_of(*slot, gpa), value, now_, hand, gpa & ~(kPageBytes - 1));
  if (observer == nullptr) return;
  slots_.for_each_gpa(Memslots::hva_of(*slot, gpa),
                      [&](std::uint64_t alias) { observer->on_memory(alias, 8, value); });
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
                               std::uint64_t word) const {
  const unsigned here = bytes_in_page(gpa, size);
  const auto meets = [&](std::uint64_t first, unsigned bytes) {
    const std::uint64_t last = (first + bytes - 1) & ~std::uint64_t{7};
    return slots_.same_byte(first & ~std::uint64_t{7}, word) || slots_.same_byte(last, word);
  };
  return meets(gpa, here) || (here < size && meets(gpa2, size - here));
}

bool MachineState::slot_add(const Op& op) {
  if (!slots_.add(op.slot, op.gpa, op.pages, op.hva, op.flags, now_)) return false;
  dirty_.clear(static_cast<unsigned>(op.slot));
  views_changed_ = true;
  announced_.clear();
  return true;
}

bool MachineState::slot_delete(const Op& op) {
  if (!slots_.remove(op.slot)) return false;
  dirty_.clear(static_cast<unsigned>(op.slot));
  views_changed_ = true;
  announced_.clear();
  return true;
}

bool MachineState::slot_move(const Op& op) {
  if (!slots_.move(op.slot, op.gpa, now_)) return false;
  dirty_.clear(static_cast<unsigned>(op.slot));
  views_changed_ = true;
  announced_.clear();
  return true;
}

bool MachineState::slot_flags(const Op& op) {
  if (op.slot >= kMaxSlots) return false;
  const bool logged = slots_.slot(op.slot).log_dirty;
  if (!slots_.set_flags(op.slot, op.flags)) return false;
  if (!logged || !slots_.slot(op.slot).log_dirty) dirty_.clear(static_cast<unsigned>(op.slot));
  return true;
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

std::uint64_t MachineState::bytes_now_mapping(const VcpuState& v, std::uint64_t gva) const {
  Walk now;
  const EntryRules& rules = rules_[(v.registers.efer & efer::kNxe) != 0];
  walk(memory_, rules, v.registers.cr3, gva, now);
  return now.stop == Stop::kLeaf ? rules.mode->page_bytes(now.level) : kPageBytes;
}

void MachineState::cr4_written(VcpuState& v, std::uint64_t before, std::uint64_t after, Time now) {
  const std::uint64_t change = before ^ after;
  bool everything = (change & cr4::kPge) || (change & before & cr4::kPcide);
  if (machine_.vendor == Vendor::kAmd) {
    everything |= (change & (cr4::kPae | cr4::kPse)) || (change & after & cr4::kPke);
  } else if (change & after & cr4::kSmep) {
    v.history.drop_pcid(current_pcid(v.registers), now, rules::kStale9);
  }
  if (everything) v.history.drop_everything(now, rules::kStale9);
}

void MachineState::registers_written(unsigned vcpu, Reg reg, const Registers& after,
                                     bool no_flush) {
  VcpuState& v = vcpus_[vcpu];
  const Registers before = v.registers;
  v.registers = after;
  if (reg == Reg::kCpl || reg == Reg::kAc || reg == Reg::kPkru) return;
  v.serialized = now_;
  v.nxe_was_on |= (after.efer & efer::kNxe) != 0;
  if (reg == Reg::kCr4) cr4_written(v, before.cr4, after.cr4, now_);
  if (reg == Reg::kCr3) {
    const unsigned pcid = current_pcid(after);
    if (!no_flush) v.history.drop_pcid(pcid, now_, rules::kStale8);
    v.history.load_root(after.cr3, pcid, now_);
  }
  if (current_pcid(before) != current_pcid(after) && reg != Reg::kCr3) {
    v.history.load_root(after.cr3, current_pcid(after), now_);
  }
}

void MachineState::invlpg(unsigned vcpu, std::uint64_t gva) {
  VcpuState& v = vcpus_[vcpu];
  v.serialized = now_;
  if (!rules_[0].mode->canonical(gva)) return;
  const unsigned pcid = current_pcid(v.registers);
  const std::uint64_t bytes = bytes_now_mapping(v, gva);
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
  v.history.fault_page(current_pcid(v.registers), gva, bytes, now_, rules::kStale4);
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
