#include "kvm_runner/agent/kernel_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>

namespace twinwalk::agent {
namespace {

// How the kernel begins what it says about bugs of its own (lib/bug.c, mm/kasan, locking).
constexpr std::string_view kMarks[] = {"WARNING: ",
                                       "BUG: ",
                                       "Oops",
                                       "general protection fault",
                                       "KASAN",
                                       "UBSAN",
                                       "possible recursive locking",
                                       "INFO: suspicious RCU usage"};

bool complains(std::string_view text) {
  for (const std::string_view mark : kMarks) {
    if (text.find(mark) != text.npos) return true;
  }
  return false;
}

}  // namespace

KernelLog::KernelLog() : fd_(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_ >= 0) lseek(fd_, 0, SEEK_END);
}

KernelLog::~KernelLog() {
  if (fd_ >= 0) close(fd_);
}

// A record is "priority,number,time,flags;text\n" and perhaps more lines.
std::string KernelLog::take_complaint() {
  std::string found;
  char record[8192];
  for (;;) {
    const ssize_t n = fd_ < 0 ? 0 : read(fd_, record, sizeof record);
    if (n <= 0) return found;
    std::string_view text(record, static_cast<std::size_t>(n));
    const std::size_t begin = text.find(';');
    text.remove_prefix(begin == text.npos ? 0 : begin + 1);
    text = text.substr(0, text.find('\n'));
    if (found.empty() && complains(text)) found = "the host's kernel says: " + std::string(text);
  }
}

}  // namespace twinwalk::agent
