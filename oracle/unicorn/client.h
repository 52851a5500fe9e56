#ifndef TWINWALK_ORACLE_UNICORN_CLIENT_H_
#define TWINWALK_ORACLE_UNICORN_CLIENT_H_

// The `unicorn` reference. Unicorn Engine lives in a process of its own
// (`twinwalk-unicorn`), which this client starts, feeds and watches; a crash or
// hang there is reported, named and costs no finding.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "oracle/spec.h"
#include "oracle/unicorn/version.h"

namespace twinwalk::oracle {

struct UnicornDisagreement {
  std::uint32_t step = 0;
  std::string field;  // "outcome", "error-code", "cr2", "value", "accessed-dirty", "image"
  std::string spec, unicorn;
  std::string ledger;  // id of the known deviation that covers it, empty if none does
};

// Collects a trace's journal as a SpecObserver; finish() sends it as one batch and compares. Each
// access is executed by a guest instruction on a fresh TLB (flush by the guest's own INVLPG / MOV
// CR3, or by the API), on an image equal to spec's at that moment; afterwards the image follows
// spec.
class UnicornClient final : public SpecObserver {
 public:
  // `program`: path of twinwalk-unicorn. Starts nothing until first use.
  explicit UnicornClient(std::string program);
  ~UnicornClient();

  void on_reset(const Machine&) override;
  void on_capabilities(const Machine&) override;
  void on_memory(std::uint64_t gpa, unsigned size, std::uint64_t value) override;
  void on_access(std::uint32_t step, const AccessQuery&, const FreshOutcome&) override;

  struct Result {
    std::uint64_t checks = 0;   // accesses that Unicorn executed and that were compared
    std::uint64_t skipped = 0;  // accesses that Unicorn cannot express, by its README
    bool died = false;  // crash or hang; `why` names it; a new process serves the next batch
    std::string why;
  };
  Result finish(const std::function<void(const UnicornDisagreement&)>& report);

  // Starts the process if need be. False, with the reason in `why`, if it cannot run or its
  // self-probe fails.
  bool available(std::string& why);
  UnicornVersion version();
  // False: `known` is a deviation of other versions than the one that runs.
  bool can_show(std::string_view known);

  // How long one batch may take before the process counts as hung; 10 s unless set.
  void set_deadline(std::chrono::milliseconds deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_UNICORN_CLIENT_H_
