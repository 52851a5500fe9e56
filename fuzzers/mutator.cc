#include "fuzzers/mutator.h"

#include <algorithm>

#include "fuzzers/field_mutation.h"
#include "fuzzers/idioms.h"
#include "harness/trace/binary.h"

namespace twinwalk::fuzz {
namespace {

struct Range {
  std::size_t begin, size;
  auto first(std::vector<Op>& v) const { return v.begin() + static_cast<std::ptrdiff_t>(begin); }
  auto last(std::vector<Op>& v) const { return first(v) + static_cast<std::ptrdiff_t>(size); }
};

// A run of operations, short ones more often. Precondition: ops > 0.
Range any_range(Rng& rng, std::size_t ops) {
  const std::size_t begin = rng.below(ops);
  const std::size_t most = std::min<std::size_t>(ops - begin, std::size_t{1} << rng.below(5));
  return {begin, 1 + rng.below(most)};
}

// Positions near the end are better: operations before them keep their meaning, and the ones after
// are few.
std::size_t any_position(Rng& rng, std::size_t ops) {
  return rng.flip() ? ops : ops - rng.below(ops + 1);
}

// Short traces find the same in a fraction of the time; a long one now and then is for what needs a
// crowd.
std::size_t any_limit(Rng& rng) { return rng.chance(1, 64) ? kMaxFuzzOps : 72; }

void limit(Trace& trace, std::size_t most) {
  if (trace.ops.size() > most) trace.ops.resize(most);
}

// Lets a run of operations, on some other vCPU, happen inside the operation before it, or takes it
// out again.
void interleave(Rng& rng, const Machine& machine, std::vector<Op>& ops) {
  if (ops.size() < 2 || machine.vcpus < 2) return;
  const std::size_t begin = 1 + rng.below(ops.size() - 1);
  const std::size_t end = std::min(ops.size(), begin + 1 + rng.below(3));
  const bool inside = rng.chance(3, 4);
  const auto point = static_cast<Point>(1 + rng.below(static_cast<unsigned>(Point::kCount) - 1));
  const unsigned vcpu = ops[begin - 1].vcpu + 1 + rng.below(std::max(1, machine.vcpus - 1));
  for (std::size_t i = begin; i < end; ++i) {
    ops[i].point = inside ? point : Point::kNone;
    if (inside) ops[i].vcpu = static_cast<std::uint8_t>(vcpu % machine.vcpus);
  }
}

}  // namespace

void Mutator::survey_prefix(const Trace& trace, std::size_t ops) {
  survey_.begin(trace.machine);
  for (std::size_t i = 0; i < ops; ++i) survey_.absorb(trace.ops[i]);
}

void Mutator::generate(Rng& rng, std::size_t most, Trace& out) {
  out.clear();
  out.machine = any_machine(rng);
  config_.constrain(out.machine);
  const std::size_t want = std::min<std::size_t>(most, 8 + rng.below(rng.chance(1, 4) ? 180 : 56));
  survey_.begin(out.machine);
  Sketch sketch(rng, survey_, out.ops);
  while (out.ops.size() < want) {
    if (rng.chance(1, 16)) sketch.use_vcpu(rng.below(out.machine.vcpus));
    write_any_idiom(sketch);
  }
  limit(out, most);
  for (unsigned n = config_.interleaves ? rng.below(8) : 0; n > 0; --n)
    interleave(rng, out.machine, out.ops);
}

void Mutator::insert_idiom(Rng& rng, Trace& trace, std::size_t at) {
  survey_prefix(trace, at);
  fragment_.clear();
  Sketch sketch(rng, survey_, fragment_);
  if (trace.machine.vcpus > 1) sketch.use_vcpu(rng.below(trace.machine.vcpus));
  write_any_idiom(sketch);
  trace.ops.insert(trace.ops.begin() + static_cast<std::ptrdiff_t>(at), fragment_.begin(),
                   fragment_.end());
}

void Mutator::insert_any(Rng& rng, Trace& trace) {
  const std::size_t at = any_position(rng, trace.ops.size());
  survey_prefix(trace, at);
  const Op op = any_op(rng, any_verb(rng), survey_);
  trace.ops.insert(trace.ops.begin() + static_cast<std::ptrdiff_t>(at), op);
}

void Mutator::change_once(Rng& rng, std::size_t most, Trace& trace) {
  std::vector<Op>& ops = trace.ops;
  const std::uint32_t choice = ops.empty() ? 0 : rng.below(64);
  if (choice < 22) {  // room for it, by dropping from the front of the tail
    if (ops.size() + 8 > most && !ops.empty()) {
      const Range r = any_range(rng, ops.size());
      ops.erase(r.first(ops), r.last(ops));
    }
    insert_idiom(rng, trace, any_position(rng, ops.size()));
  } else if (choice < 38) {
    const std::size_t at = rng.below(ops.size());
    survey_prefix(trace, at);
    change_field(rng, ops[at], survey_);
  } else if (choice < 44) {
    insert_any(rng, trace);
  } else if (choice < 50) {
    const Range r = any_range(rng, ops.size());
    ops.erase(r.first(ops), r.last(ops));
  } else if (choice < 55) {  // repeat a run elsewhere
    const Range r = any_range(rng, ops.size());
    fragment_.assign(r.first(ops), r.last(ops));
    const std::size_t at = rng.flip() ? r.begin + r.size : any_position(rng, ops.size());
    ops.insert(ops.begin() + static_cast<std::ptrdiff_t>(at), fragment_.begin(), fragment_.end());
  } else if (choice < 58) {
    std::swap(ops[rng.below(ops.size())], ops[rng.below(ops.size())]);
  } else if (choice < 61) {  // move a run
    const Range r = any_range(rng, ops.size());
    fragment_.assign(r.first(ops), r.last(ops));
    ops.erase(r.first(ops), r.last(ops));
    ops.insert(ops.begin() + rng.below(ops.size() + 1), fragment_.begin(), fragment_.end());
  } else if (choice < 63) {
    change_machine(rng, trace.machine);
    config_.constrain(trace);
  } else {
    generate(rng, most, trace);
  }
}

void Mutator::mutate(Rng& rng, std::size_t most, Trace& trace) {
  config_.constrain(trace);
  limit(trace, most);
  if (trace.ops.empty()) return generate(rng, most, trace);
  const unsigned times = 1 + (rng.flip() ? rng.below(3) : 0);
  for (unsigned i = 0; i < times; ++i) change_once(rng, most, trace);
  if (trace.ops.empty()) insert_idiom(rng, trace, 0);
  if (config_.interleaves && rng.chance(1, 3)) interleave(rng, trace.machine, trace.ops);
  limit(trace, most);
}

void Mutator::cross(Rng& rng, std::size_t most, const Trace& a, const Trace& b, Trace& out) {
  out.clear();
  out.machine = a.machine;
  const auto take = [&](const Trace& from, std::size_t begin, std::size_t end) {
    out.ops.insert(out.ops.end(), from.ops.begin() + static_cast<std::ptrdiff_t>(begin),
                   from.ops.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const std::size_t cut = rng.below(a.ops.size() + 1);
  const std::size_t from = rng.below(b.ops.size() + 1);
  take(a, 0, cut);
  if (rng.flip()) {  // a's head, b's tail
    take(b, from, b.ops.size());
  } else {  // a run of b inside a
    const std::size_t end = from + rng.below(b.ops.size() - from + 1);
    take(b, from, end);
    take(a, cut, a.ops.size());
  }
  config_.constrain(out);
  if (out.ops.empty()) insert_idiom(rng, out, 0);
  limit(out, most);
}

std::size_t Mutator::put(Trace& trace, std::span<std::uint8_t> out) {
  for (;;) {
    encode_raw(trace, bytes_);
    if (bytes_.size() <= out.size()) break;
    if (trace.ops.empty()) return 0;
    // Encoded operations differ little in size: one or two rounds.
    const std::size_t fits = trace.ops.size() * out.size() / bytes_.size();
    trace.ops.resize(std::min(fits, trace.ops.size() - 1));
  }
  std::copy(bytes_.begin(), bytes_.end(), out.begin());
  return bytes_.size();
}

std::size_t Mutator::mutate(std::uint8_t* data, std::size_t size, std::size_t max_size,
                            std::uint64_t seed) {
  Rng rng(seed);
  decode({data, size}, first_);
  mutate(rng, any_limit(rng), first_);
  return put(first_, {data, max_size});
}

std::size_t Mutator::cross(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                           std::span<std::uint8_t> out, std::uint64_t seed) {
  Rng rng(seed);
  decode(a, first_);
  decode(b, second_);
  cross(rng, any_limit(rng), first_, second_, result_);
  return put(result_, out);
}

}  // namespace twinwalk::fuzz
