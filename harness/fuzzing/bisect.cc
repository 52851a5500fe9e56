#include "harness/fuzzing/bisect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/core_build.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/trace/load.h"
#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr double kGitSeconds = 60, kRunSeconds = 60;
constexpr std::size_t kMaxOutput = 64 << 20;

struct Revision {
  std::string hash, date, subject;
  std::string text() const { return hash.substr(0, 12) + ' ' + date + ' ' + subject; }
};

// Lines of a command's standard output and error; false if it failed.
bool lines_of(const std::vector<std::string>& words, const std::string& log,
              std::vector<std::string>& out) {
  Command command;
  command.words = words;
  command.log = log;
  const bool good = run_command(command, kGitSeconds);
  std::string text;
  if (!read_file(log, kMaxOutput, text)) return false;
  std::istringstream in(text);
  out.clear();
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return good;
}

// The class of the first divergence that `run --json` told; "" if it told none.
std::string class_in(const std::string& text) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.value("verdict", "") == name_of(VerdictKind::kDiverge))
      return json.value("class", "");
  }
  return {};
}

class Run {
 public:
  explicit Run(const BisectOptions& options)
      : options_(options),
        source_(options.source.empty() ? TWINWALK_SOURCE_DIR : options.source),
        build_(options.build.empty() ? work_folder("bisect")
                                     : fs::absolute(options.build).string()) {}

  int run() {
    std::string why = prepare();
    if (why.empty()) why = need_bad();
    if (!why.empty()) return fail(why);
    Bisection search(revisions_.size(), !options_.good.empty(),
                     [this](std::size_t n) { return judge(revisions_[n]); });
    const std::vector<std::size_t> first = search.run();
    if (interrupted()) return fail("interrupted");
    tell(first, search);
    return first.size() == 1 ? 0 : 1;
  }

 private:
  static int fail(const std::string& why) {
    std::fprintf(stderr, "twinwalk bisect: %s\n", why.c_str());
    return 2;
  }

  std::vector<std::string> git(std::vector<std::string> words) const {
    words.insert(words.begin(), {"git", "-C", source_});
    return words;
  }
  std::string log(const std::string& name) const { return build_.work() + '/' + name + ".log"; }

  // The revisions at which the core changed, along the first parents: a branch that was merged is
  // one step.
  std::string prepare() {
    const ParseResult read = load_trace(options_.trace);
    if (!read) return to_text(*read.error);
    std::string why = make_folder(build_.work());
    if (!why.empty()) return why;
    std::vector<std::string> lines;
    if (!lines_of(git({"rev-parse", "--git-dir"}), log("git"), lines))
      return source_ + " is no repository of git's";
    for (const std::string& name : {options_.bad, options_.good}) {
      const bool known = name.empty() || lines_of(git({"rev-parse", "--verify", "--quiet",
                                                       "--end-of-options", name + "^{commit}"}),
                                                  log("git"), lines);
      if (!known) return "no revision '" + name + "'";
    }
    const std::string range =
        options_.good.empty() ? options_.bad : options_.good + ".." + options_.bad;
    if (!lines_of(git({"log", "--first-parent", "--reverse", "--date=short",
                       "--format=%H%x09%ad%x09%s", range, "--", "mmu_core"}),
                  log("git"), lines)) {
      return "git cannot list " + range + "; see " + log("git");
    }
    for (const std::string& line : lines) {
      const std::size_t date = line.find('\t'), subject = line.find('\t', date + 1);
      if (subject == line.npos) continue;
      revisions_.push_back({line.substr(0, date), line.substr(date + 1, subject - date - 1),
                            line.substr(subject + 1)});
    }
    return revisions_.empty() ? "the core does not change in " + range : "";
  }

  std::string need_bad() {
    if (judge(revisions_.back()) == Judged::kBad) return {};
    return options_.trace + " does not diverge at " + options_.bad;
  }

  // Unpacks, builds and asks the core of that revision. The last one says which class is looked
  // for.
  Judged judge(const Revision& revision) {
    if (interrupted()) return Judged::kCannotTell;
    std::fprintf(stderr, "%s: ", revision.text().c_str());
    const Judged judged = ask(revision);
    constexpr const char* kWords[] = {"good", "bad", "cannot be told"};
    std::fprintf(stderr, "%s\n", kWords[static_cast<unsigned>(judged)]);
    return judged;
  }

  Judged ask(const Revision& revision) {
    const std::string core = build_.work() + "/core", tar = build_.work() + "/core.tar";
    std::error_code error;
    fs::remove_all(core, error);
    std::vector<std::string> lines;
    if (!make_folder(core).empty() ||
        !lines_of(git({"archive", "--format=tar", "-o", tar, revision.hash, "mmu_core"}),
                  log("git"), lines) ||
        !lines_of({"tar", "-x", "-C", core, "-f", tar}, log("git"), lines) ||
        !build_.build(core, {"twinwalk"}, log(revision.hash.substr(0, 12))).empty()) {
      return Judged::kCannotTell;
    }
    const std::string shown = shown_class();
    if (shown == "?") return Judged::kCannotTell;
    if (class_.empty()) class_ = shown;
    return !shown.empty() && shown == class_ ? Judged::kBad : Judged::kGood;
  }

  // That the built program shows; "": it agrees; "?": it could not be asked.
  std::string shown_class() const {
    Command command;
    command.words = {
        build_.program("twinwalk"), "run", "--json", "--reference", "spec", options_.trace};
    command.log = log("run");
    Child child;
    if (!child.start(command)) return "?";
    if (!child.wait(kRunSeconds)) {
      child.stop(1);
      return std::string(name_of(DivergenceClass::kHang));
    }
    if (!child.exited()) return std::string(name_of(DivergenceClass::kTrap));
    if (child.exit_code() == 0) return "";
    std::string text;
    if (child.exit_code() != 1 || !read_file(command.log, kMaxOutput, text)) return "?";
    return class_in(text);
  }

  void tell(const std::vector<std::size_t>& first, const Bisection& search) const {
    if (options_.json) {
      nlohmann::ordered_json j;
      j["class"] = class_;
      j["first_bad"] = first.size() == 1 ? revisions_[first[0]].hash : "";
      j["one_of"] = nlohmann::ordered_json::array();
      for (const std::size_t n : first) j["one_of"].push_back(revisions_[n].hash);
      j["revisions"] = revisions_.size();
      j["oldest_bad"] = revisions_[search.oldest_bad()].hash;
      j["asked"] = search.asked() + 1;  // the last one, before the search
      std::printf("%s\n", j.dump().c_str());
      return;
    }
    if (first.empty()) {
      std::printf("%s since %s or longer: none before it is good, as far as can be told\n",
                  class_.c_str(), revisions_[search.oldest_bad()].text().c_str());
    } else if (first.size() == 1) {
      std::printf("%s since %s\n", class_.c_str(), revisions_[first[0]].text().c_str());
    } else {
      std::printf("%s since one of these, of which only the last can be told:\n", class_.c_str());
      for (const std::size_t n : first) std::printf("  %s\n", revisions_[n].text().c_str());
    }
  }

  const BisectOptions& options_;
  const std::string source_;
  CoreBuild build_;
  std::vector<Revision> revisions_;  // oldest first
  std::string class_;                // that the last one shows
};

}  // namespace

Bisection::Bisection(std::size_t revisions, bool first_good,
                     std::function<Judged(std::size_t)> judge)
    : judge_(std::move(judge)), untold_(revisions), bad_(revisions - 1), first_good_(first_good) {}

Judged Bisection::ask(std::size_t revision) {
  ++asked_;
  const Judged judged = judge_(revision);
  if (judged == Judged::kGood) good_ = revision + 1;
  if (judged == Judged::kBad) bad_ = revision;
  if (judged == Judged::kCannotTell) untold_[revision] = 1;
  return judged;
}

// Back in growing steps; then between the oldest bad one and the newest before it that nobody can
// tell of, which is where old revisions cease to be built.
bool Bisection::find_good() {
  std::size_t step = 1, dark = 0;  // `dark`: index after the newest untold one
  for (std::size_t at = bad_; at > 0; step *= 2) {
    at -= std::min(step, at);
    const Judged judged = ask(at);
    if (judged == Judged::kGood) return true;
    if (judged == Judged::kCannotTell) dark = std::max(dark, at + 1);
  }
  while (dark < bad_) {
    const std::size_t at = dark + (bad_ - dark) / 2;
    const Judged judged = ask(at);
    if (judged == Judged::kGood) return true;
    if (judged == Judged::kCannotTell) dark = at + 1;
  }
  return false;
}

std::size_t Bisection::middle() const {
  const std::size_t centre = good_ + (bad_ - good_) / 2;
  for (std::size_t far = 0; far <= bad_ - good_; ++far) {
    if (centre + far < bad_ && !untold_[centre + far]) return centre + far;
    if (far <= centre - good_ && centre - far < bad_ && !untold_[centre - far]) return centre - far;
  }
  return bad_;
}

std::vector<std::size_t> Bisection::run() {
  if (!first_good_ && !find_good()) return {};
  for (std::size_t at = middle(); at != bad_; at = middle()) ask(at);
  std::vector<std::size_t> first;
  for (std::size_t n = good_; n <= bad_; ++n) first.push_back(n);
  return first;
}

int run_bisect(const BisectOptions& options) {
  const Interrupts handlers;
  return Run(options).run();
}

}  // namespace twinwalk::fuzz
