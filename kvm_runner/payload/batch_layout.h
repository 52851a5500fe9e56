#ifndef TWINWALK_KVM_RUNNER_PAYLOAD_BATCH_LAYOUT_H_
#define TWINWALK_KVM_RUNNER_PAYLOAD_BATCH_LAYOUT_H_

/* Where the interpreter of batches finds what; read by assembler and C++, where batch_page.h has
 * the same as structs.
 *
 * The words are linear addresses, in the order in which they are to be read: before and after each
 * command. Each is replaced by what was there. */
// clang-format off
#define TWINWALK_CONTEXT_CURRENT 0           /* number of the command that is being done */
#define TWINWALK_CONTEXT_COUNT 8
#define TWINWALK_CONTEXT_COMMANDS 16         /* linear addresses */
#define TWINWALK_CONTEXT_RESULTS 24
#define TWINWALK_CONTEXT_WORDS 32
#define TWINWALK_CONTEXT_STACK 40            /* of the interpreter */
#define TWINWALK_CONTEXT_EXCEPTION_STACK 48  /* its top: IST 1 */
#define TWINWALK_CONTEXT_OWN_IDT 56          /* operands of LIDT */
#define TWINWALK_CONTEXT_IDT 72

#define TWINWALK_COMMAND_RIP 0
#define TWINWALK_COMMAND_RDI 8
#define TWINWALK_COMMAND_RSI 16
#define TWINWALK_COMMAND_RFLAGS 24
#define TWINWALK_COMMAND_CPL 32
#define TWINWALK_COMMAND_BEFORE 36           /* how many words are to be read */
#define TWINWALK_COMMAND_AFTER 40
#define TWINWALK_COMMAND_BYTES 64

#define TWINWALK_RESULT_VECTOR 0
#define TWINWALK_RESULT_ERROR_CODE 8
#define TWINWALK_RESULT_CR2 16
#define TWINWALK_RESULT_RAX 24
#define TWINWALK_RESULT_BYTES 32
#define TWINWALK_RESULT_DONE 0xff            /* as vector: there was none */

#define TWINWALK_SELECTOR_USER_SS 0x1b
#define TWINWALK_SELECTOR_USER_CS 0x23
// clang-format on

#endif /* TWINWALK_KVM_RUNNER_PAYLOAD_BATCH_LAYOUT_H_ */
