#ifndef TWINWALK_KVM_RUNNER_AGENT_TRACE_EVENTS_H_
#define TWINWALK_KVM_RUNNER_AGENT_TRACE_EVENTS_H_

// Events of a tracing kernel, in their binary form: how each is laid out, as its `format` file
// tells, and how they lie in a page of a trace buffer.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::agent {

struct EventField {
  std::string name;
  unsigned offset = 0, size = 0;  // bytes
};

struct EventFormat {
  std::string name;
  unsigned id = 0;
  std::vector<EventField> fields;  // without the common ones
};

// Of a file events/SYSTEM/NAME/format. False if it is none.
bool parse_event_format(const std::string& text, EventFormat& out);

// A field's value; 0 if the event is too short for it.
std::uint64_t value_at(unsigned offset, unsigned size, std::span<const std::uint8_t> event);

// Calls `f` with each event of a page as read from trace_pipe_raw, from its common fields on, in
// order. A page that is not laid out that way ends early. kernel/trace/ring_buffer.c,
// include/linux/ring_buffer.h.
void each_event(std::span<const std::uint8_t> page,
                const std::function<void(std::span<const std::uint8_t>)>& f);

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_TRACE_EVENTS_H_
