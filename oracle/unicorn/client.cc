#include "oracle/unicorn/client.h"

#include <utility>
#include <vector>

#include "oracle/unicorn/compare.h"
#include "oracle/unicorn/ledger.h"
#include "oracle/unicorn/protocol.h"
#include "oracle/unicorn/server_process.h"

namespace twinwalk::oracle {

using unicorn::Record;
using unicorn::RecordKind;
using unicorn::RegisterRecord;
using unicorn::ServerProcess;

struct UnicornClient::Impl {
  explicit Impl(std::string program) : server(std::move(program)) {}

  struct Pending {  // an access whose result is awaited
    std::uint32_t step;
    AccessQuery query;
    FreshOutcome fresh;
    unsigned results;  // one for each page that it touches
  };

  Record* append(RecordKind kind);
  bool send_registers(const Registers& registers);
  bool send_pdptes(const AccessQuery& query, const FreshOutcome& fresh);
  bool send_access(std::uint32_t step, const AccessQuery& query, const FreshOutcome& fresh);
  void flush();
  void give_up(std::string why);
  void judge(const Pending& access, const unicorn::Result* results);

  ServerProcess server;
  Machine machine;
  std::uint32_t records = 0, expected = 0;  // in the journal, and what it will give
  RegisterRecord registers{};               // that the server has
  unicorn::PdpteRecord pdptes{};
  bool registers_sent = false, pdptes_sent = false;
  std::vector<Pending> pending;
  std::vector<UnicornDisagreement> disagreements;
  UnicornClient::Result result;
  bool given_up = false;  // the process died in this trace: the next one begins anew
};

UnicornClient::UnicornClient(std::string program)
    : impl_(std::make_unique<Impl>(std::move(program))) {}
UnicornClient::~UnicornClient() = default;

// The next free record; sends what there is when the journal is full. nullptr if the trace was
// given up.
Record* UnicornClient::Impl::append(RecordKind kind) {
  if (records == unicorn::kMaxRecords || expected + 2 > unicorn::kMaxResults) flush();
  if (!given_up && !server.running()) {
    std::string why;
    if (!server.start(why)) give_up(std::move(why));
  }
  if (given_up) return nullptr;
  Record* record = &server.journal()[records++];
  *record = {};
  record->kind = kind;
  return record;
}

bool UnicornClient::Impl::send_registers(const Registers& wanted) {
  const RegisterRecord next = unicorn::registers_of(wanted);
  if (registers_sent && next == registers) return true;
  Record* record = append(RecordKind::kRegisters);
  if (record == nullptr) return false;
  record->registers = registers = next;
  registers_sent = true;
  return true;
}

bool UnicornClient::Impl::send_pdptes(const AccessQuery& query, const FreshOutcome& fresh) {
  if (unicorn::layout_of(query).mode != Mode::kPae) return true;
  if (!unicorn::take_pdptes(query, fresh, pdptes) && pdptes_sent) return true;
  Record* record = append(RecordKind::kPdptes);
  if (record == nullptr) return false;
  record->pdptes = pdptes;
  pdptes_sent = true;
  return true;
}

bool UnicornClient::Impl::send_access(std::uint32_t step, const AccessQuery& query,
                                      const FreshOutcome& fresh) {
  Record* record = append(RecordKind::kAccess);
  if (record == nullptr) return false;
  *record = unicorn::record_of(query, fresh);
  const unsigned pages = unicorn::crosses(query) ? 2 : 1;
  pending.push_back({step, query, fresh, pages});
  expected += pages;
  return true;
}

void UnicornClient::Impl::flush() {
  if (given_up || records == 0) return;
  std::string why;
  const bool lives = server.execute(std::exchange(records, 0), why);
  if (!lives || server.reply().results != std::exchange(expected, 0)) {
    give_up(lives ? "answered with a wrong number of results" : std::move(why));
    return;
  }
  const unicorn::Result* next = server.results();
  for (const Pending& access : pending) {
    judge(access, next);
    next += access.results;
  }
  pending.clear();
}

void UnicornClient::Impl::give_up(std::string why) {
  given_up = true;
  result.died = true;
  result.why = std::move(why);
  result.skipped += pending.size();
  pending.clear();
  records = expected = 0;
}

void UnicornClient::Impl::judge(const Pending& access, const unicorn::Result* results) {
  const unicorn::Result& got = results[0];
  const FreshOutcome fresh = unicorn::half_that_faulted(access.fresh, got);
  if (got.skipped != unicorn::Skipped::kNo ||
      !unicorn::not_comparable(access.query, fresh, got).empty()) {
    ++result.skipped;
    return;
  }
  ++result.checks;
  const unicorn::Reply& reply = server.reply();
  const UnicornVersion version{reply.major, reply.minor, reply.patch, reply.translates != 0};
  const bool paging = unicorn::layout_of(access.query).levels != 0;
  const bool data_follows = version.translates || !paging;
  auto difference = unicorn::compare(access.query, fresh, results, data_follows);
  if (!difference) return;
  const auto facts = unicorn::facts_of(machine, access.query, fresh, got, *difference);
  disagreements.push_back({access.step, std::string(difference->field), std::move(difference->spec),
                           std::move(difference->unicorn),
                           std::string(unicorn::Ledger::built_in().covering(version, facts))});
}

void UnicornClient::on_reset(const Machine& machine) {
  Impl& self = *impl_;
  self.flush();
  self.given_up = false;
  self.registers_sent = self.pdptes_sent = false;
  self.pdptes = {};
  self.machine = machine;
  if (Record* record = self.append(RecordKind::kReset))
    record->target.address = machine.memory_bytes();
}

// What is under way was asked of the machine as it was.
void UnicornClient::on_capabilities(const Machine& machine) {
  impl_->flush();
  impl_->machine = machine;
}

void UnicornClient::on_memory(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  Record* record = impl_->append(RecordKind::kMemory);
  if (record == nullptr) return;
  record->target.address = gpa;
  record->size = static_cast<std::uint8_t>(size);
  record->target.value = value;
}

void UnicornClient::on_access(std::uint32_t step, const AccessQuery& query,
                              const FreshOutcome& fresh) {
  const std::uint64_t linear = unicorn::layout_of(query).linear(query.gva);
  if (linear != query.gva) [[unlikely]] {
    AccessQuery shorter = query;
    shorter.gva = linear;
    return on_access(step, shorter, fresh);
  }
  Impl& self = *impl_;
  if (!unicorn::not_expressible(query, fresh, self.machine.memory_bytes()).empty()) {
    ++self.result.skipped;
    return;
  }
  if (!self.send_registers(query.registers) || !self.send_pdptes(query, fresh) ||
      !self.send_access(step, query, fresh)) {
    ++self.result.skipped;
  }
}

UnicornClient::Result UnicornClient::finish(
    const std::function<void(const UnicornDisagreement&)>& report) {
  Impl& self = *impl_;
  self.flush();
  for (const UnicornDisagreement& disagreement : self.disagreements) report(disagreement);
  self.disagreements.clear();
  return std::exchange(self.result, {});
}

bool UnicornClient::available(std::string& why) { return impl_->server.start(why); }

bool UnicornClient::can_show(std::string_view known) {
  return unicorn::Ledger::built_in().concerns(known, version());
}

UnicornVersion UnicornClient::version() {
  std::string why;
  if (!impl_->server.start(why)) return {};
  const unicorn::Reply& reply = impl_->server.reply();
  return {reply.major, reply.minor, reply.patch, reply.translates != 0};
}

void UnicornClient::set_deadline(std::chrono::milliseconds deadline) {
  impl_->server.set_deadline(deadline);
}

}  // namespace twinwalk::oracle
