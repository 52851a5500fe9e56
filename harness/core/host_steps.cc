#include "harness/core/host_steps.h"

namespace twinwalk {
namespace {

using mmu::Hva;
using mmu::kPageSize;
using Kind = mmu::MemslotRequest::Kind;

void refuse(Outcome& out) { out.kind = OutcomeKind::kRefused; }

Kind kind_of(Verb verb) {
  switch (verb) {
    case Verb::kSlotAdd:
      return Kind::kAdd;
    case Verb::kSlotDelete:
      return Kind::kDelete;
    case Verb::kSlotMove:
      return Kind::kMove;
    default:
      return Kind::kFlags;
  }
}

}  // namespace

// ---- memslots

// What cannot be said in frames, or is not backed, never reaches the core.
mmu::Status HostSteps::ask_for_slot(const mmu::MemslotRequest& request, const Op& op) {
  const bool names_gpa = request.kind == Kind::kAdd || request.kind == Kind::kMove;
  if (names_gpa && op.gpa % kPageSize != 0) return mmu::Status::kInvalid;
  if (request.kind == Kind::kAdd && (op.hva % kPageSize != 0 || !host_.backs(op.hva, op.pages)))
    return mmu::Status::kInvalid;
  mmu::Status status;
  do status = core_.vm().set_memslot(request);
  while (status == mmu::Status::kNoMemory && host_.memory_comes_back());
  return status;
}

void HostSteps::note_slot(const mmu::MemslotRequest& request, const Op& op) {
  SlotView& s = slots_[request.space][request.id];
  switch (request.kind) {
    case Kind::kAdd:
      s = {true, request.read_only, request.log_dirty, op.gpa, op.pages * kPageSize, op.hva};
      return;
    case Kind::kDelete:
      s = SlotView{};
      return;
    case Kind::kMove:
      s.gpa = op.gpa;
      return;
    case Kind::kFlags:
      s.read_only = request.read_only;
      s.log_dirty = request.log_dirty;
      return;
  }
}

void HostSteps::change_slot(const Op& op, Outcome& out) {
  mmu::MemslotRequest request;
  request.kind = kind_of(op.verb);
  request.space = static_cast<mmu::u32>(op.space);
  request.id = op.slot < kMaxSlots ? static_cast<mmu::u32>(op.slot) : mmu::kMaxMemslots;
  request.gfn = mmu::Gfn{op.gpa / kPageSize};
  request.pages = op.pages;
  request.hva = Hva{op.hva};
  request.read_only = (op.flags & slot_flag::kReadOnly) != 0;
  request.log_dirty = (op.flags & slot_flag::kLogDirty) != 0;
  // The notes below must come in the order in which the core made the changes.
  while (slot_changes_ && host_.let_others_go_on()) {
  }
  slot_changes_ = true;
  const bool done = ask_for_slot(request, op) == mmu::Status::kOk;
  if (done) note_slot(request, op);
  slot_changes_ = false;
  if (!done) refuse(out);
}

void HostSteps::dirty_get(const Op& op, Outcome& out, OutcomeStream& stream) {
  const SlotView* const s = op.slot < kMaxSlots ? &slots_[op.space][op.slot] : nullptr;
  if (s == nullptr || !s->used || !s->log_dirty) return refuse(out);
  const std::uint64_t words = (s->bytes / kPageSize + 63) / 64;
  std::vector<std::uint64_t>& bitmap = bitmap_[host_.context()];
  bitmap.assign(words, 0);
  if (!core_.vm().get_dirty_log(static_cast<mmu::u32>(op.space), static_cast<mmu::u32>(op.slot),
                                bitmap.data(), words))
    return refuse(out);
  out.extra_begin = static_cast<std::uint32_t>(stream.extra.size());
  for (std::uint64_t w = 0; w < words; ++w) {
    for (std::uint64_t bits = bitmap[w]; bits != 0; bits &= bits - 1) {
      stream.extra.push_back(s->gpa / kPageSize + w * 64 +
                             static_cast<unsigned>(__builtin_ctzll(bits)));
    }
  }
  out.extra_count = static_cast<std::uint32_t>(stream.extra.size()) - out.extra_begin;
}

// All of the range; whoever clears what was not collected loses it.
void HostSteps::dirty_clear(const Op& op, Outcome& out) {
  const SlotView* const s = op.slot < kMaxSlots ? &slots_[op.space][op.slot] : nullptr;
  const std::uint64_t bytes = op.pages * kPageSize;
  if (s == nullptr || !s->used || op.gpa % kPageSize != 0 || !s->holds(op.gpa) || op.pages == 0 ||
      bytes > s->gpa + s->bytes - op.gpa)
    return refuse(out);
  std::vector<std::uint64_t>& bitmap = bitmap_[host_.context()];
  bitmap.assign((op.pages + 63) / 64, ~std::uint64_t{0});
  if (!core_.vm().clear_dirty_log(static_cast<mmu::u32>(op.space), static_cast<mmu::u32>(op.slot),
                                  (op.gpa - s->gpa) / kPageSize, op.pages, bitmap.data()))
    refuse(out);
}

void HostSteps::set_attributes(const Op& op, Outcome& out) {
  const bool is_private = op.value != 0;
  mmu::Status status = mmu::Status::kInvalid;
  if (op.gpa % kPageSize == 0) {
    do {
      status = core_.vm().set_private(mmu::Gfn{op.gpa / kPageSize}, op.pages, is_private);
    } while (status == mmu::Status::kNoMemory && host_.memory_comes_back());
  }
  if (status != mmu::Status::kOk) return refuse(out);
  slots_[0].kinds().set(op.gpa, op.pages * kPageSize, is_private);
}

// The core raises what is less than it can work with.
void HostSteps::set_quota(const Op& op) {
  core_.vm().set_quota(op.pages != 0 ? static_cast<mmu::u32>(op.pages) : mmu::kDefaultQuota);
}

void HostSteps::track(const Op& op, Outcome& out) {
  const auto space = static_cast<mmu::u32>(op.space);
  const mmu::Gfn gfn{op.gpa / kPageSize};
  if (op.value == 0) {
    if (!core_.vm().untrack_writes(space, gfn)) refuse(out);
    return;
  }
  mmu::Status status;
  do status = core_.vm().track_writes(space, gfn);
  while (status == mmu::Status::kNoMemory && host_.memory_comes_back());
  if (status != mmu::Status::kOk) refuse(out);
}

// ---- backing memory

void HostSteps::change_backing(const Op& op, Outcome& out) {
  if (op.pages == 0 || op.hva % kPageSize != 0 || !host_.backs(op.hva, op.pages))
    return refuse(out);
  const Hva start{op.hva}, end{op.hva + op.pages * kPageSize};
  if (op.verb == Verb::kAge) {
    core_.vm().age(start, end, true);
    return;
  }
  core_.vm().notifier_begin(start, end);
  switch (op.verb) {
    case Verb::kInvalidate:
      host_.invalidate(op.hva, op.pages);
      if (has_identity_map(core_.machine()) && kIdentityMapHva - op.hva < op.pages * kPageSize)
        restore_identity_map();
      host_.swap_out(op.hva, op.pages);
      break;
    case Verb::kRemap:
      host_.remap(op.hva, op.pages);
      break;
    default:
      host_.protect(op.hva, op.pages, op.value != 0);
  }
  core_.vm().notifier_end(start, end);
}

void HostSteps::change_host_page(const Op& op, Outcome& out) {
  constexpr std::uint64_t kHuge = std::uint64_t{2} << 20;
  if (op.hva % kPageSize != 0 || !host_.backs(op.hva, 1)) return refuse(out);
  const std::uint64_t hva = op.hva & ~(kHuge - 1);
  core_.vm().notifier_begin(Hva{hva}, Hva{hva + kHuge});
  if (op.verb == Verb::kHugeSplit) {
    host_.huge_split(hva);
  } else {
    host_.huge_collapse(hva);
  }
  core_.vm().notifier_end(Hva{hva}, Hva{hva + kHuge});
}

// The host does not let go of what it keeps for itself. Large pages of 4M, SDM 3A §"32-Bit Paging".
void HostSteps::restore_identity_map() {
  constexpr std::uint64_t kFlags = pte::kP | pte::kW | pte::kU | pte::kA | pte::kD | pte::kPs;
  for (std::uint64_t i = 0; i < kPageSize / 4; ++i)
    host_.poke(kIdentityMapHva + 4 * i, 4, i << 22 | kFlags);
}

void HostSteps::break_cow(std::uint64_t hva) {
  if (!host_.is_protected(hva)) return;
  const std::uint64_t page = hva & ~(kPageSize - 1);
  core_.vm().notifier_begin(Hva{page}, Hva{page + kPageSize});
  host_.break_cow(page);
  core_.vm().notifier_end(Hva{page}, Hva{page + kPageSize});
}

void HostSteps::store(const Op& op, Outcome& out) {
  const auto size = static_cast<unsigned>(op.size);
  const SlotMap& slots = slots_[core_.in_smm(op.vcpu) ? 1 : 0];
  if (slots.find(op.gpa) == nullptr || slots.find(op.gpa + size - 1) == nullptr) return refuse(out);
  // An aligned store is one store, so that no entry is torn.
  const unsigned part = op.gpa % size == 0 ? size : 1;
  for (unsigned done = 0; done < size; done += part) {
    const std::uint64_t hva = slots.find(op.gpa + done)->hva_of(op.gpa + done);
    break_cow(hva);
    if (host_.poke(hva, part, op.value >> (8 * done))) continue;
    out.kind = OutcomeKind::kSkip;
    out.reason = SkipReason::kSubjectStopped;
    return;
  }
}

}  // namespace twinwalk
