// The hosts as far as they can be had here, and what they are known to do wrong.

#include "kvm_runner/hosts/hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>

#include "harness/trace/load.h"
#include "harness/trace/parse.h"
#include "harness/trace/reply.h"
#include "kvm_runner/conform.h"
#include "kvm_runner/corpus_traces.h"
#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/host_files.h"
#include "kvm_runner/hosts/local_module.h"
#include "kvm_runner/hosts/needs.h"
#include "kvm_runner/hosts/nested_vmx.h"
#include "kvm_runner/hosts/vmx_iso.h"
#include "kvm_runner/hosts/vmx_kvm.h"
#include "kvm_runner/known.h"
#include "kvm_runner/remote/seen_map.h"
#include "kvm_runner/testing/soak.h"
#include "kvm_runner/testing/spec_judge.h"

namespace twinwalk::hosts {

// Else gtest prints the bytes, addresses among them.
static void PrintTo(const HostVariant& variant, std::ostream* out) {
  *out << variant.subject << " on " << variant.host << ":" << variant.name;
}

namespace {

using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Variant : public testing::TestWithParam<HostVariant> {};

std::vector<HostVariant> fast_variants() {
  std::vector<HostVariant> fast;
  for (const HostVariant& v : host_variants()) {
    if (!is_slow(v.host, v.subject) && !v.by_name_only) fast.push_back(v);
  }
  return fast;
}
std::string name_of_variant(const testing::TestParamInfo<HostVariant>& info) {
  std::string name;
  for (const char c : std::string(info.param.host) + "_" + std::string(info.param.name))
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Hosts, Variant, testing::ValuesIn(fast_variants()), name_of_variant);

// Those whose far end can tell what programs reach.
class WatchedVariant : public Variant {};

std::vector<HostVariant> watched_variants() {
  std::vector<HostVariant> watched;
  for (const HostVariant& v : fast_variants()) {
    if (can_watch(v)) watched.push_back(v);
  }
  return watched;
}
INSTANTIATE_TEST_SUITE_P(Hosts, WatchedVariant, testing::ValuesIn(watched_variants()),
                         name_of_variant);

Trace parsed(const std::string& text) {
  ParseResult result = parse(text, "test");
  EXPECT_TRUE(result);
  return std::move(result.trace);
}

TEST_P(WatchedVariant, TellsWhatIsNew) {
  std::string why;
  const auto subject = start_variant(GetParam(), why, true);
  if (subject == nullptr) GTEST_SKIP() << why;
  const auto news_of = [&](const std::string& text) {
    Trace trace = parsed(text);
    fit_to_host(trace, subject->info());
    Program program;
    Lowering().lower(trace, program);
    OutcomeStream out;
    subject->run(program, out);
    std::vector<remote::Seen> seen;
    EXPECT_TRUE(remote::read_seen(subject->last().seen, seen));
    return seen.size();
  };
  const std::string load = "walk 1\nmap gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n";
  const std::size_t first = news_of(load);
  EXPECT_GT(first, 20u);
  std::size_t last = first;
  for (unsigned i = 0; i < 4; ++i) last = news_of(load);
  EXPECT_LT(last, first / 4);
  // A store to a page that is only there for reading takes another way.
  EXPECT_GT(news_of(load + "slot-flags slot=0 flags=log\naccess write gva=0x400000\n"), last);
}

TEST_P(Variant, RunsWhatItIsSentInAnyPortions) {
  std::string why;
  const auto subject = start_variant(GetParam(), why);
  if (subject == nullptr) GTEST_SKIP() << why;
  EXPECT_THAT(subject->info().version, HasSubstr(std::string(GetParam().host)));
  std::vector<Trace> traces = {
      parsed("walk 1\nmap gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x77\n"
             "access read gva=0x400000\n"),
      parsed("walk 1\naccess read gva=0x400000\n"), parsed("walk 1\nmov cr3=0x100000\n")};
  std::vector<Program> programs(traces.size());
  std::vector<OutcomeStream> alone(traces.size());
  Lowering lowering;
  for (std::size_t i = 0; i < traces.size(); ++i) {
    fit_to_host(traces[i], subject->info());
    lowering.lower(traces[i], programs[i]);
    subject->run(programs[i], alone[i]);
  }
  EXPECT_EQ(alone[0].steps.back().value, 0x77u);
  EXPECT_EQ(alone[1].steps.back().kind, OutcomeKind::kPageFault);
  std::uint64_t word = 0;
  subject->prefetch(programs);
  OutcomeStream out;
  subject->run(programs[0], out);
  ASSERT_TRUE(subject->read_image(0x5000, word));
  EXPECT_EQ(word, 0x77u);
  EXPECT_FALSE(subject->read_image(0x6000, word)) << "nothing was stored there";
  subject->run(programs[2], out);  // the second one is left out
  ASSERT_EQ(out.steps.size(), 1u);
  EXPECT_EQ(out.steps[0].kind, OutcomeKind::kDone);
}

// What is stopped says so for what it has not done, and blames no program; it answers again later.
TEST_P(Variant, IsStoppedAndGoesOn) {
  std::string why;
  const auto subject = start_variant(GetParam(), why);
  if (subject == nullptr) GTEST_SKIP() << why;
  Trace trace = parsed("walk 1\nmap gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n");
  fit_to_host(trace, subject->info());
  Program program;
  Lowering().lower(trace, program);
  const std::vector<Program> many(600, program);
  std::vector<remote::Answer> answers;
  subject->link().stop_when([] { return true; });
  subject->link().run(many, answers);
  ASSERT_EQ(answers.size(), many.size());
  for (const remote::Answer& answer : answers) {
    EXPECT_FALSE(answer.died);
    EXPECT_TRUE(answer.there || answer.why == remote::Link::kStopped) << answer.why;
  }
  // The image is looked at once a second, and may be done by then.
  if (GetParam().subject == "kvm") EXPECT_FALSE(answers.back().there);
  subject->link().stop_when({});
  subject->link().run({many.data(), 2}, answers);
  EXPECT_TRUE(answers.front().there && answers.back().there);
}

// The traces of one variant's ledger entries, all of them run at once.
struct KnownTraces {
  std::vector<const KnownDeviation*> entries;
  std::vector<Trace> traces;  // of each entry its own and its neighbour's
};

KnownTraces known_traces(const SubjectInfo& info) {
  KnownTraces out;
  for (const KnownDeviation& known : KnownDeviations::built_in().entries()) {
    if (known.subject != info.name || !runs_on(known, info)) continue;
    out.entries.push_back(&known);
    for (const std::string& file : {known.trace, known.neighbour}) {
      ParseResult loaded = load_trace(TWINWALK_SOURCE_DIR "/corpus/known/" + file);
      EXPECT_TRUE(loaded) << file;
      fit_to_host(loaded.trace, info);
      out.traces.push_back(std::move(loaded.trace));
    }
  }
  return out;
}

std::vector<std::string> ids_in(const Trace& trace, Subject& subject) {
  std::vector<std::string> ids;
  kvm::judge_by_spec(trace, subject,
                     [&](const kvm::JudgedStep& step) { ids.emplace_back(step.known); });
  return ids;
}

// Those with subject `kvm`.
class KvmVariant : public Variant {};
INSTANTIATE_TEST_SUITE_P(Hosts, KvmVariant, testing::ValuesIn(watched_variants()), name_of_variant);

// Batches that the guest interprets come to what one operation an exit does; where the processor
// may keep a translation, which an exit drops, the reference allows both.
TEST_P(KvmVariant, IsDrivenBothWaysToTheSame) {
  std::vector<Trace> traces;
  RandomTrace random(kvm::soak_number("TWINWALK_SOAK_SEED", 1));
  RandomTraceOptions options;
  options.operations = 48;
  options.modes = options.events = true;
  traces.resize(kvm::soak_number("TWINWALK_SOAK_TRACES", 60));
  for (Trace& trace : traces) random.next(options, trace);
  for (CorpusTrace& c : corpus_traces()) {
    if (c.folder == "seed") traces.push_back(std::move(c.trace));
  }
  std::vector<std::vector<Reply>> replies;
  std::vector<std::unique_ptr<remote::RemoteSubject>> subjects;
  for (const Driving driving : {Driving::kAlone, Driving::kBatched}) {
    std::string why;
    subjects.push_back(start_variant(GetParam(), why, false, driving));
    remote::RemoteSubject* const subject = subjects.back().get();
    if (subject == nullptr) GTEST_SKIP() << why;
    if (replies.empty()) {
      for (Trace& trace : traces) {
        trace.machine.core = Dimension::kShadow;
        trace.machine.nested = Nesting::kNone;
        fit_to_host(trace, subject->info());
      }
    }
    std::vector<Program> programs(traces.size());
    Lowering lowering;
    for (std::size_t i = 0; i < traces.size(); ++i) lowering.lower(traces[i], programs[i]);
    const auto begin = std::chrono::steady_clock::now();
    subject->prefetch(programs);
    auto& own = replies.emplace_back(traces.size());
    for (std::size_t i = 0; i < traces.size(); ++i) {
      subject->run(programs[i], own[i].outcomes);
      own[i].image = subject->last().reply.image;
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    std::printf("%s: %zu programs in %.1f s\n", driving == Driving::kAlone ? "alone" : "batched",
                traces.size(), spent.count());
  }
  std::size_t differing = 0;
  for (std::size_t i = 0; i < traces.size(); ++i) {
    std::vector<std::uint8_t> alone, batched;
    encode_reply(replies[0][i], alone);
    encode_reply(replies[1][i], batched);
    if (alone == batched) continue;
    ++differing;
    for (const auto& subject : subjects) {
      const CaseVerdict verdict = kvm::judge_by_spec(traces[i], *subject);
      EXPECT_EQ(verdict.diverge, 0u) << verdict.why << "\n" << print(traces[i]);
    }
  }
  std::printf("%zu of %zu differ\n", differing, traces.size());
}

// Hypervisors in the VM: the corpus's, and one whose other processor edits what a guest runs on.
class NestingVariant : public Variant {};

std::vector<HostVariant> nesting_variants() {
  std::vector<HostVariant> nesting;
  for (const HostVariant& v : fast_variants()) {
    if (can_nest(v)) nesting.push_back(v);
  }
  return nesting;
}
INSTANTIATE_TEST_SUITE_P(Hosts, NestingVariant, testing::ValuesIn(nesting_variants()),
                         name_of_variant);

TEST_P(NestingVariant, HypervisorsHaveGuests) {
  std::string why;
  const auto subject = start_variant(GetParam(), why);
  if (subject == nullptr) GTEST_SKIP() << why;
  std::vector<Trace> traces;
  for (CorpusTrace& c : corpus_traces()) {
    const Machine& m = c.trace.machine;
    const bool runs = m.core == Dimension::kBare && m.nested == Nesting::kNpt && m.host_levels > 3;
    if (runs) traces.push_back(std::move(c.trace));
  }
  traces.push_back(
      parsed("walk 1\nmachine core=bare nested=npt vendor=amd vcpus=2 host-levels=4\n"
             "npt-map ngpa=0x0 gpa=0x0 size=2M\nmap gva=0x600000 gpa=0x600000\n"
             "npt-map ngpa=0x600000 gpa=0x2000000\nvm-enter\naccess write gva=0x600000 cpl=3\n"
             "write gpa=0x143000 value=0x2400000|p|u vcpu=1\naccess read gva=0x600000\n"
             "vm-exit\nvm-enter tlb=1\naccess read gva=0x600000 cpl=3\n"
             "access write gva=0x600000\n"));
  std::uint64_t checks = 0, skipped = 0;
  for (Trace& trace : traces) {
    fit_to_host(trace, subject->info());
    const CaseVerdict verdict = kvm::judge_by_spec(trace, *subject);
    EXPECT_EQ(verdict.diverge, 0u) << verdict.why << "\n" << print(trace);
    checks += verdict.checks;
    skipped += verdict.skip;
  }
  EXPECT_GT(traces.size(), 12u);
  EXPECT_LT(skipped * 5, checks);
}

// The long ones as well: `./twinwalk test --all`.
bool all_tests() {
  const char* const all = std::getenv("TWINWALK_TEST_ALL");
  return all != nullptr && std::string(all) == "1";
}

// Not every variant of a host shows what the host is known for, but some does.
TEST(KnownOnHosts, EachReproducesSomewhereAndNoNeighbourAnywhere) {
  std::map<std::string, unsigned> shown;
  for (const HostVariant& variant : host_variants()) {
    if (is_slow(variant.host, variant.subject) && !all_tests()) continue;
    std::string why;
    const auto subject = start_variant(variant, why);
    if (subject == nullptr) {
      std::printf("without %s: %s\n", std::string(variant.name).c_str(), why.c_str());
      continue;
    }
    const KnownTraces known = known_traces(subject->info());
    std::vector<Program> programs(known.traces.size());
    Lowering lowering;
    for (std::size_t i = 0; i < programs.size(); ++i) lowering.lower(known.traces[i], programs[i]);
    subject->prefetch(std::move(programs));
    for (std::size_t i = 0; i < known.entries.size(); ++i) {
      const std::string& id = known.entries[i]->id;
      const auto ids = ids_in(known.traces[2 * i], *subject);
      // What one deviation leaves behind may be another.
      EXPECT_THAT(ids, Each(Not(IsEmpty()))) << id << variant.name;
      shown[id] += std::count(ids.begin(), ids.end(), id) != 0 ? 1 : 0;
      EXPECT_THAT(ids_in(known.traces[2 * i + 1], *subject), IsEmpty()) << id << variant.name;
    }
  }
  if (shown.empty()) GTEST_SKIP() << "no host can be started here";
  for (const auto& [id, variants] : shown) EXPECT_GT(variants, 0u) << id << " does not reproduce";
}

// Why the other variants there are without page-modification logging.
TEST(KnownOnHosts, KvmComplainsOfThePageModificationLogOfBochs) {
  if (!all_tests()) GTEST_SKIP() << "Linux boots for half a minute: ./twinwalk test --all";
  for (const HostVariant& variant : host_variants()) {
    if (variant.name != "ept-pml") continue;
    std::string why;
    const auto subject = start_variant(variant, why);
    if (subject == nullptr) GTEST_SKIP() << why;
    const auto complaint_over = [&](const std::string& file) {
      ParseResult loaded = load_trace(TWINWALK_SOURCE_DIR "/corpus/known/" + file);
      EXPECT_TRUE(loaded) << file;
      Program program;
      Lowering().lower(loaded.trace, program);
      OutcomeStream out;
      subject->run(program, out);
      return out.complaint_text;
    };
    EXPECT_EQ(complaint_over("bochs-pml-logs-bytes.near.walk"), "");
    EXPECT_THAT(complaint_over("bochs-pml-logs-bytes.walk"), HasSubstr("WARNING"));
  }
}

TEST(LocalModule, TellsWhatCannotBeDone) {
  ScratchFolder scratch;
  LocalModule module;
  std::string why;
  EXPECT_FALSE(module.find(why, scratch.file("nothing")));
  EXPECT_THAT(why, HasSubstr("neither kvm_intel nor kvm_amd"));
}

TEST(Needs, EveryHostHasSomeAndWhatIsMissingIsNamedByPackage) {
  for (const HostVariant& variant : host_variants())
    EXPECT_THAT(needs_of(variant.host), Not(IsEmpty())) << variant.host;
  EXPECT_THAT(needs_of("vmx"), IsEmpty());
  const auto there = [](const std::string& what) { return what != "cpio" && what != "bochs-bin"; };
  EXPECT_THAT(missing_packages("bochs-vmx", there), testing::ElementsAre("cpio", "bochs"));
  EXPECT_THAT(missing_packages("vmx-kvm", there), IsEmpty());
}

TEST(NestedVmx, SaysWhatIsMissing) {
  EXPECT_EQ(why_no_nested_vmx({"", true, "kvm_intel", "Y"}), "");
  EXPECT_EQ(why_no_nested_vmx({"", true, "", ""}), "");
  EXPECT_THAT(why_no_nested_vmx({"/dev/kvm: gone", false, "kvm_intel", "N"}), HasSubstr("gone"));
  EXPECT_THAT(why_no_nested_vmx({"", false, "kvm_intel", "N"}), HasSubstr("nested=N"));
  EXPECT_THAT(why_no_nested_vmx({"", false, "kvm_intel", "Y"}), HasSubstr("CPUID"));
  EXPECT_THAT(why_no_nested_vmx({"", false, "kvm_amd", "1"}), HasSubstr("kvm_amd"));
  EXPECT_THAT(why_no_nested_vmx({"", false, "", ""}), HasSubstr("not loaded"));
}

TEST(NestedVmx, LooksAtDeviceAndModule) {
  ScratchFolder scratch;
  const std::string folder = scratch.file("kvm_intel/parameters");
  ASSERT_TRUE(std::filesystem::create_directories(folder));
  std::ofstream(folder + "/nested") << "N\n";
  const NestedVmx found = look_at_nested_vmx(scratch.file("kvm"), scratch.file("."));
  EXPECT_THAT(found.device_error, HasSubstr("No such file"));
  EXPECT_EQ(found.module, "kvm_intel");
  EXPECT_EQ(found.nested, "N");
}

// The machine of host `vmx-kvm` on a processor without VMX, which the image finds out by itself.
TEST(ImageInQemu, BootsAndSaysThatThereIsNoVmx) {
  std::string why;
  if (output_of("qemu-system-x86_64 --version").empty()) GTEST_SKIP() << "QEMU cannot be run";
  if (vmx_image_file(why).empty()) GTEST_SKIP() << why;
  ScratchFolder scratch;
  if (!write_vmx_iso(vmx_image_file(why), "", scratch.file("x.iso"), why)) GTEST_SKIP() << why;
  EXPECT_EQ(start_image_in_qemu("tcg", "max", why), nullptr);
  EXPECT_THAT(why, HasSubstr("the image stops: "));
  EXPECT_THAT(why, HasSubstr("VMX"));
  EXPECT_EQ(start_image_in_qemu("tcg", "no-such-processor", why), nullptr);
  EXPECT_THAT(why, HasSubstr("no-such-processor"));
}

TEST(VmxIso, SaysWhatItCannotWrite) {
  ScratchFolder scratch;
  std::string why;
  EXPECT_FALSE(write_vmx_iso(scratch.file("no.elf"), "", scratch.file("x.iso"), why));
  EXPECT_THAT(why, Not(IsEmpty()));
}

TEST(Emulator, EndsWithItsOwnerAndLeavesItsOutput) {
  ScratchFolder scratch;
  std::string why;
  Emulator shell;
  ASSERT_TRUE(
      shell.start({"sh", "-c", "echo one; echo two; sleep 100"}, scratch.file("out"), "", why));
  for (int i = 0; i < 200 && tail_of(scratch.file("out"), 5) != "one | two"; ++i)
    shell.wait(std::chrono::milliseconds(10));
  EXPECT_EQ(tail_of(scratch.file("out"), 5), "one | two");
  EXPECT_EQ(tail_of(scratch.file("out"), 1), "two");
  EXPECT_TRUE(shell.running());
  shell.kill();
  EXPECT_FALSE(shell.running());
  ASSERT_TRUE(shell.start({"no-such-program-here"}, scratch.file("out"), "", why));
  EXPECT_TRUE(shell.wait(std::chrono::seconds(5)));
}

}  // namespace
}  // namespace twinwalk::hosts
