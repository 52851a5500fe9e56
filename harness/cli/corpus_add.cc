#include "harness/cli/corpus_add.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <sstream>
#include <vector>

#include "harness/cli/input.h"
#include "harness/cli/minimise_verb.h"
#include "harness/cli/output.h"
#include "harness/cli/probe.h"
#include "harness/finding.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/programs.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCommentColumns = 128;

// What the checker says of the first divergence: the finding's name, then sentences.
struct Said {
  std::string name, text;
};

std::optional<Said> ask(const Trace& trace) {
  const NamedSubject core = make_subject({});
  const auto unicorn = start_unicorn(parse_references(""));
  Checker checker(*core.subject, unicorn.get());
  // The core may not survive it.
  const auto text = text_of_child([&] {
    std::string said;
    const CheckResult result = checker.check(trace, [&](const CheckEvent& event) {
      if (!said.empty() || event.known || event.verdict.kind != VerdictKind::kDiverge) return;
      const Verdict& v = event.verdict;
      said = fmt::format("{} in {}, at `{}`: got {}; allowed: {}.", name_of(v.divergence), v.field,
                         print(trace.ops[event.op]), v.got, v.allowed);
      if (v.rule != nullptr) {
        said += fmt::format("\nRule {}: {}", v.rule->id, v.rule->says);
        if (!v.rule->citation.empty()) said += fmt::format(" {}.", v.rule->citation);
      }
    });
    if (said.empty()) return said;
    return name_of(finding_of(result, result.profile)) + '\n' + said;
  });
  if (!text) {
    const std::string whole = print(trace);
    return Said{"trap-" + fuzz::hex8(fuzz::hash_bytes(whole)), "The core does not survive it."};
  }
  if (text->empty()) return std::nullopt;
  const std::size_t end = text->find('\n');
  return Said{text->substr(0, end), text->substr(end + 1)};
}

// As `#` lines before the machine line.
void append_comment(const std::string& text, Trace& trace) {
  std::vector<Trace::Comment> lines;
  std::istringstream paragraphs(text);
  for (std::string paragraph; std::getline(paragraphs, paragraph);) {
    std::istringstream words(paragraph);
    std::string line = "#";
    for (std::string word; words >> word;) {
      if (line.size() > 1 && line.size() + 1 + word.size() > kCommentColumns) {
        lines.push_back({Trace::kHeader, line});
        line = "#";
      }
      line += ' ' + word;
    }
    if (line.size() > 1) lines.push_back({Trace::kHeader, line});
  }
  trace.comments.insert(trace.comments.end(), lines.begin(), lines.end());
}

// Throws if the folder has the same machine and operations under another name.
void refuse_repetition(const Trace& trace, const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.path().extension() != ".walk") continue;
    const NamedTrace other = load_trace(entry.path().string(), Input::kText);
    const auto bare = [](Trace t) {
      for (Op& op : t.ops) op.line = 0;
      t.comments.clear();
      t.expectations.clear();
      return t;
    };
    if (bare(other.trace) == bare(trace))
      throw Failure(fmt::format("{} is that trace", other.path));
  }
}

std::string folder_of(const CorpusAddOptions& options) {
  if (!options.folder.empty()) return options.folder;
  const std::string corpus = fuzz::find_programs().corpus;
  if (corpus.empty()) throw Failure("there is no corpus here; --corpus names a folder");
  return corpus + "/regress";
}

}  // namespace

int add_to_corpus(const CorpusAddOptions& options) {
  NamedTrace named = load_trace(options.finding, options.reading);
  const std::string folder = folder_of(options);
  if (!fs::is_directory(folder)) throw Failure(folder + " is not a folder");
  if (options.as_is && options.story.empty())
    throw Failure("--as-is needs a --story: nothing else tells what it is about");
  Trace trace = options.as_is ? named.trace : smallest_trace(named, {}).trace;
  const std::optional<Said> said = ask(trace);
  std::string name = options.name;
  if (name.empty() && !said) throw Failure("it does not diverge; --name names it");
  if (name.empty()) name = said->name;
  if (name.find('/') != name.npos || name.front() == '.')
    throw Failure(fmt::format("--name: found `{}`; it is the stem of a file", name));
  const std::string path = (fs::path(folder) / (name + ".walk")).string();
  if (fs::exists(path)) throw Failure(path + " is there already; --name gives another name");
  refuse_repetition(trace, folder);
  append_comment(options.story, trace);
  if (said) append_comment(said->text, trace);
  write_file(path, print(trace));
  print("{}\n", path);
  return kExitGood;
}

}  // namespace twinwalk::cli
