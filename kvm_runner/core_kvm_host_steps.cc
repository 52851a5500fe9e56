// Host steps of subject `core-kvm`.

#include "kvm_runner/backing.h"
#include "kvm_runner/core_kvm_subject.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

void CoreKvmSubject::break_share(std::uint64_t offset) {
  if (!arena_.is_shared(offset)) return;
  const std::uint64_t page = kHvaBase + (offset & ~(kPage - 1));
  core_->notifier_begin(mmu::Hva{page}, mmu::Hva{page + kPage});
  arena_.move_frame(offset);
  core_->notifier_end(mmu::Hva{page}, mmu::Hva{page + kPage});
}

void CoreKvmSubject::host_store(const Op& op, Outcome& out) {
  if (slots_.find(op.gpa) == nullptr || slots_.find(op.gpa + op.size - 1) == nullptr) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  for (unsigned i = 0; i < op.size; ++i) {
    const Slot* slot = slots_.find(op.gpa + i);
    const std::uint64_t offset = slot->offset + (op.gpa + i - slot->gpa);
    break_share(offset);
    const std::uint64_t hpa = arena_.frame_of(offset);
    if (hpa == 0) return skip(out, SkipReason::kSubjectStopped);
    *arena_.frame_at(hpa + offset % kPage) = static_cast<unsigned char>(op.value >> (8 * i));
  }
}

void CoreKvmSubject::change_slot(const Op& op, Outcome& out) {
  using Kind = mmu::MemslotRequest::Kind;
  mmu::MemslotRequest request;
  request.kind = op.verb == Verb::kSlotAdd      ? Kind::kAdd
                 : op.verb == Verb::kSlotDelete ? Kind::kDelete
                 : op.verb == Verb::kSlotMove   ? Kind::kMove
                                                : Kind::kFlags;
  request.id = op.slot < mmu::kMaxMemslots ? static_cast<mmu::u32>(op.slot) : mmu::kMaxMemslots;
  request.gfn = mmu::Gfn{op.gpa / kPage};
  request.pages = op.pages;
  request.hva = mmu::Hva{op.hva};
  request.read_only = (op.flags & slot_flag::kReadOnly) != 0;
  request.log_dirty = (op.flags & slot_flag::kLogDirty) != 0;
  // What cannot be said in frames, or is not backed, never reaches the core.
  const bool backed = op.hva >= kHvaBase && op.pages <= Backing::kSpan / kPage &&
                      op.hva - kHvaBase <= Backing::kSpan - op.pages * kPage;
  const bool aligned =
      op.gpa % kPage == 0 && (request.kind != Kind::kAdd || (op.hva % kPage == 0 && backed));
  const bool names_gpa = request.kind == Kind::kAdd || request.kind == Kind::kMove;
  if ((names_gpa && !aligned) || core_->set_memslot(request) != mmu::Status::kOk) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  Slot slot;
  if (request.kind == Kind::kAdd) {
    slot = {true,   request.read_only, request.log_dirty,
            op.gpa, op.pages * kPage,  op.hva - kHvaBase};
  } else if (request.kind != Kind::kDelete) {
    slot = slots_[op.slot];
    if (request.kind == Kind::kMove) {
      slot.gpa = op.gpa;
    } else {
      slot.read_only = request.read_only;
      slot.log_dirty = request.log_dirty;
    }
  }
  slots_.put(request.id, slot);
}

void CoreKvmSubject::change_backing(const Op& op, Outcome& out) {
  const std::uint64_t offset = op.hva - kHvaBase, bytes = op.pages * kPage;
  const bool inside = op.hva % kPage == 0 && op.hva >= kHvaBase &&
                      op.pages <= Backing::kSpan / kPage && offset <= Backing::kSpan - bytes;
  if (!inside || op.pages == 0) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const mmu::Hva start{op.hva}, end{op.hva + bytes};
  if (op.verb == Verb::kAge) {
    core_->age(start, end, true);
    return;
  }
  core_->notifier_begin(start, end);
  for (std::uint64_t page = 0; page < op.pages; ++page) {
    const std::uint64_t at = offset + page * kPage;
    if (op.verb == Verb::kInvalidate) {
      arena_.discard(at);
    } else if (op.verb == Verb::kRemap) {
      arena_.move_frame(at);
    } else {
      arena_.share(at, op.value == 0);
    }
  }
  core_->notifier_end(start, end);
}

void CoreKvmSubject::dirty_get(const Op& op, Outcome& out, OutcomeStream& stream) {
  const bool logging = slots_.is_live(op.slot) && slots_[op.slot].log_dirty;
  if (logging) bitmap_.assign((slots_[op.slot].bytes / kPage + 63) / 64, 0);
  if (!logging ||
      !core_->get_dirty_log(static_cast<mmu::u32>(op.slot), bitmap_.data(), bitmap_.size())) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  out.extra_begin = static_cast<std::uint32_t>(stream.extra.size());
  const std::uint64_t first = slots_[op.slot].gpa / kPage;
  for (std::size_t i = 0; i < bitmap_.size(); ++i) {
    for (unsigned b = 0; b < 64; ++b) {
      if ((bitmap_[i] >> b & 1) != 0) stream.extra.push_back(first + i * 64 + b);
    }
  }
  out.extra_count = static_cast<std::uint32_t>(stream.extra.size()) - out.extra_begin;
}

}  // namespace twinwalk::kvm
