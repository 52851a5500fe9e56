// Idioms in every paging mode: legal, bounded, varied; and that those of modes, roots and hidden
// edits show what they are named after.

#include "fuzzers/idioms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>

#include "fuzzers/pools.h"
#include "harness/trace/print.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

constexpr int kTimes = 400;

struct Written {
  std::vector<Op> ops;
  Survey before;  // what ops[0] finds
  Survey after;
};

Machine machine_of(Mode mode) {
  Machine m;
  m.mode = mode;
  m.vcpus = 2;
  m.features |= feature::kLa57;
  return m;
}

void sample(const Idiom& idiom, const Machine& machine, int times,
            const std::function<void(const Written&)>& see) {
  Rng rng(11);
  Written w;
  w.before.begin(machine);
  for (int i = 0; i < times; ++i) {
    w.ops.clear();
    w.after.begin(machine);
    Sketch sketch(rng, w.after, w.ops);
    idiom.write(sketch);
    see(w);
  }
}

const Idiom& named(std::string_view name) {
  for (const auto& list : all_idioms())
    for (const Idiom& i : list)
      if (i.name == name) return i;
  throw std::invalid_argument(std::string(name));
}

// How often, of kTimes.
int shown(std::string_view name, const Machine& machine,
          const std::function<bool(const Written&)>& shows) {
  int n = 0;
  sample(named(name), machine, kTimes, [&](const Written& w) { n += shows(w); });
  return n;
}
int shown(std::string_view name, Mode mode, const std::function<bool(const Written&)>& shows) {
  return shown(name, machine_of(mode), shows);
}

bool any(const Written& w, const std::function<bool(const Op&)>& is) {
  return std::any_of(w.ops.begin(), w.ops.end(), is);
}

// Calls `see` with each operation and what the trace says until then, up to the first that it
// accepts.
bool any_with_state(const Written& w, const std::function<bool(const Op&, const Survey&)>& see) {
  Survey s = w.before;
  for (const Op& op : w.ops) {
    if (see(op, s)) return true;
    s.absorb(op);
  }
  return false;
}

bool is_mov(const Op& op, Reg reg) { return op.verb == Verb::kMov && op.reg() == reg; }

// Where a store goes, as far as the trace tells; ~0 for what is no store.
std::uint64_t stored_at(const Op& op, const Survey& s) {
  if (op.verb == Verb::kWrite) return op.gpa;
  if (op.verb != Verb::kAccess || op.access() != AccessKind::kWrite) return ~std::uint64_t{0};
  const Survey::Walk w = s.walk(s.space(op.vcpu), op.gva);
  return w.complete ? w.gpa : ~std::uint64_t{0};
}

constexpr Mode kAllModes[] = {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level};

class InEachMode : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Idioms, InEachMode, testing::ValuesIn(kAllModes), [](const auto& info) {
  std::string name(name_of(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

Machine hypervisor_of(Mode mode) {
  Machine m = machine_of(mode);
  m.core = Dimension::kBare;
  m.nested = Nesting::kNpt;
  m.vendor = Vendor::kAmd;
  m.host_levels = 4;
  return m;
}

TEST_P(InEachMode, EveryIdiomIsLegalBoundedAndVaries) {
  std::vector<std::pair<std::span<const Idiom>, Machine>> all;
  for (const auto& list : all_idioms()) all.emplace_back(list, machine_of(GetParam()));
  all.emplace_back(nested_idioms(), hypervisor_of(GetParam()));
  for (const auto& [list, machine] : all) {
    for (const Idiom& idiom : list) {
      std::set<std::string> texts;
      sample(idiom, machine, 100, [&, m = machine](const Written& w) {
        ASSERT_FALSE(w.ops.empty()) << idiom.name;
        ASSERT_LE(w.ops.size(), kMaxIdiomOps) << idiom.name;
        Trace t;
        t.machine = m;
        t.ops = w.ops;
        for (const Op& op : t.ops) {
          EXPECT_LT(op.vcpu, t.machine.vcpus) << idiom.name;
          for (const FieldInfo& f : schema_of(op.verb).fields) {
            if (says(op, f)) {
              EXPECT_TRUE(legal(resolve(f, op), op.*f.member)) << idiom.name << ' ' << f.name;
            }
          }
        }
        texts.insert(print(t));
      });
      EXPECT_GT(texts.size(), 3u) << idiom.name;
    }
  }
}

// A hypervisor's trace runs a guest, and edits what the guest runs on.
TEST_P(InEachMode, HypervisorsHaveGuests) {
  const Machine machine = hypervisor_of(GetParam());
  Rng rng(1);
  Survey survey;
  survey.begin(machine);
  std::vector<Op> ops;
  Sketch sketch(rng, survey, ops);
  for (int i = 0; i < 200; ++i) write_any_idiom(sketch);
  const auto count = [&](Verb verb) {
    return std::count_if(ops.begin(), ops.end(), [&](const Op& op) { return op.verb == verb; });
  };
  EXPECT_GT(count(Verb::kVmEnter), 100);
  EXPECT_GT(count(Verb::kNptMap), 200);
  EXPECT_GT(count(Verb::kAccess), 300);
}

Machine machine_with_private_memory(std::uint32_t tdp) {
  Machine m = machine_of(Mode::k4Level);
  m.core = Dimension::kEpt;
  m.tdp |= tdp::kPrivate | tdp;
  return m;
}

TEST(Idioms, APageIsUsedByBothKindsOfAddress) {
  const Machine m = machine_with_private_memory(0);
  const std::uint64_t shared = shared_bit(m);
  const int both = shown("private-and-shared", m, [shared](const Written& w) {
    bool converts = false, maps_shared = false, reaches_private = false;
    for (const Op& op : w.ops) {
      converts |= op.verb == Verb::kAttributes && op.value == 0;
      maps_shared |= op.verb == Verb::kMap && (op.gpa & shared);
      reaches_private |= op.verb == Verb::kMap && !(op.gpa & shared);
    }
    return converts && maps_shared && reaches_private;
  });
  EXPECT_GT(both, kTimes / 2);
}

TEST(Idioms, WatchedMemoryIsAskedToBecomePrivate) {
  const Machine m = machine_with_private_memory(tdp::kExternal);
  const int asked = shown("watched-memory", m, [](const Written& w) {
    bool watched = false, becomes = false;
    for (const Op& op : w.ops) {
      watched |= op.verb == Verb::kTrack || (op.verb == Verb::kSlotFlags && op.flags != 0);
      becomes |= watched && op.verb == Verb::kAttributes && op.value != 0;
    }
    return becomes;
  });
  EXPECT_GT(asked, kTimes / 2);
}

TEST(Sketch, EntersAModeOnlyIfTheMachineHasIt) {
  Machine m;
  m.mode = Mode::k32Bit;
  m.features &= ~(feature::kPae | feature::kLa57);
  Survey survey;
  survey.begin(m);
  std::vector<Op> ops;
  Rng rng(1);
  Sketch s(rng, survey, ops);
  EXPECT_FALSE(s.enter(Mode::kPae));
  EXPECT_FALSE(s.enter(Mode::k5Level));
  EXPECT_TRUE(ops.empty());
  EXPECT_TRUE(s.enter(Mode::kNone));
  EXPECT_EQ(s.mode(), Mode::kNone);
}

TEST(Sketch, EntersPaeAtAnArrayThatCanBeLoaded) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Survey survey;
    survey.begin(machine_of(Mode::k4Level));
    std::vector<Op> ops;
    Rng rng(seed);
    Sketch s(rng, survey, ops);
    s.map(0x40'0000);  // gives the initial root an entry with rights
    ASSERT_TRUE(s.enter(Mode::kPae));
    ASSERT_EQ(s.mode(), Mode::kPae);
    EXPECT_EQ(survey.word(s.root()) & pte::kP, 0u) << seed;
  }
}

// --- modes ---

TEST(ModeIdioms, ReloadRootEntryEditsAPdpteAndLoadsIt) {
  const int n = shown("reload-root-entry", Mode::kPae, [](const Written& w) {
    bool edited = false;
    return any_with_state(w, [&](const Op& op, const Survey& s) {
      if (s.mode(0) != Mode::kPae) return false;
      const std::uint64_t at = stored_at(op, s);
      if (at >= s.root(0) && at < s.root(0) + 32 && op.verb != Verb::kMap) edited = true;
      return edited && op.verb == Verb::kMov;
    });
  });
  EXPECT_GT(n, 300);
}

TEST(ModeIdioms, ReloadRootEntryUsesEachRegisterThatLoads) {
  struct Change {
    Reg reg;
    std::uint64_t bits;
  };
  for (const Change& c :
       {Change{Reg::kCr0, cr0::kCd}, Change{Reg::kCr0, cr0::kNw}, Change{Reg::kCr0, cr0::kPg},
        Change{Reg::kCr4, cr4::kPge}, Change{Reg::kCr4, cr4::kPse}, Change{Reg::kCr4, cr4::kSmep},
        Change{Reg::kCr4, cr4::kPae}, Change{Reg::kCr4, cr4::kSmap}, Change{Reg::kCr0, cr0::kWp}}) {
    const int n = shown("reload-root-entry", Mode::kPae, [&](const Written& w) {
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        const Registers& r = s.registers(op.vcpu);
        return is_mov(op, c.reg) && ((op.value ^ (c.reg == Reg::kCr0 ? r.cr0 : r.cr4)) & c.bits);
      });
    });
    EXPECT_GT(n, 15) << static_cast<int>(c.reg) << ' ' << c.bits;
  }
}

TEST(ModeIdioms, ReservedRootEntryIsLoaded) {
  const int n = shown("reserved-root-entry", Mode::kPae, [](const Written& w) {
    return any_with_state(w, [](const Op& op, const Survey& s) {
      if (s.mode(0) != Mode::kPae || !is_mov(op, Reg::kCr3)) return false;
      for (unsigned i = 0; i < 4; ++i) {
        const std::uint64_t e = s.word(s.root(0) + 8 * i);
        if ((e & pte::kP) && (e & ~(pte::kAddressMask | pte::kP | pte::kPwt | pte::kPcd)))
          return true;
      }
      return false;
    });
  });
  EXPECT_GT(n, 60);
}

TEST(ModeIdioms, RootInsidePageUsesTwoArraysOfOnePage) {
  const int n = shown("root-inside-page", Mode::kPae, [](const Written& w) {
    std::set<std::uint64_t> arrays;
    for (const Op& op : w.ops)
      if (is_mov(op, Reg::kCr3)) arrays.insert(op.value & 0xffff'ffe0);
    return arrays.size() > 1 && (*arrays.begin() ^ *arrays.rbegin()) < kPage;
  });
  EXPECT_GT(n, 300);
}

TEST(ModeIdioms, EntryInTwoStoresHasAccessesBetween) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level}) {
    const int n = shown("entry-in-two-stores", mode, [](const Written& w) {
      std::uint64_t first = 0;
      bool accessed = false;
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        const unsigned half = Survey::format_of(s.mode(0)).bytes / 2;
        const std::uint64_t at = stored_at(op, s);
        if (first && op.verb == Verb::kAccess && at == ~std::uint64_t{0}) accessed = true;
        if (op.size != half || at == ~std::uint64_t{0}) return false;
        if (first && accessed && (at ^ first) == half) return true;
        if (!first) first = at;
        return false;
      });
    });
    EXPECT_GT(n, 150) << name_of(mode);
  }
}

TEST(ModeIdioms, StoreOverTwoEntriesTouchesBoth) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k5Level}) {
    const int n = shown("store-over-two-entries", mode, [](const Written& w) {
      return any_with_state(w, [](const Op& op, const Survey& s) {
        const std::uint64_t at = stored_at(op, s), bytes = Survey::format_of(s.mode(0)).bytes;
        return at < kTablePool + 64 * kPage && at >= kRoots[1] &&
               at / bytes != (at + op.size - 1) / bytes;
      });
    });
    EXPECT_GT(n, 250) << name_of(mode);
  }
}

TEST(ModeIdioms, QuadrantsEditsTheOtherHalfOfATable) {
  const int n = shown("quadrants", Mode::k32Bit, [](const Written& w) {
    std::set<std::uint64_t> pages, halves;
    return any_with_state(w, [&](const Op& op, const Survey& s) {
      if (op.verb == Verb::kAccess && op.gva < kLegacyDirectMap) {
        const Survey::Walk at = s.walk(s.space(0), op.gva);
        if (at.count == 2) halves.insert(at.last().gpa >> 11), pages.insert(at.last().gpa >> 12);
      }
      return halves.size() > pages.size();
    });
  });
  EXPECT_GT(n, 100);
}

TEST(ModeIdioms, HighLargePageLiesAbove4G) {
  const int n = shown("high-large-page", Mode::k32Bit, [](const Written& w) {
    return any(w,
               [](const Op& op) {
                 return op.verb == Verb::kMap && op.size > 1 && op.gpa >> 32 != 0;
               }) &&
           any(w, [](const Op& op) { return op.verb == Verb::kSlotAdd && op.gpa >> 32 != 0; });
  });
  EXPECT_EQ(n, kTimes);
}

TEST(ModeIdioms, PageSizeBitChangesEntryOrRegister) {
  const int n = shown("page-size-bit", Mode::k32Bit, [](const Written& w) {
    bool entry = false, reg = false;
    any_with_state(w, [&](const Op& op, const Survey& s) {
      if (is_mov(op, Reg::kCr4) && ((op.value ^ s.registers(0).cr4) & cr4::kPse)) reg = true;
      const std::uint64_t at = stored_at(op, s);
      if (at >> 12 == s.root(0) >> 12 && ((op.value ^ s.entry_at(at, 4)) & pte::kPs)) entry = true;
      return false;
    });
    return entry && reg;
  });
  EXPECT_GT(n, 100);
}

TEST(ModeIdioms, EdgeOfAddressesCrossesIt) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("edge-of-addresses", mode, [&](const Written& w) {
      return any(w, [&](const Op& op) {
        if (op.verb != Verb::kAccess) return false;
        const std::uint64_t end = op.gva + op.size;
        const std::uint64_t top = mode == Mode::k4Level ? bit(47) : bit(56);
        if (mode == Mode::k32Bit || mode == Mode::kPae)
          return op.gva >> 32 == 0 && end > 0x1'0000'0000;
        return (op.gva < top && end > top) || (op.gva < ~top + 1 && end > ~top + 1);
      });
    });
    EXPECT_GT(n, 250) << name_of(mode);
  }
}

TEST(ModeIdioms, TablesOfTwoModesAreReachedInBoth) {
  for (const Mode mode : kAllModes) {
    const int n = shown("tables-of-two-modes", mode, [](const Written& w) {
      std::set<Mode> modes;
      any_with_state(w, [&](const Op& op, const Survey& s) {
        if (op.verb == Verb::kAccess && op.gva < bit(30)) modes.insert(s.mode(0));
        return false;
      });
      return modes.size() > 1;
    });
    EXPECT_GT(n, 250) << name_of(mode);
  }
}

TEST(ModeIdioms, DirectoryLinkedTwiceIsReachedTwice) {
  const int n = shown("directory-linked-twice", Mode::kPae, [](const Written& w) {
    const std::uint64_t root = w.after.root(0);
    std::multiset<std::uint64_t> tables;
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint64_t e = w.after.word(root + 8 * i);
      if (e & pte::kP) tables.insert(e & pte::kAddressMask);
    }
    return std::any_of(tables.begin(), tables.end(), [&](auto t) { return tables.count(t) > 1; });
  });
  EXPECT_GT(n, 80);
}

TEST(ModeIdioms, RefusedWriteLeavesTheModeAsItIs) {
  for (const Mode mode : {Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n =
        shown("refused-write", mode, [&](const Written& w) { return w.after.mode(0) == mode; });
    EXPECT_GT(n, 250) << name_of(mode);
  }
}

// --- roots ---

TEST(RootIdioms, KeepRootsSharesATableAmongThem) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("keep-roots", mode, [](const Written& w) {
      std::set<std::uint64_t> roots;
      std::multiset<std::uint64_t> last;
      any_with_state(w, [&](const Op& op, const Survey& s) {
        if (op.verb != Verb::kAccess || !roots.insert(s.root(0)).second) return false;
        const Survey::Walk at = s.walk(s.space(0), op.gva);
        if (at.count > 1) last.insert(at.last().gpa);
        return false;
      });
      return std::any_of(last.begin(), last.end(), [&](auto e) { return last.count(e) > 1; });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(RootIdioms, KeepRootsVisitsMoreThanAreKept) {
  const int n = shown("keep-roots", Mode::k4Level, [](const Written& w) {
    std::set<std::uint64_t> roots;
    for (const Op& op : w.ops)
      if (is_mov(op, Reg::kCr3)) roots.insert(op.value & pte::kAddressMask);
    return roots.size() > 4;
  });
  EXPECT_GT(n, 60);
}

TEST(RootIdioms, EditUnderOtherRootStoresToTheTablesOfOne) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("edit-under-other-root", mode, [](const Written& w) {
      std::uint64_t first = 0;
      std::set<std::uint64_t> entries;
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        if (op.verb != Verb::kAccess) return false;
        if (entries.empty()) {
          first = s.root(0);
          const Survey::Walk at = s.walk(s.space(0), op.gva);
          for (unsigned i = 0; i < at.count; ++i) entries.insert(at.entry[i].gpa);
        }
        return s.root(0) != first && entries.count(stored_at(op, s)) > 0;
      });
    });
    EXPECT_GT(n, 250) << name_of(mode);
  }
}

TEST(RootIdioms, BitsOfCr3AreOthersThanTheAddress) {
  for (const std::uint64_t bits : {std::uint64_t{0xfff}, bit(61) | bit(62), cr3::kNoFlush}) {
    const int n = shown("bits-of-cr3", Mode::k4Level, [&](const Written& w) {
      return any(w, [&](const Op& op) { return is_mov(op, Reg::kCr3) && (op.value & bits); });
    });
    EXPECT_GT(n, 100) << bits;
  }
}

TEST(RootIdioms, PcidsBeginAndEnd) {
  const int n = shown("pcids-begin-and-end", Mode::k4Level, [](const Written& w) {
    return any_with_state(w, [](const Op& op, const Survey& s) {
      return is_mov(op, Reg::kCr4) && (s.registers(0).cr4 & ~op.value & cr4::kPcide);
    });
  });
  EXPECT_GT(n, 80);
}

TEST(RootIdioms, InvpcidOperandsAreOfEachTypeAndWrongAtTimes) {
  for (std::uint64_t type = 0; type < 8; ++type) {
    const int n = shown("invpcid-operands", Mode::k4Level, [&](const Written& w) {
      return any(w, [&](const Op& op) { return op.verb == Verb::kInvpcid && op.type == type; });
    });
    EXPECT_GT(n, 10) << type;
  }
  const int wide = shown("invpcid-operands", Mode::k4Level, [](const Written& w) {
    return any(w, [](const Op& op) { return op.verb == Verb::kInvpcid && op.pcid > 0xfff; });
  });
  EXPECT_GT(wide, 20);
}

TEST(RootIdioms, LittleRoomLoadsRootsUnderASmallQuota) {
  const int n = shown("little-room", Mode::kPae, [](const Written& w) {
    bool small = false;
    return any_with_state(w, [&](const Op& op, const Survey&) {
      if (op.verb == Verb::kQuota) small = op.pages && op.pages <= kMinQuota + 2;
      return small && (op.verb == Verb::kSregs || is_mov(op, Reg::kCr3));
    });
  });
  EXPECT_EQ(n, kTimes);
}

TEST(RootIdioms, ZapRootInUseOfTwoVcpus) {
  const int n = shown("zap-root-in-use", Mode::kPae, [](const Written& w) {
    std::set<unsigned> using_it;
    return any_with_state(w, [&](const Op& op, const Survey& s) {
      if (op.verb == Verb::kAccess && s.root(op.vcpu) == s.root(0)) using_it.insert(op.vcpu);
      return using_it.size() == 2 && (op.verb == Verb::kZapAll || op.verb == Verb::kReclaim);
    });
  });
  EXPECT_GT(n, 300);
}

TEST(RootIdioms, StarveFailsAtManySteps) {
  for (std::uint64_t step = 0; step < 12; ++step) {
    const int n = shown("starve", Mode::kPae, [&](const Written& w) {
      return any(w, [&](const Op& op) { return op.verb == Verb::kFailAlloc && op.after == step; });
    });
    EXPECT_GT(n, 10) << step;
  }
}

TEST(RootIdioms, StarveMeetsOperationsOfEveryKind) {
  for (const Verb v :
       {Verb::kAccess, Verb::kMov, Verb::kSregs, Verb::kSlotFlags, Verb::kSlotAdd, Verb::kSlotMove,
        Verb::kSmm, Verb::kNewVcpu, Verb::kInit, Verb::kRemap, Verb::kQuota}) {
    const int n = shown("starve", Mode::k4Level, [&](const Written& w) {
      for (std::size_t i = 0; i + 1 < w.ops.size(); ++i)
        if (w.ops[i].verb == Verb::kFailAlloc) return w.ops[i + 1].verb == v;
      return false;
    });
    EXPECT_GT(n, 3) << name_of(v);
  }
}

// --- hidden edits ---

TEST(HiddenIdioms, LargeEntryByHostBecomesATableOfItsFrame) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level}) {
    const int n = shown("large-entry-by-host", mode, [](const Written& w) {
      return any_with_state(w, [](const Op& op, const Survey& s) {
        if (op.verb != Verb::kWrite || op.by != static_cast<std::uint64_t>(Writer::kHost))
          return false;
        const std::uint64_t was = s.entry_at(op.gpa, static_cast<unsigned>(op.size));
        return (was & pte::kPs) && !(op.value & pte::kPs) &&
               ((was ^ op.value) & pte::kAddressMask) == 0;
      });
    });
    EXPECT_GT(n, 50) << name_of(mode);
  }
}

TEST(HiddenIdioms, LargeEntryByHostBecomesAnotherLargePage) {
  const int n = shown("large-entry-by-host", Mode::kPae, [](const Written& w) {
    return any_with_state(w, [](const Op& op, const Survey& s) {
      if (op.verb != Verb::kWrite || op.by != static_cast<std::uint64_t>(Writer::kHost))
        return false;
      const std::uint64_t was = s.word(op.gpa);
      return (was & op.value & pte::kPs) && ((was ^ op.value) & pte::kAddressMask) != 0;
    });
  });
  EXPECT_GT(n, 80);
}

TEST(HiddenIdioms, PageByHostBecomesADevice) {
  for (const Mode mode : {Mode::k32Bit, Mode::k4Level}) {
    const int n = shown("page-by-host", mode, [](const Written& w) {
      return any(w, [](const Op& op) {
        const std::uint64_t to = op.value & pte::kAddressMask;
        return op.verb == Verb::kWrite && op.by == static_cast<std::uint64_t>(Writer::kHost) &&
               (to == kDevices[0] || to == kDevices[1]);
      });
    });
    EXPECT_GT(n, 100) << name_of(mode);
  }
}

TEST(HiddenIdioms, TablesReadOnlyAreWalked) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k5Level}) {
    const int n = shown("tables-read-only", mode, [](const Written& w) {
      std::uint64_t slot = ~std::uint64_t{0};
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        if (op.verb == Verb::kSlotAdd && op.flags == slot_flag::kReadOnly) slot = op.gpa;
        const auto in_it = [&](std::uint64_t gpa) {
          return gpa >= slot && gpa < slot + 64 * kPage;
        };
        if (op.verb != Verb::kAccess || slot == ~std::uint64_t{0}) return false;
        const Survey::Walk at = s.walk(s.space(0), op.gva);
        for (unsigned i = 0; i < at.count; ++i)
          if (in_it(at.entry[i].gpa)) return true;
        return false;
      });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(HiddenIdioms, LinkUnsyncTableEditsThenLinks) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("link-unsync-table", mode, [](const Written& w) {
      unsigned native = 0;
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        const std::uint64_t at = stored_at(op, s);
        if (at == ~std::uint64_t{0}) return false;
        if (op.verb == Verb::kAccess && at >= kTablePool && at < kTablePool + 64 * kPage) ++native;
        const std::uint64_t value = op.value & ~std::uint64_t{pte::kA};
        return native >= 2 && (value & pte::kP) && (value & pte::kAddressMask) >= kTablePool &&
               (value & pte::kAddressMask) < kTablePool + 64 * kPage;
      });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(HiddenIdioms, DataPageBecomesTableIsWrittenAsDataAndWalkedAsTable) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("data-page-becomes-table", mode, [](const Written& w) {
      std::set<std::uint64_t> written;
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        if (op.verb != Verb::kAccess) return false;
        const Survey::Walk at = s.walk(s.space(op.vcpu), op.gva);
        if (at.complete && op.access() == AccessKind::kWrite)
          written.insert(at.gpa & ~std::uint64_t{0xfff});
        for (unsigned i = 0; i < at.count; ++i)
          if (written.contains(at.entry[i].table)) return true;
        return false;
      });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(HiddenIdioms, TableMovesUpIsWalkedAtTwoLevels) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    const int n = shown("table-moves-up", mode, [](const Written& w) {
      return any_with_state(w, [](const Op& op, const Survey& s) {
        if (op.verb != Verb::kAccess) return false;
        const Survey::Walk at = s.walk(s.space(0), op.gva);
        for (unsigned i = 1; i < at.count; ++i)
          if (at.entry[i].table == at.entry[i - 1].table) return true;
        return false;
      });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(HiddenIdioms, FloodUpperTableStoresThereOften) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level}) {
    const int n = shown("flood-upper-table", mode, [](const Written& w) {
      unsigned stores = 0;
      return any_with_state(w, [&](const Op& op, const Survey& s) {
        const std::uint64_t at = stored_at(op, s);
        stores += at != ~std::uint64_t{0} && (at >> 12 == s.root(0) >> 12 || at >= kTablePool) &&
                  at < kTablePool + 64 * kPage;
        return stores >= 3;
      });
    });
    EXPECT_GT(n, 200) << name_of(mode);
  }
}

TEST(HiddenIdioms, RightsUnderControlsChangesBoth) {
  for (const Mode mode : {Mode::k32Bit, Mode::k5Level}) {
    const int n = shown("rights-under-controls", mode, [](const Written& w) {
      bool entry = false, control = false;
      any_with_state(w, [&](const Op& op, const Survey& s) {
        control |= op.verb == Verb::kMov;
        entry |= control && stored_at(op, s) - kRoots[1] < kTablePool + 64 * kPage;
        return false;
      });
      return entry && control;
    });
    EXPECT_GT(n, 300) << name_of(mode);
  }
}

TEST(HiddenIdioms, ControlsAfterTrickFetchesWhatWasWritten) {
  const int n = shown("controls-after-trick", Mode::k32Bit, [](const Written& w) {
    std::uint64_t written = ~std::uint64_t{0};
    bool toggled = false;
    return any_with_state(w, [&](const Op& op, const Survey& s) {
      if (op.verb == Verb::kMov && written != ~std::uint64_t{0}) toggled = true;
      if (op.verb != Verb::kAccess) return false;
      if (op.access() == AccessKind::kWrite && !(s.registers(0).cr0 & cr0::kWp)) written = op.gva;
      return toggled && op.access() == AccessKind::kFetch && op.gva == written;
    });
  });
  EXPECT_GT(n, 200);
}

TEST(HiddenIdioms, ImplicitSupervisorIsSaidWithAcSet) {
  const int n = shown("implicit-supervisor", Mode::kPae, [](const Written& w) {
    return any_with_state(w, [](const Op& op, const Survey& s) {
      return op.verb == Verb::kAccess && op.implicit && s.registers(0).ac &&
             (s.registers(0).cr4 & cr4::kSmap);
    });
  });
  EXPECT_GT(n, 200);
}

TEST(HiddenIdioms, EventAmidMeetsEveryKindOfEvent) {
  for (const Verb v : {Verb::kInit, Verb::kNewVcpu, Verb::kCpuid, Verb::kSmm, Verb::kSregs}) {
    for (const Verb state : {Verb::kAccess, Verb::kSlotFlags, Verb::kSlotDelete, Verb::kZapAll}) {
      const int n = shown("event-amid", Mode::k4Level, [&](const Written& w) {
        for (std::size_t i = 0; i + 1 < w.ops.size(); ++i)
          if (w.ops[i].verb == state && w.ops[i + 1].verb == v) return true;
        return false;
      });
      EXPECT_GT(n, 2) << name_of(state) << ' ' << name_of(v);
    }
  }
}

// Each has something inside something, that which is around it is not itself inside, and another
// vCPU or the host does it.
TEST(OverlapIdioms, RunOneOperationInsideAnother) {
  for (const Idiom& idiom : overlap_idioms()) {
    for (const Mode mode : kAllModes) {
      int overlaps = 0;
      sample(idiom, machine_of(mode), 50, [&](const Written& w) {
        ASSERT_FALSE(w.ops.empty());
        EXPECT_EQ(w.ops[0].point, Point::kNone) << idiom.name;
        overlaps += any(w, [](const Op& op) { return op.point != Point::kNone; });
      });
      EXPECT_EQ(overlaps, 50) << idiom.name;
    }
  }
}

TEST(OverlapIdioms, TwoFaultsAreOfTwoVcpus) {
  EXPECT_EQ(shown("two-faults", Mode::k4Level,
                  [](const Written& w) {
                    std::uint8_t outer = 0;
                    for (const Op& op : w.ops) {
                      if (op.point == Point::kNone) outer = op.vcpu;
                      if (op.point != Point::kNone && op.verb == Verb::kAccess)
                        return op.vcpu != outer;
                    }
                    return false;
                  }),
            kTimes);
}

TEST(OverlapIdioms, RmwMeetsStoreToTheSameWord) {
  EXPECT_GT(shown("rmw-meets-store", Mode::k4Level,
                  [](const Written& w) {
                    for (std::size_t i = 1; i < w.ops.size(); ++i)
                      if (w.ops[i].point != Point::kNone && w.ops[i].gva == w.ops[i - 1].gva &&
                          w.ops[i - 1].access() == AccessKind::kRmw)
                        return true;
                    return false;
                  }),
            kTimes * 9 / 10);
}

}  // namespace
}  // namespace twinwalk::fuzz
