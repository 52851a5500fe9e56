#include "kvm_runner/remote/line_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <string>

namespace twinwalk::remote {
namespace {

using std::chrono::seconds;

LineChannel::Clock::time_point soon() { return LineChannel::Clock::now() + seconds(5); }

// Two ends of a connection.
struct Ends {
  int here = -1, there = -1;
  Ends() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) here = fds[0], there = fds[1];
  }
  ~Ends() {
    close(here);
    if (there >= 0) close(there);
  }
  void leave() {
    close(there);
    there = -1;
  }
};

TEST(LineChannel, GivesLinesHoweverTheyCome) {
  Ends ends;
  LineChannel channel(ends.here, ends.here);
  std::string line;
  ASSERT_EQ(write(ends.there, "one\ntw", 6), 6);
  EXPECT_EQ(channel.next(line, soon()), LineChannel::Got::kLine);
  EXPECT_EQ(line, "one");
  EXPECT_EQ(channel.next(line, LineChannel::Clock::now()), LineChannel::Got::kTimeout);
  ASSERT_EQ(write(ends.there, "o\n\n", 3), 3);
  EXPECT_EQ(channel.next(line, soon()), LineChannel::Got::kLine);
  EXPECT_EQ(line, "two");
  EXPECT_EQ(channel.next(line, soon()), LineChannel::Got::kLine);
  EXPECT_EQ(line, "");
}

TEST(LineChannel, SendsWhileItWaits) {
  Ends ends;
  LineChannel channel(ends.here, ends.here);
  channel.send("hello\n");
  EXPECT_TRUE(channel.flush(soon()));
  char bytes[16];
  EXPECT_EQ(read(ends.there, bytes, sizeof bytes), 6);
}

// A host that dies is an answer, not the end of whoever asks.
TEST(LineChannel, TheOtherEndIsGone) {
  Ends ends;
  LineChannel channel(ends.here, ends.here);
  ends.leave();
  channel.send("hello\n");
  std::string line;
  EXPECT_EQ(channel.next(line, soon()), LineChannel::Got::kClosed);
  EXPECT_FALSE(channel.flush(soon()));
  sigset_t waiting;
  sigpending(&waiting);
  EXPECT_EQ(sigismember(&waiting, SIGPIPE), 0) << "left for later";
}

TEST(LineChannel, NobodyReadsThePipe) {
  int in[2], out[2];
  ASSERT_EQ(pipe(in), 0);
  ASSERT_EQ(pipe(out), 0);
  LineChannel channel(in[0], out[1]);
  close(out[0]);
  channel.send("hello\n");
  EXPECT_FALSE(channel.flush(soon()));
  for (const int fd : {in[0], in[1], out[1]}) close(fd);
}

}  // namespace
}  // namespace twinwalk::remote
