#ifndef TWINWALK_KVM_RUNNER_BATCH_PAGE_H_
#define TWINWALK_KVM_RUNNER_BATCH_PAGE_H_

// What the host and the payload's interpreter of batches tell each other, in pages of the harness.

#include <cstddef>
#include <cstdint>

#include "kvm_runner/layout.h"
#include "kvm_runner/payload/batch_layout.h"

namespace twinwalk::kvm {

struct BatchContext {
  std::uint64_t current, count;
  std::uint64_t commands, results, words;
  std::uint64_t stack, exception_stack;
  unsigned char own_idt[16], idt[16];  // 10 of them
};
static_assert(offsetof(BatchContext, count) == TWINWALK_CONTEXT_COUNT &&
              offsetof(BatchContext, commands) == TWINWALK_CONTEXT_COMMANDS &&
              offsetof(BatchContext, results) == TWINWALK_CONTEXT_RESULTS &&
              offsetof(BatchContext, words) == TWINWALK_CONTEXT_WORDS &&
              offsetof(BatchContext, stack) == TWINWALK_CONTEXT_STACK &&
              offsetof(BatchContext, exception_stack) == TWINWALK_CONTEXT_EXCEPTION_STACK &&
              offsetof(BatchContext, own_idt) == TWINWALK_CONTEXT_OWN_IDT &&
              offsetof(BatchContext, idt) == TWINWALK_CONTEXT_IDT);

struct BatchCommand {
  std::uint64_t rip, rdi, rsi, rflags;
  std::uint32_t cpl, before, after, unused;
  std::uint64_t descriptor[2];  // of INVPCID
};
static_assert(offsetof(BatchCommand, rdi) == TWINWALK_COMMAND_RDI &&
              offsetof(BatchCommand, rsi) == TWINWALK_COMMAND_RSI &&
              offsetof(BatchCommand, rflags) == TWINWALK_COMMAND_RFLAGS &&
              offsetof(BatchCommand, cpl) == TWINWALK_COMMAND_CPL &&
              offsetof(BatchCommand, before) == TWINWALK_COMMAND_BEFORE &&
              offsetof(BatchCommand, after) == TWINWALK_COMMAND_AFTER &&
              sizeof(BatchCommand) == TWINWALK_COMMAND_BYTES);

struct BatchResult {
  std::uint64_t vector, error_code, cr2, rax;
};
static_assert(offsetof(BatchResult, error_code) == TWINWALK_RESULT_ERROR_CODE &&
              offsetof(BatchResult, cr2) == TWINWALK_RESULT_CR2 &&
              offsetof(BatchResult, rax) == TWINWALK_RESULT_RAX &&
              sizeof(BatchResult) == TWINWALK_RESULT_BYTES);

inline constexpr unsigned kMostBatched = 32, kMostBatchWords = kPage / 8;

struct BatchPage {
  BatchContext context;
  BatchCommand commands[kMostBatched];
  BatchResult results[kMostBatched];
};
static_assert(sizeof(BatchPage) <= kPage);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_BATCH_PAGE_H_
