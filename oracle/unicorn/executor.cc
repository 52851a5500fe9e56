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

bool stores(AccessKind kind) { return kind == AccessKind::kWrite || kind == AccessKind::kRmw; }
constexpr bool meet(std::uint64_t a, std::uint64_t a_bytes, std::uint64_t b,
                    std::uint64_t b_bytes) {
  return a - b < b_bytes || b - a < a_bytes;
}

}  // namespace

Executor::Executor() {
  image_.reset(kSmallestImage);
  for (const Mode mode : {Mode::k32Bit, Mode::k4Level}) {
    layout_ = layout_of(mode);
    open_engine();
    translates_ = engine().translates();
  }
}

void Executor::open_engine() {
  Seat& s = seat();
  if (s.engine != nullptr && s.accesses < kAccessesPerEngine && !s.engine->full()) return;
  s = {};
  const auto width = layout_.long_mode() ? code::Width::k64 : code::Width::k32;
  s.engine = std::make_unique<Engine>(image_, width);
  selected_ = false;
}

void Executor::reset(const Record& record) {
  const bool resized = record.target.address != image_.bytes();
  // An engine holds the image as large as it was.
  if (lost_ || resized) engines_ = {};
  if (lost_) {
    image_.forget_all(record.target.address);
  } else {
    image_.reset(record.target.address);
  }
  lost_ = false;
}

void Executor::take_registers(const RegisterRecord& registers) {
  registers_ = registers;
  layout_ = layout_of(mode_of(registers.cr0, registers.cr4, registers.efer));
  selected_ = false;
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
        take_registers(record.registers);
        break;
      case RecordKind::kPdptes:
        pdptes_ = record.pdptes;
        break;
      case RecordKind::kAccess:
        produced += access(record, results + produced);
        break;
    }
  }
  return produced;
}

std::uint64_t Executor::entry_at(std::uint64_t gpa) {
  return layout_.entry_bytes == 8 ? image_.word(gpa) : image_.bytes_at(gpa, layout_.entry_bytes);
}

Executor::Trail Executor::trail_of(std::uint64_t gva) {
  Trail trail;
  if (layout_.levels == 0) trail.target = gva;
  std::uint64_t table = layout_.root(registers_.cr3);
  for (unsigned level = layout_.levels; level >= 1; --level) {
    const std::uint64_t at = layout_.entry_gpa(table, gva, level);
    if (!image_.contains(at, layout_.entry_bytes)) return trail;
    trail.entry_gpa[trail.count++] = at;
    const std::uint64_t entry = entry_at(at);
    if ((entry & pte::kP) == 0) return trail;
    if (layout_.is_leaf(entry, level, registers_.cr4)) {
      const std::uint64_t offset = (std::uint64_t{1} << layout_.shift(level)) - 1;
      trail.large = level > 1;
      trail.target = layout_.frame(entry, level) | (gva & offset);
      return trail;
    }
    table = layout_.next_table(entry);
  }
  return trail;
}

// Unicorn reads a PDPTE at each walk, the processor when CR3 is written: what it had then stands in
// memory while the access runs.
void Executor::put_latched(std::uint64_t gva) {
  const std::uint64_t at = layout_.entry_gpa(layout_.root(registers_.cr3), gva, layout_.levels);
  const std::uint64_t latched = pdptes_.pdpte[gva >> layout_.shift(layout_.levels) & 3];
  if (!image_.contains(at, 8) || image_.word(at) == latched) return;
  watch_word(at);
  ++latched_;
  image_.restore(at, latched);
}

void Executor::watch_word(std::uint64_t gpa) {
  const std::uint64_t at = gpa & ~std::uint64_t{7};
  watch_.words[watch_.count++] = {at, image_.word(at)};
}

void Executor::watch_trail(const Trail& trail) {
  const unsigned count = trail.count;
  for (unsigned i = 0; i < count; ++i) watch_word(trail.entry_gpa[i]);
}

void Executor::watch_data(std::uint64_t gpa, unsigned size) {
  if (gpa == kNowhere) return;
  for (std::uint64_t at = gpa & ~std::uint64_t{7}; at < gpa + size; at += 8) {
    if (image_.contains(at, 8)) watch_word(at);
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

bool Executor::own_pages_hit(const Access& a, const Trails& trails) {
  for (const Trail& trail : trails) {
    if (trail.target != kNowhere && engine().owns(trail.target)) return true;
  }
  if (data_follows()) return false;
  return engine().owns(page_of(a.gva)) ||
         (a.second_page != kNowhere && engine().owns(a.second_page));
}

// Does the access read, as data or as an entry of another level, a word in which a PDPTE stands
// that memory does not have?
bool Executor::latched_hit(const Record& record, const Trails& trails) const {
  for (unsigned i = 0; i < latched_; ++i) {
    const std::uint64_t word = watch_.words[i].gpa;
    for (unsigned page = 0; page < trails.size(); ++page) {
      const Trail& trail = trails[page];
      for (const std::uint64_t gpa : {trail.target, record.target.gpa[page]})
        if (gpa != kNowhere && meet(gpa & ~std::uint64_t{7}, 16, word, 8)) return true;
      for (unsigned e = 1; e < trail.count; ++e)
        if (trail.entry_gpa[e] == word) return true;
    }
  }
  return false;
}

// An old Unicorn stores to the linear address: also where the entries lie that are compared.
bool Executor::old_engine_hits_trail(const Access& a, const Trails& trails) {
  if (data_follows() || !stores(a.kind)) return false;
  for (const Trail& trail : trails) {
    for (unsigned e = 0; e < trail.count; ++e)
      if (meet(trail.entry_gpa[e], layout_.entry_bytes, a.gva, a.size)) return true;
  }
  return false;
}

// A fetch executes what it finds. Only seed words are known to be harmless, and a seed word at its
// own address is the same each time, so that no translated block can be out of date. Where spec has
// the fetch fault and Unicorn might not, make_harmless() sees to it.
bool Executor::can_execute_fetch(const Record& record, const Trail& trail) {
  if (record.must_fault != 0) {
    const std::uint64_t at = would_execute(record, trail);
    return at == kNowhere || !on_trail(trail, at);
  }
  if (!data_follows()) return false;  // it would execute what lies at the linear address
  if (record.must_succeed == 0) return true;
  const std::uint64_t at = record.target.gpa[0];
  return at % 8 == 0 && image_.word(at) == seed_word(at);
}

// Where a fetch that does not fault runs from: kNowhere if that is no memory.
std::uint64_t Executor::would_execute(const Record& record, const Trail& trail) const {
  const std::uint64_t at = data_follows() ? trail.target : record.target.address;
  return image_.contains(at & ~std::uint64_t{7}, 8) ? at : kNowhere;
}

// Is one of the trail's entries in the word of that byte?
bool Executor::on_trail(const Trail& trail, std::uint64_t gpa) const {
  const auto end = trail.entry_gpa.begin() + trail.count;
  return std::any_of(trail.entry_gpa.begin(), end, [&](std::uint64_t entry) {
    return meet(entry, layout_.entry_bytes, gpa & ~std::uint64_t{7}, 8);
  });
}

// A fetch that spec has fault, but Unicorn executes, must not run what the guest stored there,
// which may do anything. At the start of a word it finds the seed as ever, else INT3: each address
// always has the same code, while a fetch is under way.
void Executor::make_harmless(const Record& record, const Trail& trail) {
  const std::uint64_t at = would_execute(record, trail);
  if (at == kNowhere) return;
  watch_word(at);
  const std::uint64_t word = at & ~std::uint64_t{7}, shift = 8 * (at - word);
  const std::uint64_t others = image_.word(word) & ~(std::uint64_t{0xff} << shift);
  image_.restore(word, shift == 0 ? seed_word(word) : others | std::uint64_t{0xCC} << shift);
}

Skipped Executor::obstacle(const Record& record, const Access& a, const Trails& trails) {
  if (lost_) return Skipped::kLost;
  const unsigned pages = a.second_page == kNowhere ? 1 : 2;
  for (unsigned i = 0; i < pages; ++i) {
    if (trails[i].count < record.entries[i]) return Skipped::kOutside;
    if (record.must_succeed != 0 && !image_.contains(record.target.gpa[i], 1))
      return Skipped::kOutside;
  }
  if (latched_hit(record, trails)) return Skipped::kLatched;
  if (own_pages_hit(a, trails)) return Skipped::kOwnPage;
  if (old_engine_hits_trail(a, trails)) return Skipped::kOwnPath;
  if (a.kind == AccessKind::kFetch && !can_execute_fetch(record, trails[0]))
    return Skipped::kFetchContent;
  return select() ? Skipped::kNo : Skipped::kRegisters;
}

bool Executor::select() {
  if (!selected_) selected_ = engine().select(registers_);
  return selected_;
}

Freshness Executor::next_freshness() {
  const std::uint64_t n = seat().accesses++;
  if (!seat().large_cached && n % kFullFlushEvery != 0) return Freshness::kInvlpg;
  seat().large_cached = false;
  return n % (2 * kFullFlushEvery) < kFullFlushEvery ? Freshness::kMovCr3 : Freshness::kApi;
}

unsigned Executor::access(const Record& record, Result* results) {
  const auto kind = static_cast<AccessKind>(record.access);
  Access a{kind, record.size, record.target.address, kNowhere, record.target.value, 0};
  const std::uint64_t last_page = page_of(record.target.address + record.size - 1);
  if (kind != AccessKind::kFetch && last_page != page_of(record.target.address))
    a.second_page = last_page;
  const unsigned pages = a.second_page == kNowhere ? 1 : 2;
  std::fill_n(results, pages, Result{});
  open_engine();

  watch_.count = latched_ = 0;
  if (layout_.mode == Mode::kPae) {
    put_latched(a.gva);
    if (pages == 2) put_latched(a.second_page);
  }
  Trails trails = {trail_of(a.gva), Trail{}};
  if (pages == 2) trails[1] = trail_of(a.second_page);
  results[0].skipped = obstacle(record, a, trails);
  if (results[0].skipped == Skipped::kNo) {
    watch(record, a, trails);
    if (kind == AccessKind::kFetch && record.must_fault != 0) make_harmless(record, trails[0]);
    run(record, a, trails, results);
  }
  undo();
  return pages;
}

void Executor::watch(const Record& record, const Access& a, const Trails& trails) {
  const unsigned first = first_part(a.gva, a.size);
  for (unsigned i = 0; i < 2; ++i) {
    const unsigned part = i == 0 ? first : a.size - first;
    watch_trail(trails[i]);
    if (part == 0) continue;
    watch_data(trails[i].target, part);
    if (record.target.gpa[i] != trails[i].target) watch_data(record.target.gpa[i], part);
  }
  watch_trail(trail_of(engine().code_gva(a.gva, a.second_page)));
  if (!data_follows()) watch_data(a.gva, a.size);
}

void Executor::run(const Record& record, Access& a, const Trails& trails, Result* results) {
  const std::uint64_t old_data = a.expected = data_at(record);
  const bool large = trails[0].large || trails[1].large;
  Ran ran = engine().access(a, next_freshness());
  if (ran.code_lost) {
    for (unsigned i = watch_.count; i-- > latched_;)
      image_.restore(watch_.words[i].gpa, watch_.words[i].before);
    ran = engine().access(a, Freshness::kMovCr3);
    seat().large_cached = false;
  }
  seat().large_cached = seat().large_cached || large;

  Result& result = results[0];
  result.event = ran.event;
  result.vector = ran.vector;
  result.error_code = ran.error_code;
  if (ran.event == Event::kCompleted) {
    result.value = a.kind == AccessKind::kFetch ? ran.rax : low_bytes(ran.rax, a.size);
  } else {
    result.address = ran.event == Event::kUnmapped ? ran.gpa : ran.cr2;
  }
  result.stored = data_at(record);
  for (unsigned i = 0; i < (a.second_page == kNowhere ? 1u : 2u); ++i) {
    results[i].entries = static_cast<std::uint8_t>(trails[i].count);
    for (unsigned e = 0; e < trails[i].count; ++e)
      results[i].entry[e] = entry_at(trails[i].entry_gpa[e]);
  }
  judge_doubt(record, ran, result, old_data);
  if (a.kind == AccessKind::kFetch && record.must_fault != 0 && ran.event == Event::kCompleted &&
      would_execute(record, trails[0]) == kNowhere) {
    lost_ = true;  // it ran something else
  }
}

// Could the engine have written, or run, something that undo() does not know of? Then nothing that
// follows in this trace is worth comparing.
void Executor::judge_doubt(const Record& record, const Ran& ran, const Result& result,
                           std::uint64_t old_data) {
  const auto kind = static_cast<AccessKind>(record.access);
  if (ran.event == Event::kEngineError || ran.code_lost) lost_ = true;
  if (ran.event != Event::kCompleted) return;
  if (!stores(kind)) return;
  const std::uint64_t wanted = low_bytes(
      kind == AccessKind::kRmw ? old_data + record.target.value : record.target.value, record.size);
  if (record.must_fault != 0 || (data_follows() && result.stored != wanted)) lost_ = true;
}

}  // namespace twinwalk::oracle::unicorn
