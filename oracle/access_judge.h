#ifndef TWINWALK_ORACLE_ACCESS_JUDGE_H_
#define TWINWALK_ORACLE_ACCESS_JUDGE_H_

// Judges one access step and follows it. Between the folder's own files only:
// others call judge_access (judge.h).

#include "oracle/access.h"
#include "oracle/judge.h"
#include "oracle/observation.h"
#include "oracle/stale_match.h"
#include "oracle/ways.h"

namespace twinwalk::oracle {

class AccessJudge {
 public:
  AccessJudge(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out)
      : state_(state),
        got_(*in.got),
        index_(in.index),
        counters_(counters),
        out_(out),
        query_(query_of(*in.step, state.vcpu(in.step->what.vcpu).registers)),
        context_(make_context(state, in.step->what.vcpu, query_)),
        store_(stores(query_.kind)) {}
  AccessJudge(const AccessJudge&) = delete;
  AccessJudge& operator=(const AccessJudge&) = delete;

  void run();

 private:
  static constexpr std::uint64_t kAd = pte::kA | pte::kD;

  // Where the bytes of an access landed, once it is settled.
  struct Landing {
    std::uint64_t gpa[2] = {0, 0};
  };

  bool kvm() const { return state_.profile() != Profile::kArchitecture; }
  bool amd() const { return state_.machine().vendor == Vendor::kAmd; }
  const AccessQuery& query() const { return query_; }
  bool same_byte(std::uint64_t a, std::uint64_t b) const {
    return state_.memory().slots().same_byte(a, b);
  }
  Landing fresh_landing() const { return {{fresh_.part[0].walk.gpa, fresh_.part[1].walk.gpa}}; }

  unsigned entry_bytes() const { return context_.rules->mode->entry_bytes; }

  // --- The straight line, in judge_access.cc.
  void run_wrapping();
  void run_defined();
  void tell_observer();
  bool fresh_matches();
  // A load that completes may have been begun before, by another way, and read A or D that it set.
  void open_what_was_set_before();
  // A load that completes shows A and D bits of the words it reads that were open.
  void settle_loaded();
  Loaded loaded_from(const Landing& landing) const;
  // Open bits of what was loaded become those that the load gave; then they are open no more.
  void show_loaded(const Landing& landing);
  void settle_bytes(const Landing& landing);
  // vendor=amd: whether an open bit makes a PDPTE reserved.
  void settle_open_pdptes();
  // An access shows whether a PDPTE is present of which that is not known.
  void settle_doubtful_pdptes();
  // A or D that is open may still have to be set; in a read-only memslot that is undefined.
  void note_open_in_read_only();
  bool path_equals(unsigned i) const;
  void store_data(const Landing& landing, std::uint64_t old);
  // Which stores a shadow MMU can see, decides by which gfn they went (rule virtual-31).
  Hand hand_of_store(const Landing& landing, unsigned part) {
    const bool aliased = state_.memory().slots().is_aliased(landing.gpa[part]);
    return aliased && went_by_another_gfn(landing.gpa[part], part) ? Hand::kHost : Hand::kGuest;
  }
  // False: the entries are wrong; out_ says so and nothing was changed.
  bool settle_fresh_completion();
  // After a completion that the fresh walk gives. `ways`: those that may have set flags off the
  // path, or null.
  void settle_entries(const Ways* ways);
  void deliver_fault(unsigned which);
  bool settle_fresh_fault();
  void leave_canonical_half_open();
  void adopt_fresh();

  // --- A and D, and what else a step leaves in the entries, in judge_entries.cc.
  // The store goes to an entry of its own path.
  bool store_touches_path(const Landing& landing) const;
  // An entry may have D after the step only if it maps a page that this access may write, or had it
  // before.
  bool may_become_dirty(std::uint64_t entry_gpa, const Ways* ways) const;
  // A shown walk of this access uses the word as an entry that has A and D.
  bool is_used_with_flags(std::uint64_t entry_gpa) const;
  void wrong_entry(const Rule& rule, DivergenceClass divergence, unsigned i, unsigned s,
                   std::uint64_t want);
  // Whether the subject changed nothing in the entries that it must not. Says so in out_ if it did.
  // `may_write`: the step may set D in the leaf; `ways`, if not null: and where one of them does,
  // on bare hardware.
  bool changes_are_lawful(bool may_write, const Ways* ways = nullptr);
  // Takes over the entries as the subject has them.
  void adopt_path();
  void show(std::uint64_t entry_gpa, std::uint64_t value) {
    state_.show_entry(entry_gpa, entry_bytes(), value);
  }
  void set_bits(std::uint64_t entry_gpa, std::uint64_t bits);
  // Sets what the fresh walk of a part owes.
  void set_owed(unsigned i);
  void set_owed();
  bool owed_is_there() const;
  // Some A or D is missing although the outcome is that of the fresh walk: did a cached
  // translation give it?
  bool explain_unset_bits();
  // Says in out_ which A or D the subject's path lacks. Returns false.
  bool missing_bits();
  // The subject's path has that entry.
  bool is_shown(std::uint64_t entry_gpa) const;
  // A and D of entries that the subject does not show: set, or left open. Precondition: what it
  // shows has been adopted.
  void settle_unseen(const Ways& ways);
  // The same after a #PF, for the part's walk: it may have set A in each entry, and D for a part
  // that did not fault (rule ad-on-fault).
  void leave_walk_open(unsigned i);
  // For the parts whose walk was by a PDPTE register that differs from memory: their path is not
  // the one that the subject shows.
  void leave_walks_apart_open();
  void set_or_leave_open(std::uint64_t entry_gpa, std::uint64_t may, std::uint64_t must);
  // A completed store to an entry of its own path: what the subject shows are the tables after it.
  // False: the entries are wrong; out_ says so and nothing was changed.
  bool settle_self_store(const Landing& landing, std::uint64_t old);
  bool tables_after_store_are_shown(unsigned i);

  // --- Outcomes that the fresh walk does not give but something permits, in judge_stale.cc.
  // An access that crosses between a canonical and a non-canonical page: #GP, or the #PF of the
  // canonical half if that comes first.
  bool accept_fault_before_gp();
  // A table without memory, or A/D due in a read-only one: #PF with P=0 (or RSVD for the former).
  bool accept_open_table();
  bool device_was_asked_for_table() const;
  bool fault_of_open_table() const;
  bool fault_of_some_part() const;
  bool accept_stale();
  // PDPTEs that are read on demand: one that is a lower entry of this access's walk as well. An
  // earlier walk by speculation may have set A in it (rule stale-10), which is reserved there.
  bool accept_flagged_pdpte();
  // A permitted way of that part leads to the byte at `gpa` by another gfn of it.
  bool went_by_another_gfn(std::uint64_t gpa, unsigned part);
  // False: the entries are wrong; out_ says so and nothing was changed.
  bool settle_stale_completion(const StaleMatcher& matcher);
  // Rule 1: on bare hardware a fetch's walk may seem to precede a store of this processor until it
  // serializes.
  bool accept_old_fetch_fault();

  // --- What is wrong, once nothing permits it, in judge_difference.cc.
  void classify();
  DivergenceClass class_of_difference() const;
  const Rule& rule_of_difference() const;
  // The invalidation that forbids the only explanation there is, or nullptr.
  const Rule* covering_rule();
  // Under profile kvm: hardware with its own TLB would have been right.
  bool explained_without_profile();

  MachineState& state_;
  const Outcome& got_;
  std::uint32_t index_;
  Counters& counters_;
  Verdict& out_;
  AccessQuery query_;
  AccessContext context_;
  FreshAccess fresh_;
  Observation seen_{context_, fresh_, got_};
  bool store_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_ACCESS_JUDGE_H_
