// The ledger: what its text may say, and that each entry is true of the engine that is here.

#include "oracle/unicorn/ledger.h"

#include <gtest/gtest.h>

#include <fstream>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/trace/parse.h"
#include "harness/trace/program.h"
#include "oracle/spec.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::oracle::unicorn {

// For GoogleTest, which looks for it beside the type.
static void PrintTo(const LedgerEntry& entry, std::ostream* out) { *out << entry.id; }

namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string entry_with(const std::string& condition) {
  return R"({"version":1,"entries":[{"id":"x","subject":"unicorn","first":"2.0.0","last":"2.9.9","rule":"r","right":"spec",)"
         R"("citation":"c","trace":"t","neighbour":"n","when":[)" +
         condition + "]}]}";
}

std::string error_of(const std::string& text) {
  try {
    Ledger::parse(text);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(LedgerText, SaysWhatItDoesNotUnderstand) {
  EXPECT_EQ(error_of("{"), "ledger: not JSON");
  EXPECT_EQ(error_of(R"({"version":2,"entries":[]})"), "ledger: version 1 was expected");
  EXPECT_EQ(error_of(R"({"version":1,"entries":[],"more":1})"), "ledger: unknown key \"more\"");
  EXPECT_EQ(error_of(entry_with("")), "ledger: x: \"when\" must be a list of conditions");
  EXPECT_EQ(error_of(entry_with(R"({"fact":"colour","is":"red"})")),
            "ledger: unknown fact \"colour\"");
  EXPECT_EQ(error_of(entry_with(R"({"fact":"access"})")),
            "ledger: a condition on \"access\" needs exactly one test");
  EXPECT_EQ(error_of(entry_with(R"({"fact":"access","all-of":"0x1"})")),
            "ledger: \"access\" is a word: only is and is-not apply");
  EXPECT_EQ(error_of(entry_with(R"({"fact":"cpl","is":"three"})")),
            "ledger: \"cpl\" is compared with what is no number");
  EXPECT_EQ(error_of(entry_with(R"({"fact":"cpl","is":"0x3"})")), "accepted");
}

TEST(LedgerText, ConditionsAndVersionsNarrowAnEntry) {
  const auto covers = [](const std::string& condition, const UnicornVersion& version) {
    AccessQuery query;
    query.kind = AccessKind::kRmw;
    query.registers.cpl = 3;
    const auto facts = facts_of(Machine{}, query, {}, {}, Difference{"error-code", "", ""});
    return Ledger::parse(entry_with(condition)).covering(version, facts) == "x";
  };
  const UnicornVersion now{2, 1, 1, true};
  EXPECT_TRUE(covers(R"({"fact":"access","is":"rmw"})", now));
  EXPECT_FALSE(covers(R"({"fact":"access","is":"read"})", now));
  EXPECT_FALSE(covers(R"({"fact":"access","is-not":"rmw"})", now));
  EXPECT_TRUE(covers(R"({"fact":"cpl","all-of":"0x3"})", now));
  EXPECT_TRUE(covers(R"({"fact":"cpl","any-of":"0x6"})", now));
  EXPECT_FALSE(covers(R"({"fact":"cpl","none-of":"0x2"})", now));
  EXPECT_FALSE(covers(R"({"fact":"cpl","is":"0x3"},{"fact":"field","is":"cr2"})", now));
  EXPECT_FALSE(covers(R"({"fact":"access","is":"rmw"})", {3, 0, 0, true}));
}

TEST(LedgerText, AReservedBitIsSeenInThePageWhereSpecFaults) {
  const auto there = [](std::uint64_t address, std::uint32_t error_code) {
    FreshOutcome fresh;
    fresh.kind = OutcomeKind::kPageFault;
    fresh.cr2 = 0x1ffc;
    Result result{};
    result.event = Event::kException;
    result.vector = 14;
    result.address = address;
    result.error_code = error_code;
    const auto facts = facts_of(Machine{}, {}, fresh, result, Difference{"cr2", "", ""});
    const std::string entry = entry_with(R"({"fact":"unicorn.reserved-there","is":"0x1"})");
    return Ledger::parse(entry).covering({2, 1, 1, true}, facts) == "x";
  };
  EXPECT_TRUE(there(0x1ffc, pfec::kP | pfec::kRsvd));
  EXPECT_TRUE(there(0x1000, pfec::kP | pfec::kRsvd));
  EXPECT_FALSE(there(0x2000, pfec::kP | pfec::kRsvd));
  EXPECT_FALSE(there(0x1ffc, pfec::kP));
}

TEST(LedgerText, AnEntryConcernsItsVersionsAndOtherIdsAll) {
  const Ledger ledger = Ledger::parse(entry_with(R"({"fact":"access","is":"rmw"})"));
  EXPECT_TRUE(ledger.concerns("x", {2, 1, 1, true}));
  EXPECT_FALSE(ledger.concerns("x", {3, 0, 0, true}));
  EXPECT_TRUE(ledger.concerns("another", {3, 0, 0, true}));
}

// A subject that does in each step what spec says: only the two references are compared.
Outcome spec_outcome(const Spec& spec, const Step& step, FreshOutcome& fresh) {
  Outcome outcome;
  if (step.what.verb != Verb::kAccess) return outcome;
  AccessQuery query;
  query.gva = step.what.gva;
  query.size = static_cast<std::uint8_t>(step.what.size);
  query.kind = step.what.access();
  query.value = step.what.value;
  query.registers = spec.registers(0);
  if ((step.what.given & kCplGiven) != 0)
    query.registers.cpl = static_cast<std::uint8_t>(step.what.cpl);
  fresh = spec.fresh(0, query);
  outcome.kind = fresh.kind;
  outcome.error_code = fresh.error_code;
  outcome.cr2 = fresh.cr2;
  outcome.value = fresh.value;
  outcome.write = fresh.kind == OutcomeKind::kMmio && query.kind != AccessKind::kRead;
  // No paths: of a store to its own path they would be those after it.
  for (unsigned i = 0; i < 2; ++i) outcome.gpa[i] = fresh.gpa[i];
  return outcome;
}

constexpr const char* kProgram = TWINWALK_BINARY_DIR "/bin/twinwalk-unicorn";

struct Replay {
  UnicornClient::Result result;
  std::vector<UnicornDisagreement> disagreements;
};

Replay replay(const std::string& file) {
  const ParseResult parsed = parse(read_file(TWINWALK_SOURCE_DIR "/corpus/known/" + file), file);
  Replay replay;
  EXPECT_TRUE(parsed) << to_text(*parsed.error);
  if (!parsed) return replay;
  Program program;
  Lowering().lower(parsed.trace, program);
  UnicornClient client(kProgram);
  Spec spec;
  spec.observe(&client);
  spec.reset(program.machine, Profile::kKvm);
  for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
    FreshOutcome fresh;
    Verdict verdict;
    const Outcome outcome = spec_outcome(spec, program.steps[i], fresh);
    spec.judge(i, program.steps[i], outcome, nullptr, verdict);
    EXPECT_EQ(verdict.kind, VerdictKind::kAgree)
        << file << " step " << i << ": " << verdict.got << " / " << verdict.allowed;
  }
  replay.result =
      client.finish([&](const UnicornDisagreement& d) { replay.disagreements.push_back(d); });
  EXPECT_FALSE(replay.result.died) << replay.result.why;
  EXPECT_GT(replay.result.checks, 0u) << file;
  return replay;
}

class LedgerEntries : public ::testing::TestWithParam<LedgerEntry> {};

TEST_P(LedgerEntries, TraceDeviatesAndNeighbourAgrees) {
  const LedgerEntry& entry = GetParam();
  if (!UnicornClient(kProgram).can_show(entry.id))
    GTEST_SKIP() << "the installed Unicorn is of none of the versions that deviate";
  const Replay deviates = replay(entry.trace);
  ASSERT_EQ(deviates.disagreements.size(), 1u) << "the entry no longer reproduces: take it out";
  EXPECT_EQ(deviates.disagreements[0].ledger, entry.id)
      << deviates.disagreements[0].spec << " / " << deviates.disagreements[0].unicorn;
  const Replay agrees = replay(entry.neighbour);
  EXPECT_TRUE(agrees.disagreements.empty())
      << agrees.disagreements[0].field << ": spec " << agrees.disagreements[0].spec << ", unicorn "
      << agrees.disagreements[0].unicorn;
}

INSTANTIATE_TEST_SUITE_P(Known, LedgerEntries, ::testing::ValuesIn(Ledger::built_in().entries()),
                         [](const auto& tested) {
                           std::string name = tested.param.id;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace twinwalk::oracle::unicorn
