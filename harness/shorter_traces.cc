#include "harness/shorter_traces.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "harness/simpler_ops.h"
#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::size_t kMostReplaced = 6, kMostInstead = 2;

// Without the operations at `chosen`, which are in ascending order.
Trace without_all(const Trace& trace, const std::vector<std::size_t>& chosen) {
  Trace out = trace;
  for (std::size_t n = chosen.size(); n-- > 0;) out = without(out, chosen[n], 1);
  return out;
}

// The set of the same size that comes before `chosen`, later operations first: they need the
// earlier ones more often than the other way round. False: there is none.
bool previous_set(std::vector<std::size_t>& chosen) {
  for (std::size_t n = 0; n < chosen.size(); ++n) {
    if (chosen[n] == n) continue;
    --chosen[n];
    for (std::size_t below = n; below-- > 0;) chosen[below] = chosen[below + 1] - 1;
    return true;
  }
  return false;
}

// Ways to another address: the next ones of each size of page and of table.
std::vector<std::uint64_t> distances() {
  std::vector<std::uint64_t> out = {0};
  for (const unsigned shift : {39, 30, 21, 12})
    for (std::uint64_t times = 1; times <= 3; ++times) out.push_back(times << shift);
  return out;
}

bool has_gva(const Op& op) {
  return std::ranges::any_of(schema_of(op.verb).fields,
                             [](const FieldInfo& f) { return f.id == Field::kGva; });
}

// Instead of `count` operations from `first` on, `copies` of those from `from` on.
Trace exchanged(const Trace& trace, std::size_t first, std::size_t count, std::size_t from,
                std::size_t copies, std::uint64_t distance) {
  Trace out = without(trace, first + copies, count - copies);
  std::erase_if(out.expectations,
                [=](const Expectation& e) { return e.op >= first && e.op < first + copies; });
  for (std::size_t n = 0; n < copies; ++n) {
    Op op = trace.ops[from + n];
    if (has_gva(op)) op.gva ^= distance;
    out.ops[first + n] = op;
  }
  return out;
}

}  // namespace

Trace without(const Trace& trace, std::size_t first, std::size_t count) {
  Trace out = trace;
  const auto at = out.ops.begin() + static_cast<std::ptrdiff_t>(first);
  out.ops.erase(at, at + static_cast<std::ptrdiff_t>(count));
  std::erase_if(out.expectations,
                [=](const Expectation& e) { return e.op >= first && e.op < first + count; });
  for (Expectation& e : out.expectations) {
    if (e.op >= first) e.op -= static_cast<std::uint32_t>(count);
  }
  if (!out.ops.empty()) out.ops[0].point = Point::kNone;  // a block is inside something
  return out;
}

bool drop_together(const Trace& trace, std::size_t size, const TakeTrace& take) {
  if (trace.ops.size() < size) return false;
  std::vector<std::size_t> chosen;
  for (std::size_t n = trace.ops.size() - size; n < trace.ops.size(); ++n) chosen.push_back(n);
  do {
    if (take(without_all(trace, chosen))) return true;
  } while (previous_set(chosen));
  return false;
}

bool drop_and_simplify(const Trace& trace, const TakeTrace& take) {
  for (std::size_t kept = 0; kept < trace.ops.size(); ++kept) {
    for (const Op& op : simpler(trace.ops[kept])) {
      Trace changed = trace;
      changed.ops[kept] = op;
      for (std::size_t gone = trace.ops.size(); gone-- > 0;) {
        if (gone != kept && take(without(changed, gone, 1))) return true;
      }
    }
  }
  return false;
}

bool exchange_neighbours(const Trace& trace, const TakeTrace& take) {
  static const std::vector<std::uint64_t> kDistances = distances();
  const std::size_t size = trace.ops.size();
  for (std::size_t copies = 1; copies <= kMostInstead; ++copies) {
    for (std::size_t count = copies + 1; count <= std::min(kMostReplaced, size); ++count) {
      for (std::size_t first = size - count + 1; first-- > 0;) {
        for (std::size_t from = 0; from + copies <= size; ++from) {
          const auto begin = trace.ops.begin() + static_cast<std::ptrdiff_t>(from);
          const bool movable =
              std::any_of(begin, begin + static_cast<std::ptrdiff_t>(copies), has_gva);
          for (const std::uint64_t distance : kDistances) {
            if (distance != 0 && !movable) break;
            if (take(exchanged(trace, first, count, from, copies, distance))) return true;
          }
        }
      }
    }
  }
  return false;
}

}  // namespace twinwalk
