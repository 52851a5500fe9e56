#include "oracle/unicorn/executor.h"

#include <algorithm>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle::unicorn {
namespace {

constexpr std::uint64_t kSmallestImage = std::uint64_t{2} << 20;

// Unicorn 2.1.1 crashes or hangs once its translation buffer fills with code from frames that are
// also stored to. Each access adds at most a few hundred bytes to that buffer of 1 GiB, so this is
// far from full.
constexpr std::uint64_t kAccessesPerEngine = 50'000;

// One access in so many gets its fresh TLB by a full flush instead of INVLPG, by MOV CR3 and the
// API in turn.
constexpr std::uint64_t kFullFlushEvery = 256;

constexpr std::uint64_t page_of(std::uint64_t address) { return address & ~(kPageBytes - 1); }
constexpr unsigned first_part(std::uint64_t gva, unsigned size) {
  const std::uint64_t room = kPageBytes - gva % kPageBytes;
  return room < size ? static_cast<unsigned>(room) : size;
}
constexpr std::uint64_t low_bytes(std::uint64_t value, unsigned size) {
  return extract(value, 0, size);
}

}  // namespace

Executor::Executor() {
  image_.reset(kSmallestImage);
  reopen();
}

void Executor::reopen() {
  engine_ = nullptr;
  engine_ = std::make_unique<Engine>(image_);
  engine_accesses_ = 0;
  large_cached_ = false;
  selected_ = false;
}

void Executor::reset(const Record& record) {
  const bool resized = record.target.address != image_.bytes();
  if (lost_) {
    image_.forget_all(record.target.address);
  } else {
    image_.reset(record.target.address);
  }
  if (lost_ || resized) reopen();
  lost_ = false;
}

std::size_t Executor::execute(std::span<const Record> records, Result* results) {
  std::size_t produced = 0;
  for (const Record& record : records) {
    switch (record.kind) {
      case RecordKind::kReset:
        reset(record);
        break;
      case RecordKind::kMemory:
        if (image_.contains(record.target.address, record.size))
          image_.write(record.target.address, record.size, record.target.value);
        break;
      case RecordKind::kRegisters:
        registers_ = record.registers;
        selected_ = false;
        break;
      case RecordKind::kAccess:
        produced += access(record, results + produced);
        break;
    }
  }
  return produced;
}

Executor::Trail Executor::trail_of(std::uint64_t cr3, std::uint64_t gva) {
  Trail trail;
  std::uint64_t table = cr3 & pte::kAddressMask;
  for (unsigned level = kLevels; level >= 1; --level) {
    const unsigned shift = 3 + 9 * level;
    const std::uint64_t at = table + (gva >> shift & 511) * 8;
    if (!image_.contains(at, 8)) return trail;
    trail.entry_gpa[trail.count++] = at;
    const std::uint64_t entry = image_.word(at);
    if ((entry & pte::kP) == 0) return trail;
    trail.large = level > 1 && level < 4 && (entry & pte::kPs) != 0;
    if (level == 1 || trail.large) {
      const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
      trail.target = (entry & pte::kAddressMask & ~offset) | (gva & offset);
      return trail;
    }
    table = entry & pte::kAddressMask;
  }
  return trail;
}

void Executor::watch_trail(const Trail& trail) {
  for (unsigned i = 0; i < trail.count; ++i) {
    watch_.words[watch_.count++] = {trail.entry_gpa[i], image_.word(trail.entry_gpa[i])};
  }
}

void Executor::watch_data(std::uint64_t gpa, unsigned size) {
  if (gpa == kNowhere) return;
  for (std::uint64_t at = gpa & ~std::uint64_t{7}; at < gpa + size; at += 8) {
    if (image_.contains(at, 8)) watch_.words[watch_.count++] = {at, image_.word(at)};
  }
}

void Executor::undo() {
  for (unsigned i = watch_.count; i-- > 0;)
    image_.restore(watch_.words[i].gpa, watch_.words[i].before);
}

// The bytes where spec says that the access goes.
std::uint64_t Executor::data_at(const Record& record) {
  const unsigned first = first_part(record.target.address, record.size);
  if (!image_.contains(record.target.gpa[0], first)) return 0;
  const std::uint64_t low = image_.bytes_at(record.target.gpa[0], first);
  const unsigned rest = record.size - first;
  if (rest == 0 || !image_.contains(record.target.gpa[1], rest)) return low;
  return low | image_.bytes_at(record.target.gpa[1], rest) << (8 * first);
}

bool Executor::own_pages_hit(const Access& a, const std::array<Trail, 2>& trails) const {
  for (const Trail& trail : trails) {
    if (trail.target != kNowhere && trail.target - kOwnGpa < kOwnPages * kPageBytes) return true;
  }
  if (engine_->translates()) return false;
  return std::any_of(kCodeGva.begin(), kCodeGva.end(), [&](std::uint64_t own) {
    return page_of(a.gva) - own < (kOwnPages + 1) * kPageBytes ||
           a.second_page - own < (kOwnPages + 1) * kPageBytes;
  });
}

// A fetch executes what it finds. Only seed words are known to be harmless, and a seed word at its
// own address is the same each time, so that no translated block can be out of date.
bool Executor::can_execute_fetch(const Record& record) {
  if (record.must_fault != 0) return true;
  if (!engine_->translates()) return false;  // it would execute what lies at the linear address
  if (record.must_succeed == 0) return true;
  const std::uint64_t at = record.target.gpa[0];
  return at % 8 == 0 && image_.word(at) == seed_word(at);
}

Skipped Executor::obstacle(const Record& record, const Access& a,
                           const std::array<Trail, 2>& trails) {
  if (lost_) return Skipped::kLost;
  const unsigned pages = a.second_page == kNowhere ? 1 : 2;
  for (unsigned i = 0; i < pages; ++i) {
    if (trails[i].count < record.entries[i]) return Skipped::kOutside;
    if (record.must_succeed != 0 && !image_.contains(record.target.gpa[i], 1))
      return Skipped::kOutside;
  }
  if (own_pages_hit(a, trails)) return Skipped::kOwnPage;
  if (a.kind == AccessKind::kFetch && !can_execute_fetch(record)) return Skipped::kFetchContent;
  return select() ? Skipped::kNo : Skipped::kRegisters;
}

bool Executor::select() {
  if (!selected_) selected_ = engine_->select(registers_);
  return selected_;
}

Freshness Executor::next_freshness() {
  const std::uint64_t n = engine_accesses_++;
  if (!large_cached_ && n % kFullFlushEvery != 0) return Freshness::kInvlpg;
  large_cached_ = false;
  return n % (2 * kFullFlushEvery) < kFullFlushEvery ? Freshness::kMovCr3 : Freshness::kApi;
}

unsigned Executor::access(const Record& record, Result* results) {
  const auto kind = static_cast<AccessKind>(record.access);
  if (engine_accesses_ >= kAccessesPerEngine || engine_->full()) reopen();
  Access a{kind, record.size, record.target.address, kNowhere, record.target.value};
  const std::uint64_t last_page = page_of(record.target.address + record.size - 1);
  if (kind != AccessKind::kFetch && last_page != page_of(record.target.address))
    a.second_page = last_page;

  std::array<Trail, 2> trails = {trail_of(registers_.cr3, a.gva), Trail{}};
  if (a.second_page != kNowhere) trails[1] = trail_of(registers_.cr3, a.second_page);
  const unsigned pages = a.second_page == kNowhere ? 1 : 2;
  std::fill_n(results, pages, Result{});
  Result& result = results[0];
  result.skipped = obstacle(record, a, trails);
  if (result.skipped != Skipped::kNo) return pages;

  watch_.count = 0;
  const unsigned first = first_part(a.gva, a.size);
  for (unsigned i = 0; i < 2; ++i) {
    const unsigned part = i == 0 ? first : a.size - first;
    watch_trail(trails[i]);
    if (part == 0) continue;
    watch_data(trails[i].target, part);
    watch_data(record.target.gpa[i], part);
  }
  watch_trail(trail_of(registers_.cr3, Engine::code_gva(a.gva, a.second_page)));
  if (!engine_->translates()) watch_data(a.gva, a.size);
  const std::uint64_t old_data = data_at(record);

  const bool large = trails[0].large || trails[1].large;
  Ran ran = engine_->access(a, next_freshness());
  if (ran.code_lost) {
    undo();
    ran = engine_->access(a, Freshness::kMovCr3);
    large_cached_ = false;
  }
  large_cached_ = large_cached_ || large;

  result.event = ran.event;
  result.vector = ran.vector;
  result.error_code = ran.error_code;
  result.address = ran.event == Event::kUnmapped ? ran.gpa : ran.cr2;
  result.value = kind == AccessKind::kFetch ? ran.rax : low_bytes(ran.rax, record.size);
  result.stored = data_at(record);
  for (unsigned i = 0; i < pages; ++i) {
    results[i].entries = static_cast<std::uint8_t>(trails[i].count);
    for (unsigned e = 0; e < trails[i].count; ++e) {
      results[i].entry[e] = image_.word(trails[i].entry_gpa[e]);
    }
  }
  judge_doubt(record, ran, result, old_data);
  undo();
  return pages;
}

// Could the engine have written, or run, something that undo() does not know of? Then nothing that
// follows in this trace is worth comparing.
void Executor::judge_doubt(const Record& record, const Ran& ran, const Result& result,
                           std::uint64_t old_data) {
  const auto kind = static_cast<AccessKind>(record.access);
  if (ran.event == Event::kEngineError || ran.code_lost) lost_ = true;
  if (ran.event != Event::kCompleted) return;
  if (kind == AccessKind::kFetch && record.must_fault != 0) lost_ = true;
  if (kind != AccessKind::kWrite && kind != AccessKind::kRmw) return;
  const std::uint64_t wanted = low_bytes(
      kind == AccessKind::kRmw ? old_data + record.target.value : record.target.value, record.size);
  if (record.must_fault != 0 || (engine_->translates() && result.stored != wanted)) lost_ = true;
}

}  // namespace twinwalk::oracle::unicorn
