#include "harness/threads/run.h"

#include <deque>
#include <latch>
#include <thread>
#include <vector>

namespace twinwalk {
namespace {

constexpr std::uint64_t kPage = mmu::kPageSize;
constexpr unsigned kRefaults = 16;  // after ThreadedHost::let_others_go_on() has given up

// The rest are the host's.
bool is_of_vcpu(const Op& op) {
  switch (op.verb) {
    case Verb::kAccess:
    case Verb::kMov:
    case Verb::kSregs:
    case Verb::kInvlpg:
    case Verb::kInvpcid:
    case Verb::kInvlpga:
    case Verb::kGet:
    case Verb::kSmm:
    case Verb::kInit:
    case Verb::kNewVcpu:
    case Verb::kPrefault:
      return true;
    case Verb::kWrite:
      return op.writer() != Writer::kHost;
    default:
      return false;
  }
}

bool changes_slot(Verb verb) {
  return verb == Verb::kSlotAdd || verb == Verb::kSlotDelete || verb == Verb::kSlotMove ||
         verb == Verb::kSlotFlags;
}

}  // namespace

struct ThreadedRun::Worker {
  Worker(unsigned number, ThreadedRun& run)
      : context(number), steps(run.core_, run.slots_, run.host_, complaints, kRefaults) {}

  const unsigned context;
  std::vector<const Op*> ops;
  Complaints complaints;
  CoreSteps steps;
  ThreadedRunCounts counts;
  std::uint64_t seed = 0;
  unsigned rounds = 0;
};

const char* ThreadedRun::why_not(const Machine& machine) {
  if (machine.core == Dimension::kShadow || machine.core == Dimension::kBare)
    return "threads run two dimensions only";
  if (machine.nested != Nesting::kNone) return "nested guests are not there yet";
  const bool amd = machine.vendor == Vendor::kAmd;
  if (amd != (machine.core == Dimension::kNpt)) return "no processor of that vendor has this";
  return nullptr;
}

bool ThreadedRun::run(const Program& program, unsigned rounds, std::uint64_t seed,
                      std::string& why) {
  const Machine& machine = program.machine;
  host_.reset(machine);
  slots_.reset(machine.memory_bytes());
  for (std::uint64_t& since : logs_since_) since = 0;

  std::deque<Worker> workers;
  for (unsigned v = 0; v <= machine.vcpus; ++v) {
    Worker& w = workers.emplace_back(v, *this);
    w.seed = seed * (mmu::kMaxContexts + 1) + v;
    w.rounds = rounds;
  }
  Worker& host = workers.back();
  for (const Step& step : program.steps) {
    if (host_.why_not(step.what) != SkipReason::kNone) continue;
    (is_of_vcpu(step.what) ? workers[step.what.vcpu] : host).ops.push_back(&step.what);
  }
  host_.adopt_thread(0, core_, workers[0].steps, 0);
  core_.create(host_, machine, nullptr);
  {
    std::latch start(static_cast<std::ptrdiff_t>(workers.size()));
    std::vector<std::thread> threads;
    threads.reserve(workers.size());
    for (Worker& worker : workers) {
      threads.emplace_back([this, &worker, &start] {
        host_.adopt_thread(worker.context, core_, worker.steps, worker.seed);
        start.arrive_and_wait();
        work(worker);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (const Worker& w : workers) {
    counts_.steps += w.counts.steps;
    counts_.accesses += w.counts.accesses;
    counts_.completed += w.counts.completed;
  }
  host_.adopt_thread(host.context, core_, host.steps, 0);
  bool well = true;
  for (Worker& worker : workers) well = well && judge(worker, why);
  if (well) {
    for (unsigned slot = 0; slot < kMaxSlots; ++slot) {
      const SlotView& s = slots_[0][slot];
      if (!s.used || !s.log_dirty) continue;
      collect_log(host, slot);
      const std::uint64_t gfn =
          host_.dirty().lost(s.gpa / kPage, s.bytes / kPage, logs_since_[slot]);
      if (gfn == DirtyWatch::kGfns) continue;
      why = "lost-dirty-log: the guest stored to gfn " + std::to_string(gfn) +
            ", which is in no dirty log since";
      well = false;
      break;
    }
    core_.vm().audit(host.complaints);
    well = judge(host, why) && well;
  }
  host_.no_vcpu_runs();
  core_.destroy();
  host_.finish_readers();
  if (well && (host_.live_tables() != 0 || host_.live_objects() != 0)) {
    why = "leak: tables or objects are left when the VM is gone";
    well = false;
  }
  return well;
}

bool ThreadedRun::judge(Worker& worker, std::string& why) {
  OutcomeStream stream;
  Outcome outcome;
  worker.complaints.move_to(stream, outcome);
  if (const char* complaint = host_.complaint()) {
    why = std::string("escape: ") + complaint;
    return false;
  }
  if (outcome.complaint == Complaint::kNone) return true;
  why = std::string(name_of(outcome.complaint)) + ": " + stream.complaint_text;
  return false;
}

void ThreadedRun::work(Worker& worker) {
  for (unsigned round = 0; round < worker.rounds; ++round) {
    for (const Op* op : worker.ops) {
      if (host_.complaint() != nullptr) return;
      host_.begin_step();
      OutcomeStream stream;
      Outcome out;
      ++worker.counts.steps;
      if (is_of_vcpu(*op)) {
        worker.steps.execute(*op, out, stream);
        const bool access = op->verb == Verb::kAccess;
        worker.counts.accesses += access;
        worker.counts.completed += access && out.kind == OutcomeKind::kOk;
      } else {
        host_step(worker, *op, out, stream);
      }
      host_.end_step();
    }
  }
}

void ThreadedRun::host_step(Worker& worker, const Op& op, Outcome& out, OutcomeStream& stream) {
  if (op.verb == Verb::kWrite) return store_by_host(op);
  worker.steps.execute(op, out, stream);
  if (changes_slot(op.verb) && op.space == 0 && op.slot < kMaxSlots)
    logs_since_[op.slot] = host_.dirty().time();
  if (op.verb == Verb::kDirtyGet && op.space == 0 && out.kind != OutcomeKind::kRefused)
    look_at_log(out, stream);
  // Who clears what was not collected loses it.
  if (op.verb == Verb::kDirtyClear && op.space == 0 && out.kind != OutcomeKind::kRefused) {
    for (std::uint64_t i = 0; i < op.pages; ++i) host_.dirty().logged(op.gpa / kPage + i);
  }
}

// By space 0, whatever mode a vCPU is in.
void ThreadedRun::store_by_host(const Op& op) {
  for (unsigned done = 0; done < op.size; ++done) {
    const SlotView* const slot = slots_[0].find(op.gpa + done);
    if (slot == nullptr) return;
    host_.poke(slot->hva_of(op.gpa + done), 1, op.value >> (8 * done));
  }
}

void ThreadedRun::collect_log(Worker& worker, unsigned slot) {
  Op op;
  op.verb = Verb::kDirtyGet;
  op.slot = slot;
  OutcomeStream stream;
  Outcome out;
  worker.steps.execute(op, out, stream);
  look_at_log(out, stream);
}

void ThreadedRun::look_at_log(const Outcome& out, const OutcomeStream& stream) {
  for (std::uint32_t i = 0; i < out.extra_count; ++i)
    host_.dirty().logged(stream.extra[out.extra_begin + i]);
}

}  // namespace twinwalk
