// Batches of stubs (payload/payload.S).

#include <algorithm>

#include "kvm_runner/harness_image.h"
#include "kvm_runner/vm.h"

namespace twinwalk::kvm {

bool Vm::run_batch(unsigned vcpu, std::span<const BatchedCall> calls,
                   std::span<std::uint64_t> words, std::vector<StubExit>& exits) {
  BatchPage& page = batch_page();
  build_batch_context(layout_, vcpu, page);
  page.context.count = calls.size();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const StubCall& call = calls[i].call;
    const unsigned code = call.cpl == 0 ? harness_page::kBatchCode : harness_page::kUserCode;
    BatchCommand& command = page.commands[i];
    command = {layout_.linear(true, code) + offset_of(call.stub),
               call.rdi,
               call.rsi,
               kRflagsFixed | (call.ac ? kRflagsAc : 0),
               call.cpl,
               calls[i].before,
               calls[i].after,
               0,
               {calls[i].descriptor[0], calls[i].descriptor[1]}};
    if (call.stub == Stub::kInvpcid)
      command.rsi =
          page.context.commands + i * sizeof(command) + offsetof(BatchCommand, descriptor);
  }
  std::copy(words.begin(), words.end(), harness_words(harness_page::kBatchWords));
  exits.assign(calls.size(), {});

  Cpu& cpu = cpus_[vcpu];
  kvm_regs& regs = cpu.run->s.regs.regs;
  regs = {};
  begin_64(vcpu, {});
  regs.rip = layout_.linear(true, harness_page::kBatchCode) + offset_of_interpreter();
  regs.rdi = layout_.linear(true, harness_page::kBatch);
  cpu.run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  StubExit end;
  watchdog_.arm(cpu.run, kStepMilliseconds);
  run_to_out(cpu, end, &exits);
  watchdog_.disarm();
  cpu.cpl = cpu.run->s.regs.sregs.cs.selector & 3;
  if (end.kind != StubExit::Kind::kDone || page.context.current != calls.size()) return false;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const BatchResult& result = page.results[i];
    exits[i].rax = result.rax;
    if (result.vector == TWINWALK_RESULT_DONE) continue;
    exits[i].kind = StubExit::Kind::kException;
    exits[i].vector = static_cast<unsigned>(result.vector);
    exits[i].error_code =
        pushes_error_code(exits[i].vector) ? static_cast<std::uint32_t>(result.error_code) : 0;
    exits[i].cr2 = result.cr2;
  }
  const std::uint64_t* read = harness_words(harness_page::kBatchWords);
  std::copy(read, read + words.size(), words.begin());
  return true;
}

}  // namespace twinwalk::kvm
