#include "harness/simpler_ops.h"

#include <cstdint>

namespace twinwalk {

std::vector<Op> simpler_in(const Op& op, const FieldInfo& info) {
  std::vector<Op> out;
  if (!says(op, info)) return out;
  if (info.presence != Presence::kRequired) {
    out.push_back(op);
    out.back().given &= ~given_bit(info.id);
    out.back().*info.member = info.fallback;
  }
  const FieldInfo field = resolve(info, op);
  const std::uint64_t value = op.*info.member;
  // Fewer bits where bits mean something by themselves, whole pages and small counts elsewhere.
  for (std::uint64_t less : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3},
                             value & ~std::uint64_t{0xfff}, value & 0xfff}) {
    less = make_legal(field, less);
    if (less >= value) continue;
    out.push_back(op);
    out.back().*info.member = less;
  }
  return out;
}

std::optional<Op> without_bit(const Op& op, const FieldInfo& info, unsigned n) {
  if (!says(op, info) || !(op.*info.member >> n & 1)) return {};
  const FieldInfo field = resolve(info, op);
  if (field.kind != FieldKind::kBits && field.kind != FieldKind::kEntry &&
      field.kind != FieldKind::kRoot && field.kind != FieldKind::kData)
    return {};
  Op less = op;
  less.*info.member &= ~bit(n);
  if (!legal(field, less.*info.member)) return {};
  return less;
}

std::vector<Op> simpler(const Op& op) {
  std::vector<Op> out;
  if (op.vcpu != 0) {
    out.push_back(op);
    out.back().vcpu = 0;
  }
  for (const FieldInfo& field : schema_of(op.verb).fields) {
    for (const Op& less : simpler_in(op, field)) out.push_back(less);
    for (unsigned n = 0; n < 64; ++n)
      if (const std::optional<Op> less = without_bit(op, field, n)) out.push_back(*less);
  }
  return out;
}

}  // namespace twinwalk
