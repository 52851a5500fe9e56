// Operations and the `at` lines above them.

#include <fmt/format.h>

#include "harness/trace/parse_line.h"
#include "harness/trace/schema.h"
#include "harness/trace/value_text.h"

namespace twinwalk::text {
namespace {

constexpr std::string_view kVcpu = "vcpu=";

bool is_vcpu(const Word& word) { return word.text.substr(0, kVcpu.size()) == kVcpu; }

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

std::string missing(const FieldInfo& f) {
  if (f.kind == FieldKind::kEnumWord) return "its kind: " + alternatives(f.names);
  if (f.kind == FieldKind::kRegister) return "REGISTER=, one of " + alternatives(f.names);
  return fmt::format("{}=", f.name);
}

MaybeWrong store(const FieldInfo& f, const Word& word, std::size_t offset, Op& op) {
  if (op.gives(f.id)) return wrong(word, fmt::format("found a second {}; allowed: one", f.name));
  const Value value = read_value(f, word.text.substr(offset));
  if (!value.error.empty()) {
    return Wrong{word.column + offset + value.offset, fmt::format("{}: {}", f.name, value.error)};
  }
  set(op, f.id, value.number);
  return {};
}

MaybeWrong move(const VerbInfo& verb, const Word& word, std::size_t equals, Op& op) {
  const FieldInfo& which = verb.fields[0];
  if (op.gives(which.id))
    return wrong(
        word, fmt::format("found {}; `mov` takes one register, `cpu` several", quoted(word.text)));
  const Value reg = read_value(which, word.text.substr(0, equals));
  if (!reg.error.empty()) return wrong(word, fmt::format("register: {}", reg.error));
  set(op, which.id, reg.number);
  return store(resolve(verb.fields[1], op), word, equals + 1, op);
}

MaybeWrong field(const VerbInfo& verb, const Word& word, Op& op) {
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
  return wrong(word, fmt::format("found {}; `{}` takes {}", quoted(word.text), name_of(op.verb),
                                 field_names(verb)));
}

MaybeWrong read_vcpu(const Word& word, unsigned vcpus, std::uint8_t& out) {
  if (!is_vcpu(word))
    return wrong(word, fmt::format("found {}; allowed: vcpu=", quoted(word.text)));
  const std::string_view text = word.text.substr(kVcpu.size());
  const auto number = read_number(text);
  if (!number || *number >= vcpus) {
    return Wrong{word.column + kVcpu.size(),
                 fmt::format("vcpu: found {}; allowed: 0 to {} (the machine has {})", quoted(text),
                             vcpus - 1, vcpus)};
  }
  out = static_cast<std::uint8_t>(*number);
  return {};
}

MaybeWrong read_verb(const Word& word, Verb& out) {
  std::string names;
  for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
    out = static_cast<Verb>(v);
    if (word.text == name_of(out)) return {};
    names += fmt::format("{}{}", v ? " " : "", name_of(out));
  }
  return wrong(word, fmt::format("found {}; a verb is one of {}", quoted(word.text), names));
}

}  // namespace

MaybeWrong read_at(const std::vector<Word>& words, std::size_t end, unsigned vcpus, Point& point,
                   std::uint8_t& vcpu) {
  const Word found = words.size() > 1 ? words[1] : Word{"", end};
  std::string names;
  point = Point::kNone;
  for (unsigned p = 1; p < static_cast<unsigned>(Point::kCount); ++p) {
    const std::string_view name = name_of(static_cast<Point>(p));
    if (found.text == name) point = static_cast<Point>(p);
    names += fmt::format("{}{}", p == 1 ? "" : ", ", name);
  }
  if (point == Point::kNone) {
    return wrong(found, fmt::format("found {}; allowed: {}", quoted(found.text), names));
  }
  vcpu = 0;
  if (words.size() > 3) {
    return wrong(words[3],
                 fmt::format("found {}; allowed: at POINT vcpu=N", quoted(words[3].text)));
  }
  return words.size() > 2 ? read_vcpu(words[2], vcpus, vcpu) : MaybeWrong();
}

MaybeWrong read_op(const std::vector<Word>& words, std::size_t end, unsigned vcpus, Op& op) {
  const Op given = op;
  Verb verb;
  if (MaybeWrong bad = read_verb(words[0], verb)) return bad;
  op = make_op(verb);
  op.point = given.point, op.vcpu = given.vcpu, op.line = given.line;

  const VerbInfo& schema = schema_of(verb);
  bool vcpu_seen = false;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const Word& word = words[i];
    MaybeWrong bad;
    if (!is_vcpu(word)) {
      bad = field(schema, word, op);
    } else if (op.point != Point::kNone) {
      bad = wrong(word, "found vcpu= inside an `at` block; allowed: on the `at` line");
    } else if (vcpu_seen) {
      bad = wrong(word, "found a second vcpu=; allowed: one");
    } else {
      vcpu_seen = true;
      bad = read_vcpu(word, vcpus, op.vcpu);
    }
    if (bad) return bad;
  }
  for (const FieldInfo& f : schema.fields) {
    if (f.presence != Presence::kRequired || op.gives(f.id)) continue;
    return Wrong{end, fmt::format("`{}` ends without {}", name_of(verb), missing(f))};
  }
  return {};
}

}  // namespace twinwalk::text
