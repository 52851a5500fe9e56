#include "fuzzers/mutator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "fuzzers/field_mutation.h"
#include "fuzzers/idioms.h"
#include "harness/trace/binary.h"
#include "harness/trace/parse.h"
#include "harness/trace/print.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

using Bytes = std::vector<std::uint8_t>;

const Config& shadow() {
  static const Config config = *find_config("shadow-64");
  return config;
}

Bytes mutated(Mutator& m, Bytes in, std::size_t max_size, std::uint64_t seed) {
  const std::size_t size = in.size();
  in.resize(max_size);
  in.resize(m.mutate(in.data(), size, max_size, seed));
  return in;
}

Bytes random_bytes(Rng& rng, std::size_t size) {
  Bytes out(size);
  for (auto& b : out) b = static_cast<std::uint8_t>(rng.below(256));
  return out;
}

void expect_legal(const Trace& t) {
  ASSERT_LE(t.ops.size(), kMaxFuzzOps);
  Machine m = t.machine;
  shadow().constrain(m);
  EXPECT_EQ(m, t.machine);
  for (const Op& op : t.ops) {
    EXPECT_LT(op.vcpu, t.machine.vcpus);
    for (const FieldInfo& f : schema_of(op.verb).fields) {
      if (says(op, f)) {
        EXPECT_TRUE(legal(resolve(f, op), op.*f.member)) << name_of(op.verb) << ' ' << f.name;
      }
    }
  }
}

TEST(Mutator, AnyBytesGiveALegalTrace) {
  Mutator m(shadow());
  Rng rng(1);
  Trace t;
  for (int i = 0; i < 3000; ++i) {
    const Bytes out = mutated(m, random_bytes(rng, rng.below(600)), 4096, rng.next());
    ASSERT_FALSE(out.empty());
    decode(out, t);
    ASSERT_FALSE(t.ops.empty());
    expect_legal(t);
  }
}

TEST(Mutator, SameSeedSameResultWhateverCameBefore) {
  Mutator a(shadow()), b(shadow());
  Rng rng(2);
  Bytes at = mutated(a, {}, 2048, 7);
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t seed = rng.next();
    if (i % 3 == 0) mutated(b, random_bytes(rng, 50), 500, i);
    const Bytes next = mutated(a, at, 2048, seed);
    ASSERT_EQ(next, mutated(b, at, 2048, seed)) << "round " << i;
    at = next;
  }
}

TEST(Mutator, ResultsKeepToTheSizeTheyAreGiven) {
  Mutator m(shadow());
  Rng rng(3);
  Bytes at;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t most = kMinBytes + rng.below(2000);
    at.resize(std::min(at.size(), most));
    at = mutated(m, at, most, rng.next());
    ASSERT_LE(at.size(), most);
    ASSERT_FALSE(at.empty());
  }
}

TEST(Mutator, WhatIsWrittenIsWhatIsRead) {
  Mutator m(shadow());
  Rng rng(4);
  Trace made, read;
  Bytes bytes;
  for (int i = 0; i < 2000; ++i) {
    if (i % 20 == 0) {
      m.generate(rng, kMaxFuzzOps, made);
    } else {
      m.mutate(rng, kMaxFuzzOps, made);
    }
    encode_raw(made, bytes);
    decode(bytes, read);
    ASSERT_EQ(made.machine, read.machine);
    ASSERT_EQ(made.ops.size(), read.ops.size());
    for (std::size_t k = 0; k < made.ops.size(); ++k) {
      ASSERT_EQ(made.ops[k], read.ops[k]) << "operation " << k << " of\n" << print(made);
    }
    ASSERT_FALSE(made.ops.empty());
  }
}

TEST(Mutator, EveryVerbRegisterAndAccessIsReached) {
  Mutator m(shadow());
  Rng rng(5);
  Trace t;
  std::set<Verb> verbs;
  std::set<std::uint64_t> kinds, registers, writers;
  for (int i = 0; i < 60000; ++i) {
    if (i % 50 == 0) m.generate(rng, 64, t);
    m.mutate(rng, 64, t);
    for (const Op& op : t.ops) {
      verbs.insert(op.verb);
      if (op.verb == Verb::kAccess) kinds.insert(op.kind);
      if (op.verb == Verb::kMov) registers.insert(op.kind);
      if (op.verb == Verb::kWrite) writers.insert(op.by);
    }
  }
  EXPECT_EQ(verbs.size(), static_cast<std::size_t>(Verb::kCount));
  EXPECT_EQ(kinds.size(), 4u);
  EXPECT_EQ(registers.size(), kRegs);
  EXPECT_EQ(writers.size(), 2u);
}

TEST(Mutator, CrossoverTakesFromBothAndStaysLegal) {
  Mutator m(shadow());
  Rng rng(6);
  Trace a, b, out;
  std::size_t mixed = 0;
  for (int i = 0; i < 500; ++i) {
    m.generate(rng, 32, a);
    m.generate(rng, 32, b);
    m.cross(rng, kMaxFuzzOps, a, b, out);
    ASSERT_FALSE(out.ops.empty());
    EXPECT_EQ(out.machine, a.machine);
    expect_legal(out);
    const auto from = [&](const Trace& t) {
      return std::any_of(out.ops.begin(), out.ops.end(), [&](Op op) {
        return std::any_of(t.ops.begin(), t.ops.end(), [&](Op of) {
          of.vcpu = op.vcpu;
          return of == op;
        });
      });
    };
    mixed += from(a) && from(b);
  }
  EXPECT_GT(mixed, 300u);
}

TEST(Mutator, CrossoverOfBytesIsDeterministicAndBounded) {
  Mutator m(shadow());
  Rng rng(7);
  for (int i = 0; i < 500; ++i) {
    const Bytes a = random_bytes(rng, rng.below(900)), b = random_bytes(rng, rng.below(900));
    const std::uint64_t seed = rng.next();
    Bytes x(kMinBytes + rng.below(600)), y(x.size());
    const std::size_t n = m.cross(a, b, x, seed);
    ASSERT_LE(n, x.size());
    ASSERT_GT(n, 0u);
    ASSERT_EQ(n, m.cross(a, b, y, seed));
    EXPECT_EQ(x, y);
  }
}

TEST(Mutator, TextOfWhatIsGeneratedParsesBack) {
  Mutator m(shadow());
  Rng rng(8);
  Trace t;
  for (int i = 0; i < 300; ++i) {
    m.generate(rng, kMaxFuzzOps, t);
    const ParseResult back = parse(print(t), "generated");
    ASSERT_TRUE(back) << to_text(*back.error) << '\n' << print(t);
    ASSERT_EQ(back.trace.ops, t.ops);
  }
}

// Writes the idiom `times` times, each into a fresh trace of one map, and calls `see` with its
// operations.
template <class See>
void sample(const Idiom& idiom, int times, See see) {
  Rng rng(9);
  for (int i = 0; i < times; ++i) {
    Survey survey;
    Machine machine;
    machine.vcpus = 2;
    survey.begin(machine);
    std::vector<Op> ops;
    Sketch sketch(rng, survey, ops);
    idiom.write(sketch);
    see(ops, survey);
  }
}

std::vector<Idiom> every_idiom() {
  std::vector<Idiom> out;
  for (const auto& list : all_idioms()) out.insert(out.end(), list.begin(), list.end());
  return out;
}

class EachIdiom : public testing::TestWithParam<Idiom> {};

TEST_P(EachIdiom, WritesALegalBoundedSentenceThatVaries) {
  std::set<std::string> texts;
  sample(GetParam(), 200, [&](const std::vector<Op>& ops, const Survey&) {
    ASSERT_FALSE(ops.empty());
    ASSERT_LE(ops.size(), kMaxIdiomOps);
    Trace t;
    t.machine.vcpus = 2;
    t.ops = ops;
    expect_legal(t);
    texts.insert(print(t));
  });
  EXPECT_GT(texts.size(), 3u);
}

INSTANTIATE_TEST_SUITE_P(All, EachIdiom, testing::ValuesIn(every_idiom()), [](const auto& info) {
  std::string name(info.param.name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

const Idiom& idiom(std::string_view name) {
  for (const auto& list : all_idioms()) {
    for (const Idiom& i : list) {
      if (i.name == name) return i;
    }
  }
  throw std::invalid_argument(std::string(name));
}

// How often, of 400, the idiom shows what its name promises.
template <class Shows>
int shown(std::string_view name, Shows shows) {
  int n = 0;
  sample(idiom(name), 400,
         [&](const std::vector<Op>& ops, const Survey& s) { n += shows(ops, s); });
  return n;
}

bool has_verb(const std::vector<Op>& ops, Verb v) {
  return std::any_of(ops.begin(), ops.end(), [&](const Op& op) { return op.verb == v; });
}

// An edit of an entry of a mapped address, with an access to that address before and after it.
bool edits_between_accesses(const std::vector<Op>& ops, bool native_only) {
  Survey survey;
  Machine machine;
  machine.vcpus = 2;
  survey.begin(machine);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const Op& op = ops[i];
    std::uint64_t at = ~std::uint64_t{0};
    if (op.verb == Verb::kWrite && !native_only) at = op.gpa;
    if (op.verb == Verb::kAccess && op.access() == AccessKind::kWrite) {
      const Survey::Walk w = survey.walk(survey.space(op.vcpu), op.gva);
      if (w.complete) at = w.gpa;
    }
    for (const Survey::Place& p : survey.places()) {
      const Survey::Walk w = survey.walk(p.space, p.gva);
      for (unsigned k = 0; k < w.count; ++k) {
        if ((w.entry[k].gpa ^ at) & ~std::uint64_t{7}) continue;
        const auto touches = [&](const Op& o) {
          return o.verb == Verb::kAccess && ((o.gva ^ p.gva) & ~std::uint64_t{0xfff}) == 0;
        };
        const auto middle = ops.begin() + static_cast<std::ptrdiff_t>(i);
        if (std::any_of(ops.begin(), middle, touches) &&
            std::any_of(middle + 1, ops.end(), touches))
          return true;
      }
    }
    survey.absorb(op);
  }
  return false;
}

TEST(Idioms, RewriteEntryEditsBetweenTwoAccesses) {
  EXPECT_GT(
      shown("rewrite-entry", [](auto& ops, auto&) { return edits_between_accesses(ops, false); }),
      200);
}
TEST(Idioms, StoreUnseenEditsByNativeStores) {
  EXPECT_GT(
      shown("store-unseen", [](auto& ops, auto&) { return edits_between_accesses(ops, true); }),
      300);
}
TEST(Idioms, AliasTableLinksOneTableTwice) {
  EXPECT_GT(shown("alias-table",
                  [](auto& ops, const Survey& s) {
                    std::set<std::uint64_t> gvas;
                    for (const Op& op : ops) {
                      if (op.verb == Verb::kAccess) gvas.insert(op.gva & ~std::uint64_t{0xfff});
                    }
                    std::multiset<std::uint64_t> frames;
                    for (std::uint64_t gva : gvas) {
                      const Survey::Walk w = s.walk(s.space(0), gva);
                      if (w.complete) frames.insert(w.gpa);
                    }
                    return std::any_of(frames.begin(), frames.end(),
                                       [&](auto f) { return frames.count(f) > 1; });
                  }),
            100);
}
TEST(Idioms, SelfMapReachesTheRootThroughItself) {
  EXPECT_GT(shown("self-map",
                  [](auto& ops, const Survey& s) {
                    return std::any_of(ops.begin(), ops.end(), [&](const Op& op) {
                      const Survey::Walk w = s.walk(s.space(0), op.gva);
                      return op.verb == Verb::kAccess && w.complete &&
                             (w.gpa & ~std::uint64_t{0xfff}) == s.root(0);
                    });
                  }),
            200);
}
TEST(Idioms, SwitchSizeUsesALargePage) {
  EXPECT_EQ(shown("switch-size",
                  [](auto& ops, auto&) {
                    return std::any_of(ops.begin(), ops.end(), [](const Op& op) {
                      return op.verb == Verb::kMap && op.size > 1;
                    });
                  }),
            400);
}
TEST(Idioms, PingPongVisitsSeveralRoots) {
  EXPECT_EQ(shown("ping-pong",
                  [](auto& ops, auto&) {
                    std::set<std::uint64_t> roots;
                    for (const Op& op : ops) {
                      if (op.verb == Verb::kMov && op.reg() == Reg::kCr3)
                        roots.insert(op.value & pte::kAddressMask);
                    }
                    return roots.size() >= 2;
                  }),
            400);
}
TEST(Idioms, TaggedSpacesSwitchWithoutFlush) {
  EXPECT_GT(shown("tagged-spaces",
                  [](auto& ops, auto&) {
                    return has_verb(ops, Verb::kInvpcid) &&
                           std::any_of(ops.begin(), ops.end(), [](const Op& op) {
                             return op.verb == Verb::kMov && op.reg() == Reg::kCr3 &&
                                    (op.value & cr3::kNoFlush);
                           });
                  }),
            300);
}
TEST(Idioms, SplitWriteStoresLessThanAnEntryOrAcrossTwo) {
  EXPECT_EQ(shown("split-write",
                  [](auto& ops, auto&) {
                    return std::any_of(ops.begin(), ops.end(), [](const Op& op) {
                      return (op.verb == Verb::kWrite && (op.size < 8 || op.gpa % 8)) ||
                             (op.verb == Verb::kAccess && (op.size < 8 || op.gva % 8));
                    });
                  }),
            400);
}
TEST(Idioms, AcrossVcpusUsesTwo) {
  EXPECT_EQ(shown("across-vcpus",
                  [](auto& ops, auto&) {
                    std::set<unsigned> used;
                    for (const Op& op : ops) used.insert(op.vcpu);
                    return used.size() == 2;
                  }),
            400);
}
TEST(Idioms, HostIdiomsUseTheirVerbs) {
  EXPECT_EQ(
      shown("add-and-use-slot", [](auto& ops, auto&) { return has_verb(ops, Verb::kSlotAdd); }),
      400);
  EXPECT_EQ(shown("log-dirty", [](auto& ops, auto&) { return has_verb(ops, Verb::kDirtyGet); }),
            400);
  for (Verb v : {Verb::kInvalidate, Verb::kRemap, Verb::kProtect, Verb::kAge, Verb::kHugeSplit}) {
    EXPECT_GT(shown("notify", [&](auto& ops, auto&) { return has_verb(ops, v); }), 15)
        << name_of(v);
  }
  for (Verb v : {Verb::kReclaim, Verb::kZapAll, Verb::kQuota, Verb::kFailAlloc}) {
    EXPECT_GT(shown("squeeze", [&](auto& ops, auto&) { return has_verb(ops, v); }), 15)
        << name_of(v);
  }
  for (Verb v : {Verb::kSlotDelete, Verb::kSlotMove, Verb::kSlotFlags}) {
    EXPECT_GT(shown("pull-memory", [&](auto& ops, auto&) { return has_verb(ops, v); }), 15)
        << name_of(v);
  }
}

TEST(Survey, FollowsMapsAndStoresThroughThem) {
  Survey s;
  s.begin(Machine{});
  std::vector<Op> ops;
  Rng rng(1);
  Sketch sketch(rng, s, ops);
  sketch.map_large(0xffff'8880'0000'0000, 0);
  Op map = make_op(Verb::kMap);
  set(map, Field::kGva, 0x40'0000'0000);
  set(map, Field::kGpa, 0x5000);
  s.absorb(map);
  Survey::Walk w = s.walk(s.space(0), 0x40'0000'0123);
  ASSERT_TRUE(w.complete);
  EXPECT_EQ(w.count, 4u);
  EXPECT_EQ(w.gpa, 0x5123u);
  sketch.deliver_native(w.last().gpa, 0x6000 | pte::kP);
  EXPECT_EQ(s.walk(s.space(0), 0x40'0000'0123).gpa, 0x6123u);
  EXPECT_EQ(ops.back().verb, Verb::kAccess);
}

}  // namespace
}  // namespace twinwalk::fuzz
