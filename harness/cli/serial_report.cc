#include "harness/cli/serial_report.h"

#include <fmt/format.h>

#include <map>
#include <memory>

#include "harness/checker.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "harness/cli/trace_run.h"
#include "harness/trace/binary.h"
#include "harness/trace/reply.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/remote/remote_subject.h"

namespace twinwalk::cli {
namespace {

struct RecordedTrace {
  Trace trace;
  remote::Answer answer;
  std::size_t line = 0;  // in the log
};

struct Log {
  std::string host;
  std::string note;                               // the image's last
  std::map<std::uint64_t, RecordedTrace> traces;  // by number
  std::size_t damaged = 0;
  bool whole = false;  // it ended as it should
};

Log read_log(std::string_view text) {
  Log log;
  LogLine line;
  std::vector<std::uint8_t> bytes;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const LogRead read = read_log_line(text.substr(0, end), line);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (read == LogRead::kDamaged) ++log.damaged;
    if (read != LogRead::kWhole) continue;
    if (line.word == LogWord::kHost && log.host.empty()) log.host = line.text;
    if (line.word == LogWord::kNote) log.note = line.text;
    if (line.word == LogWord::kBye) log.whole = true;
    if (line.word == LogWord::kTrace) {
      RecordedTrace recorded;
      recorded.line = number;
      if (from_base64(line.text, bytes) && decode(bytes, recorded.trace).whole)
        log.traces.insert_or_assign(line.number, std::move(recorded));
    }
    const auto asked = log.traces.find(line.number);
    if (line.word == LogWord::kRan && asked != log.traces.end()) {
      remote::Answer& answer = asked->second.answer;
      answer.there = from_base64(line.text, bytes) && decode_reply(bytes, answer.reply);
    }
  }
  return log;
}

// Answers what it was given, one after the other.
class RecordedLink final : public remote::Link {
 public:
  explicit RecordedLink(std::string host) : host_(std::move(host)) {}
  std::string describe() const override { return host_; }
  void run(std::span<const Program> programs, std::vector<remote::Answer>& answers) override {
    answers.assign(programs.size(), next_);
  }
  void answer_next(remote::Answer answer) { next_ = std::move(answer); }

 private:
  std::string host_;
  remote::Answer next_;
};

class LogJudge {
 public:
  LogJudge(const Log& log, const std::string& path, reports::Results& out)
      : log_(log), path_(path), out_(out) {
    out_.stamps.push_back({"core-vmx", "serial", log.host});
  }

  void all() {
    for (const auto& [number, recorded] : log_.traces) one(number, recorded);
    summary_.skip += log_.damaged;
    out_.summaries.push_back(summary_);
  }

 private:
  void one(std::uint64_t number, const RecordedTrace& recorded) {
    auto link = std::make_unique<RecordedLink>(log_.host);
    remote::Answer answer = recorded.answer;
    // The last one begun by a machine that said nothing more.
    answer.died = !answer.there && !log_.whole && number == log_.traces.rbegin()->first;
    answer.why = answer.died ? "the log ends in this trace" : "no whole answer in the log";
    link->answer_next(std::move(answer));
    remote::RemoteSubject subject(std::move(link), "core-vmx", recorded.trace.machine.core);
    Checker checker(subject);
    accept_host_deviations(checker);
    const std::string name = fmt::format("{}:{}: trace {}", path_, recorded.line, number);
    const CheckResult result = checker.check(recorded.trace, [&](const CheckEvent& event) {
      if (!event.known)
        out_.run.push_back(
            line_of(name, subject.info(), recorded.trace, event, checker.outcomes()));
    });
    add(summary_, recorded.trace, result);
  }

  const Log& log_;
  const std::string& path_;
  reports::Results& out_;
  RunSummary summary_;
};

}  // namespace

bool is_serial_log(std::string_view text) {
  LogLine line;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (read_log_line(text.substr(0, end), line) != LogRead::kOther) return true;
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return false;
}

void judge_serial_log(std::string_view text, const std::string& path, reports::Results& out) {
  const Log log = read_log(text);
  const char* lacks = log.host.empty() ? "host" : log.traces.empty() ? "trace" : nullptr;
  if (lacks != nullptr) {
    // A machine without VMX, say, where the image says so and no more.
    throw Failure(log.note.empty()
                      ? fmt::format("{}: found no whole `{}` line; allowed: a log of the image's",
                                    path, lacks)
                      : fmt::format("{}: nothing was run; the image says: {}", path, log.note));
  }
  LogJudge(log, path, out).all();
}

}  // namespace twinwalk::cli
