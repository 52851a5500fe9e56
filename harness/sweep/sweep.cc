#include "harness/sweep/sweep.h"

#include <algorithm>
#include <memory>
#include <unordered_set>
#include <utility>

#include "harness/checker.h"
#include "harness/sweep/layout.h"
#include "harness/sweep/sweep_case.h"
#include "harness/trace/print.h"
#include "oracle/spec.h"

namespace twinwalk::sweep {
namespace {

constexpr std::size_t kUnicornBatch = 64;     // representatives a trace
constexpr std::uint64_t kProgressEvery = 64;  // programs

// A case of the program at hand.
struct Pending {
  std::uint32_t step = 0;
  SweepCase what;
};

void mix(std::uint64_t& hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e37'79b9'7f4a'7c15u;
  hash ^= hash >> 29;
}

// Cases that no walker may tell apart: the same rights and state where the walk ends, the same
// controls that can matter there, the same access, the same result and the same change of the
// entries.
std::uint64_t class_of(const SweepCase& c, const Outcome& got, std::size_t block) {
  std::uint64_t h = block;
  const Registers& r = c.registers;
  const bool pke = r.cr4 & cr4::kPke;
  const unsigned top = is_long(c.machine.mode) ? 63 : 31;
  mix(h, static_cast<std::uint64_t>(c.kind) | c.implicit << 2 | (r.cpl == 3) << 3 | r.ac << 4 |
             std::uint64_t{c.leaf_level} << 5 | std::uint64_t{c.size} << 8 |
             ((c.gva & 4095) + c.size > 4096) << 12 | (c.gva >> top & 1) << 13 |
             std::uint64_t{c.machine.vendor == Vendor::kAmd} << 14);
  mix(h, (r.cr0 & cr0::kWp) | (r.cr4 & (cr4::kPse | cr4::kSmep | cr4::kSmap | cr4::kPke)) |
             (r.efer & efer::kNxe));
  mix(h, pke ? r.pkru : 0);
  mix(h, got.qualification | std::uint64_t{c.target} << 40 | std::uint64_t{c.flags} << 44);
  mix(h, static_cast<std::uint64_t>(got.kind) | std::uint64_t{got.error_code} << 8 |
             (got.cr2 != c.gva && got.kind == OutcomeKind::kPageFault) << 30);
  for (const Path& path : got.path) {
    std::uint64_t every = ~std::uint64_t{0}, any = 0;
    for (unsigned i = 0; i < path.count; ++i) every &= path.entry[i], any |= path.entry[i];
    mix(h, path.count | (every & (pte::kW | pte::kU | pte::kA | pte::kD)) | (any & pte::kXd) |
               (path.count ? path.entry[path.count - 1] & (pte::kP | pte::kD) : 0) << 20);
  }
  return h;
}

class Sweeper {
 public:
  Sweeper(Subject& subject, const SweepOptions& options) : subject_(subject), options_(options) {
    left_out_.resize(filters(options.nesting).size());
    if (options.unicorn) checker_ = std::make_unique<Checker>(subject, options.unicorn);
  }

  SweepResult run() {
    const std::vector<Block>& all = blocks(options_.nesting);
    for (std::size_t i = 0; i < all.size() && !stopped(); ++i) {
      const Block& block = all[i];
      if (!options_.only.empty() && options_.only != block.name) continue;
      if (options_.mode && *options_.mode != block.mode) continue;
      result_.blocks.push_back({std::string(name_of(block.mode)) + " " + std::string(block.name),
                                std::string(block.about), 0, 0, 0});
      block_ = &block;
      block_index_ = i;
      count_ = &result_.blocks.back();
      seen_.clear();
      next_program_ = 0;
      turn_program_axis(0, base_case(block));
      flush_representatives();
      count_->classes = seen_.size();
      result_.classes += seen_.size();
    }
    for (std::size_t i = 0; i < left_out_.size(); ++i) {
      result_.left_out.push_back({std::string(filters(options_.nesting)[i].reason), left_out_[i]});
    }
    result_.stopped = stopped();
    return std::move(result_);
  }

 private:
  bool stopped() const {
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }

  bool filtered(const SweepCase& c, Scope scope) {
    const std::span<const Filter> all = filters(options_.nesting);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].scope != scope || !all[i].applies(c)) continue;
      ++left_out_[i];
      return true;
    }
    return false;
  }

  // Axes are turned like the wheels of a counter; `c` has the values of those before `axis`.
  void turn_program_axis(std::size_t axis, const SweepCase& c) {
    if (axis == block_->axes.size() || block_->axes[axis].scope == Scope::kAccess)
      return run_program(axis, c);
    for (const AxisValue& value : block_->axes[axis].values) {
      if (stopped()) return;
      SweepCase next = c;
      apply(value.change, next);
      turn_program_axis(axis + 1, next);
    }
  }

  void run_program(std::size_t first_access_axis, const SweepCase& c) {
    if (filtered(c, Scope::kProgram)) return;
    if (next_program_++ % options_.shards != options_.shard) return;
    writer_.begin(c);
    pending_.clear();
    if (!block_->rewrite) writer_.write_entries(c);
    turn_access_axis(first_access_axis, c);
    judge();
    ++count_->programs;
    if (options_.progress && count_->programs % kProgressEvery == 0) {
      options_.progress({count_->name, count_->programs, result_.cases, result_.diverge});
    }
  }

  void turn_access_axis(std::size_t axis, const SweepCase& c) {
    if (axis == block_->axes.size()) {
      if (filtered(c, Scope::kAccess)) return;
      if (block_->rewrite) writer_.write_entries(c);
      pending_.push_back({writer_.append(c), c});
      return;
    }
    for (const AxisValue& value : block_->axes[axis].values) {
      SweepCase next = c;
      apply(value.change, next);
      turn_access_axis(axis + 1, next);
    }
  }

  void judge() {
    const Program& program = writer_.program();
    subject_.run(program, outcomes_);
    spec_.reset(program.machine, subject_.info().profile);
    result_.steps += program.steps.size();
    std::size_t next = 0;
    for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
      spec_.judge(i, program.steps[i], outcomes_.steps[i], outcomes_.extra.data(), verdict_);
      const bool is_case = next < pending_.size() && pending_[next].step == i;
      if (is_case || verdict_.kind == VerdictKind::kDiverge)
        note(i, pending_[std::min(next, pending_.size() - 1)], is_case);
      next += is_case;
    }
  }

  void note(std::uint32_t step, const Pending& pending, bool is_case) {
    const Outcome& got = outcomes_.steps[step];
    if (is_case) {
      ++result_.cases;
      ++count_->cases;
      ++result_.by_outcome[static_cast<std::size_t>(got.kind)];
      if (seen_.insert(class_of(pending.what, got, block_index_)).second) represent(pending.what);
    }
    switch (verdict_.kind) {
      case VerdictKind::kAgree:
        ++result_.agree;
        return;
      case VerdictKind::kSkip:
        ++result_.skip;
        return;
      case VerdictKind::kUnspecified:
        ++result_.unspecified;
        return;
      case VerdictKind::kDiverge:
        ++result_.diverge;
        ++result_.by_class[static_cast<std::size_t>(verdict_.divergence)];
        if (result_.mismatches.size() < options_.max_mismatches) keep_mismatch(step, pending.what);
        return;
    }
  }

  // --- what to show of a mismatch ------------------------------------------

  void keep_mismatch(std::uint32_t step, const SweepCase& c) {
    SweepMismatch m;
    m.block = count_->name;
    m.what = describe(c);
    m.verdict = verdict_;
    CaseWriter alone;
    alone.begin(c);
    alone.write_entries(c);
    alone.append(c);
    m.alone = diverges(alone.program());
    Trace trace;
    (m.alone ? alone : writer_).copy_to(trace);
    if (!m.alone) trace.ops.resize(step + 1);
    m.trace = print(trace);
    result_.mismatches.push_back(std::move(m));
  }

  bool diverges(const Program& program) {
    oracle::Spec spec;
    OutcomeStream outcomes;
    Verdict v;
    subject_.run(program, outcomes);
    spec.reset(program.machine, subject_.info().profile);
    for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
      spec.judge(i, program.steps[i], outcomes.steps[i], outcomes.extra.data(), v);
      if (v.kind == VerdictKind::kDiverge) return true;
    }
    return false;
  }

  static std::string describe(const SweepCase& c) {
    std::string text = print(c.machine);
    constexpr std::string_view kNames[] = {"", "pte", "pde", "pdpte", "pml4e", "pml5e"};
    for (unsigned level = levels_of(c.machine.mode); level >= c.leaf_level; --level) {
      text += " " + std::string(kNames[level]) + "=" + entry_text(c.entry[level]);
    }
    if (c.machine.nested != Nesting::kNone) text += nested_text(c);
    text += " cr0=" + bits_text(c.registers.cr0, cr0::kNames) +
            " cr4=" + bits_text(c.registers.cr4, cr4::kNames) +
            " efer=" + bits_text(c.registers.efer, efer::kNames) +
            " pkru=" + std::to_string(c.registers.pkru) +
            " cpl=" + std::to_string(c.registers.cpl) + " ac=" + std::to_string(c.registers.ac);
    text += std::string(c.implicit ? " implicit " : " ") + std::string(name_of(c.kind)) +
            " size=" + std::to_string(c.size);
    return text;
  }

  static std::string nested_text(const SweepCase& c) {
    std::string text = " target=" + std::string(c.target == 0 ? "data" : "table") +
                       std::to_string(c.target) + " flags=" + std::to_string(c.flags);
    for (unsigned level = nested_levels(c.machine); level >= c.nested_leaf_level; --level) {
      text += " nested" + std::to_string(level) + "=" +
              (c.machine.nested == Nesting::kEpt ? bits_text(c.nested[level], ept::kNames)
                                                 : entry_text(c.nested[level]));
    }
    return text;
  }

  // --- representatives for Unicorn -----------------------------------------

  void represent(const SweepCase& c) {
    if (!checker_) return;
    if (!representatives_.empty() && !(representatives_.front().machine == c.machine))
      flush_representatives_later();
    representatives_.push_back(c);
    if (representatives_.size() == kUnicornBatch) flush_representatives_later();
  }

  // The subject and outcomes of the program at hand are still in use: the batch runs after it.
  void flush_representatives_later() {
    batches_.push_back(std::move(representatives_));
    representatives_.clear();
  }

  void flush_representatives() {
    if (!representatives_.empty()) flush_representatives_later();
    for (const std::vector<SweepCase>& batch : batches_) ask_unicorn(batch);
    batches_.clear();
  }

  void ask_unicorn(const std::vector<SweepCase>& batch) {
    CaseWriter writer;
    writer.begin(batch.front());
    for (const SweepCase& c : batch) {
      writer.write_entries(c);
      writer.append(c);
    }
    const CheckResult r = checker_->check(nullptr, writer.program(), [&](const CheckEvent& e) {
      if (e.verdict.kind != VerdictKind::kDiverge || e.known) return;
      if (e.verdict.divergence != DivergenceClass::kReferenceDisagreement) return;
      ++result_.unicorn_disagreements;
      ++result_.by_class[static_cast<std::size_t>(e.verdict.divergence)];
      if (result_.mismatches.size() >= options_.max_mismatches) return;
      keep_disagreement(writer, e);
    });
    result_.unicorn_checks += r.unicorn_checks;
    result_.unicorn_skipped += r.unicorn_skipped;
    result_.unicorn_known += r.known;
    result_.unicorn_died |= r.unicorn_died;
  }

  void keep_disagreement(const CaseWriter& writer, const CheckEvent& e) {
    SweepMismatch m;
    m.block = count_->name;
    m.what = print(e.what.what);
    m.verdict = e.verdict;
    m.alone = false;
    Trace trace;
    writer.copy_to(trace);
    trace.ops.resize(e.step + 1);
    m.trace = print(trace);
    result_.mismatches.push_back(std::move(m));
  }

  Subject& subject_;
  const SweepOptions& options_;
  SweepResult result_;
  const Block* block_ = nullptr;
  std::size_t block_index_ = 0;
  SweepBlockCount* count_ = nullptr;
  std::uint64_t next_program_ = 0;
  std::vector<std::uint64_t> left_out_;
  CaseWriter writer_;
  std::vector<Pending> pending_;
  OutcomeStream outcomes_;
  oracle::Spec spec_;
  Verdict verdict_;
  std::unordered_set<std::uint64_t> seen_;  // asked for membership only
  std::unique_ptr<Checker> checker_;
  std::vector<SweepCase> representatives_;
  std::vector<std::vector<SweepCase>> batches_;
};

}  // namespace

SweepResult run_sweep(Subject& subject, const SweepOptions& options) {
  return Sweeper(subject, options).run();
}

}  // namespace twinwalk::sweep
