#include "oracle/spec.h"

#include "oracle/access.h"
#include "oracle/judge.h"
#include "oracle/machine_state.h"
#include "oracle/make_view.h"
#include "oracle/overlap.h"

namespace twinwalk::oracle {

struct Spec::Impl {
  MachineState state;
  Counters counters;
};

Spec::Spec() : impl_(std::make_unique<Impl>()) { reset(Machine{}, Profile::kKvm); }
Spec::~Spec() = default;

void Spec::reset(const Machine& machine, Profile profile) { impl_->state.reset(machine, profile); }

void Spec::observe(SpecObserver* observer) { impl_->state.observer = observer; }

void Spec::judge(std::uint32_t index, const Step& step, const Outcome& got,
                 const std::uint64_t* extra, Verdict& out) {
  out.kind = VerdictKind::kAgree;
  out.divergence = DivergenceClass::kNone;
  out.rule = nullptr;
  out.field = {};
  out.got.clear();
  out.allowed.clear();
  ++impl_->counters.checks;
  if (const Rule* rule = impl_->state.lost_by()) [[unlikely]] {
    if (got.kind == OutcomeKind::kSkip) return;
    ++impl_->counters.unspecified;
    return unspecified(out, *rule, "outcome", to_text(got), "what a search that gave up left open");
  }
  judge_step(impl_->state, {index, &step, &got, extra}, impl_->counters, out);
}

bool Spec::lost_track() const { return impl_->state.lost_by() != nullptr; }

void Spec::under_way(const Step& step) { leave_open_under_way(impl_->state, step); }
void Spec::under_way_no_more(const Step& step) { take_back_under_way(impl_->state, step); }
bool Spec::shows(const Step& step, const Outcome& got) {
  return adopt_later_path(impl_->state, step, got);
}

FreshOutcome Spec::fresh(unsigned vcpu, const AccessQuery& query) const {
  impl_->state.look_as(vcpu);
  if (impl_->state.vcpu(vcpu).guest.active()) return fresh_in_guest(impl_->state, vcpu, query);
  FreshAccess access;
  const AccessContext context = make_context(impl_->state, vcpu, query);
  fresh_access(impl_->state, context, access);
  return to_fresh_outcome(context, access);
}

WalkView Spec::view(unsigned vcpu, const AccessQuery& query) const {
  impl_->state.look_as(vcpu);
  return impl_->state.vcpu(vcpu).guest.active() ? make_guest_view(impl_->state, vcpu, query)
                                                : make_view(impl_->state, vcpu, query);
}

bool Spec::in_guest(unsigned vcpu) const { return impl_->state.vcpu(vcpu).guest.active(); }
bool Spec::in_smm(unsigned vcpu) const { return impl_->state.vcpu(vcpu).smm; }
const Machine& Spec::machine() const { return impl_->state.machine(); }
const Registers& Spec::registers(unsigned vcpu) const { return impl_->state.vcpu(vcpu).registers; }

std::uint64_t Spec::read_word(std::uint64_t gpa) const {
  impl_->state.look_at(0);
  return impl_->state.load_word(gpa);
}

std::uint64_t Spec::open_bits(std::uint64_t gpa, std::uint64_t got) const {
  const std::uint64_t want = read_word(gpa), open = impl_->state.open_bits(gpa);
  // SDM 3A §"Accessed and Dirty Flags": a processor may set A for accesses that it only speculates.
  const bool speculates =
      impl_->state.profile() == Profile::kArchitecture && (want & got & pte::kP);
  return speculates ? open | (pte::kA & ~want) : open;
}

void Spec::write_word(std::uint64_t gpa, std::uint64_t value) {
  impl_->state.look_at(0);
  impl_->state.store_word(gpa, value, Hand::kHost);
}

const Counters& Spec::counters() const { return impl_->counters; }

}  // namespace twinwalk::oracle
