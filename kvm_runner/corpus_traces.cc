#include "kvm_runner/corpus_traces.h"

#include <stdexcept>
#include <string_view>

#include "harness/trace/parse.h"

extern "C" const char twinwalk_corpus_begin[], twinwalk_corpus_end[];

namespace twinwalk {
namespace {

// Before each file, as bundle_corpus.cmake writes it; no trace has such a line.
constexpr std::string_view kMark = "#=== ";

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line;
}

}  // namespace

std::vector<CorpusTrace> corpus_traces() {
  std::vector<CorpusTrace> all;
  std::string_view text(twinwalk_corpus_begin,
                        static_cast<std::size_t>(twinwalk_corpus_end - twinwalk_corpus_begin));
  while (!text.empty()) {
    std::string_view path = take_line(text);
    path.remove_prefix(kMark.size());
    const std::size_t slash = path.find('/');
    std::size_t end = text.find(std::string("\n") + std::string(kMark));
    end = end == text.npos ? text.size() : end + 1;
    ParseResult parsed = parse(text.substr(0, end), path);
    if (!parsed) throw std::logic_error(to_text(*parsed.error));
    text.remove_prefix(end);
    all.push_back({std::string(path.substr(0, slash)), std::string(path.substr(slash + 1)),
                   std::move(parsed.trace)});
  }
  return all;
}

}  // namespace twinwalk
