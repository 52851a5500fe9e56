// The dirty log of subject `kvm`: a bitmap, one that is cleared by hand, or the vCPUs' rings, as
// the machine's options say.

#include <algorithm>

#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

bool KvmSubject::lacks_log_kind() const { return vm_->log_kind() != log_kind_of(machine_); }

// A place in a ring names a memslot by its number: called before one comes or goes, too.
void KvmSubject::take_rings() {
  vm_->take_dirty_rings(taken_);
  for (const DirtyPage& p : taken_) {
    if (!memory_.slots().is_live(p.slot)) continue;
    const Slot& slot = memory_.slots()[p.slot];
    if (!slot.log_dirty || p.page >= slot.bytes / kPage) continue;
    auto& bitmap = dirty_[p.slot];
    bitmap.resize((slot.bytes / kPage + 63) / 64);
    bitmap[p.page / 64] |= bit(p.page % 64);
  }
  taken_.clear();
}

// All that is in the log of a slot that logs.
bool KvmSubject::read_log(std::uint64_t id, std::vector<std::uint64_t>& bitmap) {
  bitmap.assign((memory_.slots()[id].bytes / kPage + 63) / 64, 0);
  if (vm_->log_kind() == LogKind::kRing) {
    take_rings();
  } else if (vm_->dirty_log(static_cast<unsigned>(id), bitmap.data()) != 0) {
    return false;
  }
  const auto& kept = dirty_[id];
  for (std::size_t i = 0; i < kept.size() && i < bitmap.size(); ++i) bitmap[i] |= kept[i];
  return true;
}

// KVM's own log is about to go.
void KvmSubject::keep_dirty(std::uint64_t id) {
  std::vector<std::uint64_t> bitmap;
  if (read_log(id, bitmap)) dirty_[id] = std::move(bitmap);
}

void KvmSubject::dirty_get(const Op& op, Outcome& out) {
  if (lacks_log_kind()) return skip(out, SkipReason::kHostLacksFeature);
  const bool logging = memory_.slots().is_live(op.slot) && memory_.slots()[op.slot].log_dirty;
  std::vector<std::uint64_t> bitmap;
  if (!logging || !read_log(op.slot, bitmap)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  out.extra_begin = static_cast<std::uint32_t>(stream_->extra.size());
  const std::uint64_t first = memory_.slots()[op.slot].gpa / kPage;
  for (std::size_t i = 0; i < bitmap.size(); ++i) {
    for (unsigned b = 0; b < 64; ++b) {
      if ((bitmap[i] >> b & 1) != 0) stream_->extra.push_back(first + i * 64 + b);
    }
  }
  out.extra_count = static_cast<std::uint32_t>(stream_->extra.size()) - out.extra_begin;
  if (vm_->log_kind() != LogKind::kManual) dirty_[op.slot].clear();
}

// KVM takes whole words of the bitmap: bits outside of the range are not set.
void KvmSubject::dirty_clear(const Op& op, Outcome& out) {
  // What a ring gave is protected again; there is no later clearing, and no bitmap.
  const bool manual = (machine_.options & option::kManualClear) != 0;
  if (manual && vm_->log_kind() != LogKind::kManual)
    return skip(out, SkipReason::kHostLacksFeature);
  out.kind = OutcomeKind::kRefused;
  if (!manual || !memory_.slots().is_live(op.slot)) return;
  const Slot& slot = memory_.slots()[op.slot];
  const std::uint64_t first = (op.gpa - slot.gpa) / kPage, all = slot.bytes / kPage;
  if (!slot.log_dirty || op.gpa % kPage != 0 || !slot.holds(op.gpa) || op.pages == 0 ||
      op.pages > all - first) {
    return;
  }
  const std::uint64_t begin = first & ~std::uint64_t{63},
                      end = std::min((first + op.pages + 63) & ~std::uint64_t{63}, all);
  std::vector<std::uint64_t> wanted((end - begin + 63) / 64);
  auto& kept = dirty_[op.slot];
  for (std::uint64_t page = first; page < first + op.pages; ++page) {
    wanted[(page - begin) / 64] |= bit(page % 64);
    if (page / 64 < kept.size()) kept[page / 64] &= ~bit(page % 64);
  }
  if (vm_->clear_dirty_log(static_cast<unsigned>(op.slot), begin, end - begin, wanted.data()) == 0)
    out.kind = OutcomeKind::kDone;
}

}  // namespace twinwalk::kvm
