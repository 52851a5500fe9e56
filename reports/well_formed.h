#ifndef TWINWALK_REPORTS_WELL_FORMED_H_
#define TWINWALK_REPORTS_WELL_FORMED_H_

// A checker of markup for tests: elements nest, attributes are quoted and named once, entities are
// known.

#include <cctype>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::reports::testing {

// "" if `text` is well-formed XML of the subset that reports use (declaration or doctype, elements,
// entities; the contents of script and style are taken as they are); otherwise what is wrong, with
// its offset.
class MarkupChecker {
 public:
  explicit MarkupChecker(std::string_view text) : text_(text) {}

  std::string check() {
    while (at_ < text_.size() && error_.empty()) {
      if (text_[at_] == '<')
        tag();
      else
        character();
    }
    if (error_.empty() && !open_.empty()) fail("not closed: " + open_.back());
    if (error_.empty() && roots_ != 1) fail("not one root element");
    return error_;
  }

 private:
  bool starts(std::string_view s) const { return text_.substr(at_, s.size()) == s; }
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what + " at " + std::to_string(at_);
  }

  void character() {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (text_[at_] == '&') return entity();
    if (open_.empty() && !std::isspace(c)) return fail("text outside of the root");
    if (c < 0x20 && !std::isspace(c)) return fail("control character");
    ++at_;
  }

  void entity() {
    for (const std::string_view name : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}) {
      if (!starts(name)) continue;
      at_ += name.size();
      return;
    }
    fail("unknown entity");
  }

  std::string name() {
    const std::size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-'))
      ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  void skip_spaces() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }

  void tag() {
    if (starts("<?xml ") || starts("<!DOCTYPE ")) {
      at_ = text_.find('>', at_);
      return at_ == text_.npos ? fail("unfinished declaration") : void(++at_);
    }
    ++at_;
    if (text_[at_] == '/') return end_tag();
    const std::string element = name();
    if (element.empty()) return fail("no name after <");
    if (open_.empty()) ++roots_;
    attributes();
    if (!error_.empty()) return;
    if (starts("/>")) return void(at_ += 2);
    if (!starts(">")) return fail("tag does not end");
    ++at_;
    if (element == "script" || element == "style") return raw(element);
    open_.push_back(element);
  }

  void end_tag() {
    ++at_;
    const std::string element = name();
    if (open_.empty() || open_.back() != element || !starts(">"))
      return fail("wrong end tag " + element);
    open_.pop_back();
    ++at_;
  }

  void raw(const std::string& element) {
    const std::size_t end = text_.find("</" + element + ">", at_);
    if (end == text_.npos) return fail("not closed: " + element);
    if (text_.substr(at_, end - at_).find("</") != text_.npos)
      return fail("end tag inside of " + element);
    at_ = end + element.size() + 3;
  }

  void attributes() {
    std::set<std::string> seen;
    for (skip_spaces(); at_ < text_.size() && text_[at_] != '>' && text_[at_] != '/';
         skip_spaces()) {
      const std::string attribute = name();
      if (attribute.empty() || !seen.insert(attribute).second)
        return fail("bad or repeated attribute");
      if (!starts("=\"")) return fail("attribute without a quoted value");
      at_ += 2;
      while (at_ < text_.size() && text_[at_] != '"' && error_.empty()) {
        if (text_[at_] == '<') return fail("< in an attribute");
        if (text_[at_] == '&')
          entity();
        else
          ++at_;
      }
      if (!starts("\"")) return fail("attribute does not end");
      ++at_;
    }
  }

  std::string_view text_;
  std::size_t at_ = 0, roots_ = 0;
  std::vector<std::string> open_;
  std::string error_;
};

}  // namespace twinwalk::reports::testing

#endif  // TWINWALK_REPORTS_WELL_FORMED_H_
