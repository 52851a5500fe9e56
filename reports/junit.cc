#include <fmt/format.h>

#include <cstddef>
#include <optional>

#include "reports/ci_formats.h"
#include "reports/escape.h"
#include "reports/zoo_table.h"

namespace twinwalk::reports {
namespace {

std::string e(const std::string& text) { return escape_markup(text); }

class Suite {
 public:
  explicit Suite(std::string name, double seconds = 0)
      : name_(std::move(name)), seconds_(seconds) {}

  void pass(const std::string& cls, const std::string& name) { add(cls, name, ""); }
  void skip(const std::string& cls, const std::string& name, const std::string& why) {
    ++skipped_;
    add(cls, name, fmt::format("<skipped message=\"{}\"/>", e(why)));
  }
  void fail(const std::string& cls, const std::string& name, const std::string& message,
            const std::string& details) {
    ++failures_;
    add(cls, name, fmt::format("<failure message=\"{}\">{}</failure>", e(message), e(details)));
  }
  std::string finish() const {
    return fmt::format(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" "
        "time=\"{:.3f}\">\n{}</testsuite>\n",
        e(name_), tests_, failures_, skipped_, seconds_, cases_);
  }
  bool empty() const { return tests_ == 0; }

 private:
  void add(const std::string& cls, const std::string& name, const std::string& inside) {
    ++tests_;
    cases_ += fmt::format("<testcase classname=\"{}\" name=\"{}\">{}</testcase>\n", e(cls), e(name),
                          inside);
  }
  std::string name_, cases_;
  double seconds_;
  std::size_t tests_ = 0, failures_ = 0, skipped_ = 0;
};

std::string document(const std::string& suites) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"twinwalk\">\n" + suites +
         "</testsuites>\n";
}

std::string run_suite(const Results& r) {
  Suite suite("run");
  for (const ResultLine& l : r.run) {
    const std::string name = fmt::format("op {} {} vcpu {}", l.op, l.verb, l.vcpu);
    if (l.verdict == "diverge" && l.baseline == "unchanged") {
      suite.skip(l.trace, name, fmt::format("known: {}: {}", l.cls, l.field));
    } else if (l.verdict == "diverge") {
      suite.fail(l.trace, name, fmt::format("{}: {}", l.cls, l.field),
                 fmt::format("got: {}\nallowed: {}\nrule: {}", l.got, l.allowed, l.rule));
    } else if (l.verdict == "skip") {
      suite.skip(l.trace, name, l.got);
    } else {
      suite.pass(l.trace, name);
    }
  }
  for (const RunSummary& s : r.summaries) {
    if (s.diverge == 0)
      suite.pass("summary", fmt::format("{} checks on {} traces", s.checks, s.traces));
  }
  return suite.empty() ? "" : suite.finish();
}

std::string conform_suite(const Results& r) {
  Suite suite("conform");
  for (const ConformLine& c : r.conform) {
    const std::string cls = fmt::format("{}.{}", c.subject, c.host),
                      name = fmt::format("{} {}", c.feature, c.mode);
    if (c.result == "fail")
      suite.fail(cls, name, c.why, c.why);
    else if (c.result == "skip")
      suite.skip(cls, name, c.why);
    else
      suite.pass(cls, name);
  }
  return suite.empty() ? "" : suite.finish();
}

std::string zoo_suite(const Results& r) {
  Suite suite("zoo");
  for (const ZooRow& row : zoo_rows(r.zoo)) {
    if (row.is_good()) {
      suite.pass("zoo", row.bug);
      continue;
    }
    const ZooLine& z = *row.trials.front();
    suite.fail("zoo", row.bug,
               !row.control            ? "not detected"
               : row.detections() != 0 ? "a false alarm"
                                       : "never triggered",
               fmt::format("detected in {} of {} trials; the first: reached {}, triggered {}",
                           row.detections(), row.trials.size(), z.reached, z.triggered));
  }
  return suite.empty() ? "" : suite.finish();
}

std::string mutation_suite(const Results& r) {
  Suite suite("mutate");
  for (const MutationScore& s : r.scores) {
    const std::string says = fmt::format("{:.1f} % killed, bound {:g} %", s.score, s.bound);
    if (s.score >= s.bound)
      suite.pass("mutate", s.side);
    else
      suite.fail("mutate", s.side, says, fmt::format("{} survived", s.survived));
  }
  return suite.empty() ? "" : suite.finish();
}

std::string bench_suite(const Results& r) {
  Suite suite("bench");
  for (const BenchLine& b : r.bench) {
    if (b.holds.value_or(true))
      suite.pass("bench", b.row);
    else
      suite.fail("bench", b.row, "target missed",
                 fmt::format("{} {}, target {}", b.value, b.unit, b.target));
  }
  return suite.empty() ? "" : suite.finish();
}

std::string fuzz_suite(const Results& r) {
  Suite suite("fuzz");
  for (const FuzzLine& f : r.fuzz) {
    const std::string name = fmt::format("{} executions", f.execs);
    if (f.new_divergences == 0)
      suite.pass(f.engine, name);
    else
      suite.fail(f.engine, name, fmt::format("{} new divergences", f.new_divergences), "");
  }
  return suite.empty() ? "" : suite.finish();
}

}  // namespace

std::string to_junit(const FuzzReport& r) {
  Suite suite("fuzz " + r.title, r.seconds);
  bool any = false;
  for (const Finding& f : r.findings) {
    if (!f.is_new) continue;
    any = true;
    suite.fail(f.cls, f.name, fmt::format("{}: {}", f.cls, f.rule_says),
               fmt::format("got: {}\nallowed: {}\nrule: {} {}\n\n{}", f.got, f.allowed, f.rule,
                           f.citation, f.trace_text));
  }
  if (!any && r.new_divergences == 0) suite.pass("fuzz", fmt::format("{} checks", r.checks));
  if (!any && r.new_divergences != 0)
    suite.fail("fuzz", "new divergences", fmt::format("{} new divergences", r.new_divergences), "");
  return document(suite.finish());
}

std::string to_junit(const Results& r) {
  return document(run_suite(r) + conform_suite(r) + zoo_suite(r) + mutation_suite(r) +
                  bench_suite(r) + fuzz_suite(r));
}

}  // namespace twinwalk::reports
