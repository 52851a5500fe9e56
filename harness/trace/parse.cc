#include "harness/trace/parse.h"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "harness/trace/schema.h"
#include "harness/trace/value_text.h"

namespace twinwalk {
namespace {

using text::alternatives;
using text::quoted;
using text::read_number;

struct Word {
  std::string_view text;
  std::size_t column;  // from 1
};

bool is_space(char c) { return c == ' ' || c == '\t'; }

// Length of the UTF-8 sequence at the start of `s`; 0 if there is none (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF).
std::size_t utf8_length(std::string_view s) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2   ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (!length || s.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = at(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return length;
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

std::string field_names(const VerbInfo& verb) {
  std::string out;
  for (const FieldInfo& f : verb.fields) {
    if (f.kind == FieldKind::kRegisterValue) continue;
    if (f.kind == FieldKind::kRegister) {
      out += "one of cr0= cr3= cr4= efer= pkru= cpl= ac= ";
    } else if (f.kind == FieldKind::kEnumWord) {
      out += alternatives(f.names) + ", ";
    } else {
      out += fmt::format("{}= ", f.name);
    }
  }
  return out + "vcpu=";
}

// The field whose whole value `raw=` gives.
const FieldInfo* raw_field(const VerbInfo& verb) {
  for (const FieldInfo& f : verb.fields) {
    if (f.id != Field::kUpper && (f.kind == FieldKind::kEntry || f.kind == FieldKind::kData))
      return &f;
  }
  return nullptr;
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view file) : text_(text) {
    result_.trace.clear(), file_ = file;
  }

  ParseResult run() {
    if (check_bytes()) {
      while (next_line()) {
        if (!one_line()) break;
      }
      if (!result_.error && !seen_walk_)
        fail(0, "found no `walk 1`; a trace begins with that line");
    }
    if (!result_.error && block_ != Point::kNone && result_.trace.ops.size() == block_ops_) {
      fail(raw_.size() + 1, "found the end after `at`; allowed: an indented operation");
    }
    drop_trailing_blanks();
    return std::move(result_);
  }

 private:
  bool fail(std::size_t column, std::string message) {
    result_.error = ParseError{file_, line_, column, std::move(message)};
    return false;
  }
  bool fail(const Word& word, std::string message) { return fail(word.column, std::move(message)); }

  // Everything that is not text is refused here, so that no message repeats it.
  bool check_bytes() {
    if (text_.size() > kMaxTextBytes) {
      return fail(
          0, fmt::format("found {} bytes; a trace has at most {}", text_.size(), kMaxTextBytes));
    }
    std::size_t line = 1, start = 0;
    for (std::size_t i = 0; i < text_.size();) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      const std::size_t length = utf8_length(text_.substr(i, 4));
      const bool control = byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r';
      if (length == 0 || control || byte == 0x7f) {
        line_ = line;
        return fail(i - start + 1, fmt::format("found byte {:#04x}; a trace is UTF-8 text", byte));
      }
      if (byte == '\n') ++line, start = i + 1;
      i += length;
    }
    return true;
  }

  bool next_line() {
    if (position_ >= text_.size()) return false;
    const std::size_t end = text_.find('\n', position_);
    raw_ = text_.substr(position_, end - position_);
    position_ = end == text_.npos ? text_.size() : end + 1;
    ++line_;
    if (!raw_.empty() && raw_.back() == '\r') raw_.remove_suffix(1);
    return true;
  }

  void split_words() {
    words_.clear();
    for (std::size_t i = 0; i < raw_.size();) {
      if (is_space(raw_[i])) {
        ++i;
        continue;
      }
      if (raw_[i] == '#') {
        add_comment(trimmed(raw_.substr(i)));
        return;
      }
      const std::size_t begin = i;
      while (i < raw_.size() && !is_space(raw_[i])) ++i;
      words_.push_back({raw_.substr(begin, i - begin), begin + 1});
    }
  }

  void add_comment(std::string_view words) {
    auto& comments = result_.trace.comments;
    const std::uint32_t op = seen_machine_ || !result_.trace.ops.empty()
                                 ? static_cast<std::uint32_t>(result_.trace.ops.size())
                                 : Trace::kHeader;
    if (words.empty() && (!seen_walk_ || (!comments.empty() && comments.back().op == op &&
                                          comments.back().text.empty()))) {
      return;  // empty lines come one at a time
    }
    comments.push_back({op, std::string(words)});
  }

  void drop_trailing_blanks() {
    auto& comments = result_.trace.comments;
    while (!comments.empty() && comments.back().text.empty() &&
           comments.back().op == result_.trace.ops.size()) {
      comments.pop_back();
    }
  }

  bool one_line() {
    const std::string_view line = trimmed(raw_);
    if (line.empty() || line.front() == '#') {
      add_comment(line);
      return true;
    }
    if (line.front() == '=') return expectation(line);
    split_words();
    const Word first = words_.front();
    if (!seen_walk_) return walk_line();
    if (first.text == "requires") return requires_line();
    if (first.text == "known") return known_line();
    if (first.text == "machine") return machine_line();
    if (first.text == "at") return at_line();
    if (first.text == "walk")
      return fail(first, "found a second `walk`; allowed: one, as the first line");
    return op_line();
  }

  bool walk_line() {
    if (words_.size() != 2 || words_[0].text != "walk") {
      return fail(words_[0],
                  fmt::format("found {}; a trace begins with `walk 1`", quoted(words_[0].text)));
    }
    if (words_[1].text != "1") {
      return fail(words_[1], fmt::format("found version {}; allowed: 1", quoted(words_[1].text)));
    }
    return seen_walk_ = true;
  }

  // Lines of the header, before the first operation.
  bool header_allowed() {
    if (!result_.trace.ops.empty()) {
      return fail(words_[0],
                  fmt::format("found {} after an operation; allowed: before the first one",
                              quoted(words_[0].text)));
    }
    return true;
  }

  bool requires_line() {
    if (!header_allowed()) return false;
    std::string& line = result_.trace.requires_line;
    if (!line.empty()) return fail(words_[0], "found a second `requires`; allowed: one");
    if (words_.size() < 2)
      return fail(words_[0], "found `requires` alone; allowed: mode=, a vendor, names of features");
    for (std::size_t i = 1; i < words_.size(); ++i) {
      if (!requirement(words_[i])) return false;
      if (i > 1) line += ' ';
      line += words_[i].text;
    }
    return true;
  }

  // A feature, a vendor, or mode=MODE.
  bool requirement(const Word& word) {
    static constexpr BitName kModes[] = {
        {"none", 0}, {"32-bit", 1}, {"pae", 2}, {"4-level", 3}, {"5-level", 4}};
    constexpr std::string_view kMode = "mode=";
    const bool mode = word.text.substr(0, kMode.size()) == kMode;
    const std::string_view value = mode ? word.text.substr(kMode.size()) : word.text;
    const std::span<const BitName> vendors = machine_field("vendor")->names;
    const std::span<const BitName> allowed =
        mode ? std::span<const BitName>(kModes) : feature::kNames;
    for (const BitName& n : allowed) {
      if (n.name == value) return true;
    }
    for (const BitName& n : vendors) {
      if (!mode && n.name == value) return true;
    }
    return fail(mode ? word.column + kMode.size() : word.column,
                mode ? fmt::format("found {}; allowed: {}", quoted(value), alternatives(kModes))
                     : fmt::format("found {}; allowed: mode=, {}, {}", quoted(value),
                                   alternatives(vendors), alternatives(feature::kNames)));
  }

  bool known_line() {
    if (!header_allowed()) return false;
    if (words_.size() < 2)
      return fail(words_[0], "found `known` alone; allowed: ids from the ledger");
    for (std::size_t i = 1; i < words_.size(); ++i) {
      for (const char c : words_[i].text) {
        const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        if (!fine) {
          return fail(words_[i], fmt::format("found {}; an id has letters, digits, - _ and .",
                                             quoted(words_[i].text)));
        }
      }
      result_.trace.known.emplace_back(words_[i].text);
    }
    return true;
  }

  static const MachineField* machine_field(std::string_view name) {
    for (const MachineField& f : machine_fields()) {
      if (f.name == name) return &f;
    }
    return nullptr;
  }

  bool machine_line() {
    if (!header_allowed()) return false;
    if (seen_machine_) return fail(words_[0], "found a second `machine`; allowed: one");
    Machine& machine = result_.trace.machine;
    std::uint32_t seen = 0;
    const Word* host_bits = nullptr;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      const Word& word = words_[i];
      const std::size_t equals = word.text.find('=');
      const MachineField* field =
          equals == word.text.npos ? nullptr : machine_field(word.text.substr(0, equals));
      if (!field) {
        std::string names;
        for (const MachineField& f : machine_fields()) names += fmt::format(" {}=", f.name);
        return fail(word, fmt::format("found {}; allowed:{}", quoted(word.text), names));
      }
      const auto index = static_cast<std::uint32_t>(field - machine_fields().data());
      if (seen >> index & 1)
        return fail(word, fmt::format("found a second {}=; allowed: one", field->name));
      seen |= 1u << index;
      const text::Value value = text::read_value(*field, word.text.substr(equals + 1));
      if (!value.error.empty()) {
        return fail(word.column + equals + 1 + value.offset,
                    fmt::format("{}: {}", field->name, value.error));
      }
      field->set(machine, value.number);
      if (field->name == "host-maxphyaddr") host_bits = &word;
    }
    if (host_bits && machine.host_maxphyaddr < machine.maxphyaddr) {
      return fail(*host_bits,
                  fmt::format("host-maxphyaddr: found {}; allowed: {} (maxphyaddr) to 52",
                              machine.host_maxphyaddr, machine.maxphyaddr));
    }
    reconcile(machine);
    return seen_machine_ = true;
  }

  std::size_t indent() const { return words_[0].column; }

  bool at_line() {
    if (result_.trace.ops.empty()) {
      return fail(words_[0],
                  "found `at` before any operation; it belongs under the operation it interrupts");
    }
    if (block_ != Point::kNone && result_.trace.ops.size() == block_ops_) {
      return fail(words_[0], "found `at` right after `at`; allowed: an indented operation");
    }
    if (block_ != Point::kNone && indent() > block_indent_) {
      return fail(words_[0], "found `at` inside an `at` block; blocks do not nest");
    }
    std::string names;
    block_ = Point::kNone;
    for (unsigned p = 1; p < static_cast<unsigned>(Point::kCount); ++p) {
      const std::string_view name = name_of(static_cast<Point>(p));
      if (words_.size() > 1 && words_[1].text == name) block_ = static_cast<Point>(p);
      names += fmt::format("{}{}", p == 1 ? "" : ", ", name);
    }
    if (block_ == Point::kNone) {
      const Word found = words_.size() > 1 ? words_[1] : Word{"", raw_.size() + 1};
      return fail(found, fmt::format("found {}; allowed: {}", quoted(found.text), names));
    }
    block_vcpu_ = 0;
    if (words_.size() > 2 && !vcpu(words_[2], block_vcpu_)) return false;
    if (words_.size() > 3) {
      return fail(words_[3],
                  fmt::format("found {}; allowed: at POINT vcpu=N", quoted(words_[3].text)));
    }
    block_indent_ = indent();
    block_ops_ = result_.trace.ops.size();
    return true;
  }

  bool vcpu(const Word& word, std::uint8_t& out) {
    constexpr std::string_view kPrefix = "vcpu=";
    const bool named = word.text.substr(0, kPrefix.size()) == kPrefix;
    if (!named) return fail(word, fmt::format("found {}; allowed: vcpu=", quoted(word.text)));
    const auto number = read_number(word.text.substr(kPrefix.size()));
    const unsigned vcpus = result_.trace.machine.vcpus;
    if (!number || *number >= vcpus) {
      return fail(word.column + kPrefix.size(),
                  fmt::format("vcpu: found {}; allowed: 0 to {} (the machine has {})",
                              quoted(word.text.substr(kPrefix.size())), vcpus - 1, vcpus));
    }
    out = static_cast<std::uint8_t>(*number);
    return true;
  }

  bool expectation(std::string_view line) {
    static constexpr std::string_view kFirst[] = {"done", "ok",   "#PF",     "#GP",
                                                  "#SS",  "mmio", "refused", "skip"};
    const std::size_t column = static_cast<std::size_t>(line.data() - raw_.data()) + 1;
    if (result_.trace.ops.empty())
      return fail(column, "found `=` before any operation; it follows the operation it is about");
    std::string words;
    std::string_view rest = trimmed(line.substr(1));
    const std::string_view whole = rest;
    while (!rest.empty()) {
      const std::size_t end = rest.find_first_of(" \t");
      if (!words.empty()) words += ' ';
      words += rest.substr(0, end);
      rest = trimmed(end == rest.npos ? std::string_view() : rest.substr(end));
    }
    const std::string_view first = whole.substr(0, whole.find_first_of(" \t"));
    std::string names;
    for (const std::string_view name : kFirst) {
      if (first == name) {
        result_.trace.expectations.push_back(
            {static_cast<std::uint32_t>(result_.trace.ops.size() - 1), std::move(words)});
        return true;
      }
      names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
    }
    return fail(column, fmt::format("found {} after `=`; allowed: {}", quoted(first), names));
  }

  bool op_line() {
    Verb verb = Verb::kCount;
    for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
      if (words_[0].text == name_of(static_cast<Verb>(v))) verb = static_cast<Verb>(v);
    }
    if (verb == Verb::kCount) {
      std::string names;
      for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
        names += fmt::format("{}{}", v ? " " : "", name_of(static_cast<Verb>(v)));
      }
      return fail(words_[0],
                  fmt::format("found {}; a verb is one of {}", quoted(words_[0].text), names));
    }
    if (result_.trace.ops.size() >= kMaxOps) {
      return fail(words_[0],
                  fmt::format("found more than {} operations; allowed: that many", kMaxOps));
    }
    Op op = make_op(verb);
    op.line = static_cast<std::uint32_t>(line_);
    if (block_ != Point::kNone && indent() <= block_indent_) {
      if (result_.trace.ops.size() == block_ops_) {
        return fail(
            words_[0],
            fmt::format("found {}; allowed after `at`: an operation that is indented further",
                        quoted(words_[0].text)));
      }
      block_ = Point::kNone;
    }
    op.point = block_;
    if (block_ != Point::kNone) op.vcpu = block_vcpu_;
    if (!fields(op)) return false;
    result_.trace.ops.push_back(op);
    return true;
  }

  bool fields(Op& op) {
    const VerbInfo& verb = schema_of(op.verb);
    bool vcpu_given = false;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      const Word& word = words_[i];
      if (word.text.substr(0, 5) == "vcpu=") {
        if (op.point != Point::kNone)
          return fail(word, "found vcpu= inside an `at` block; allowed: on the `at` line");
        if (vcpu_given) return fail(word, "found a second vcpu=; allowed: one");
        if (!vcpu(word, op.vcpu)) return false;
        vcpu_given = true;
      } else if (!field(verb, word, op)) {
        return false;
      }
    }
    for (const FieldInfo& f : verb.fields) {
      if (f.presence != Presence::kRequired || op.gives(f.id)) continue;
      return fail(raw_.size() + 1,
                  fmt::format("`{}` ends without {}", name_of(op.verb), missing(f)));
    }
    return true;
  }

  static std::string missing(const FieldInfo& f) {
    if (f.kind == FieldKind::kEnumWord) return "its kind: " + alternatives(f.names);
    if (f.kind == FieldKind::kRegister) return "REGISTER=, one of " + alternatives(f.names);
    return fmt::format("{}=", f.name);
  }

  bool field(const VerbInfo& verb, const Word& word, Op& op) {
    const std::size_t equals = word.text.find('=');
    const std::string_view name = word.text.substr(0, equals);
    if (equals == word.text.npos) {
      for (const FieldInfo& f : verb.fields) {
        if (f.kind == FieldKind::kEnumWord) return store(f, word, 0, op);
      }
    } else if (op.verb == Verb::kMov) {
      return move(verb, word, equals, op);
    } else if (const FieldInfo* raw = raw_field(verb); raw && name == "raw") {
      FieldInfo number = *raw;
      number.kind = FieldKind::kHex;
      return store(number, word, equals + 1, op);
    } else {
      for (const FieldInfo& f : verb.fields) {
        if (f.name == name && f.kind != FieldKind::kEnumWord) return store(f, word, equals + 1, op);
      }
    }
    return fail(word, fmt::format("found {}; `{}` takes {}", quoted(word.text), name_of(op.verb),
                                  field_names(verb)));
  }

  bool move(const VerbInfo& verb, const Word& word, std::size_t equals, Op& op) {
    const FieldInfo& which = verb.fields[0];
    if (op.gives(which.id))
      return fail(word, fmt::format("found {}; `mov` takes one register, `cpu` several",
                                    quoted(word.text)));
    const text::Value reg = text::read_value(which, word.text.substr(0, equals));
    if (!reg.error.empty()) return fail(word, fmt::format("register: {}", reg.error));
    set(op, which.id, reg.number);
    return store(resolve(verb.fields[1], op), word, equals + 1, op);
  }

  bool store(const FieldInfo& f, const Word& word, std::size_t offset, Op& op) {
    if (op.gives(f.id)) return fail(word, fmt::format("found a second {}; allowed: one", f.name));
    const text::Value value = text::read_value(f, word.text.substr(offset));
    if (!value.error.empty()) {
      return fail(word.column + offset + value.offset, fmt::format("{}: {}", f.name, value.error));
    }
    set(op, f.id, value.number);
    return true;
  }

  std::string_view text_, raw_;
  std::string file_;
  std::size_t position_ = 0, line_ = 0;
  std::vector<Word> words_;
  bool seen_walk_ = false, seen_machine_ = false;
  Point block_ = Point::kNone;  // of the `at` block that is open
  std::uint8_t block_vcpu_ = 0;
  std::size_t block_indent_ = 0, block_ops_ = 0;
  ParseResult result_;
};

}  // namespace

std::string to_text(const ParseError& e) {
  if (!e.line) return e.file.empty() ? e.message : fmt::format("{}: {}", e.file, e.message);
  return fmt::format("{}:{}:{}: {}", e.file.empty() ? "trace" : e.file, e.line, e.column,
                     e.message);
}

ParseResult parse(std::string_view text, std::string_view file) { return Parser(text, file).run(); }

}  // namespace twinwalk
