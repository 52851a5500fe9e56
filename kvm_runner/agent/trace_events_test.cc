#include "kvm_runner/agent/trace_events.h"

#include <gtest/gtest.h>

namespace twinwalk::agent {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr const char* kFormat =
    "name: kvm_mmu_get_page\n"
    "ID: 1387\n"
    "format:\n"
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n"
    "\n"
    "\tfield:__u64 gfn;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:__u32 role;\toffset:24;\tsize:4;\tsigned:0;\n"
    "\tfield:bool created;\toffset:33;\tsize:1;\tsigned:0;\n"
    "\n"
    "print fmt: \"role %u\", REC->role\n";

TEST(TraceEvents, AFormatTellsFieldsWithoutTheCommonOnes) {
  EventFormat format;
  ASSERT_TRUE(parse_event_format(kFormat, format));
  EXPECT_EQ(format.name, "kvm_mmu_get_page");
  EXPECT_EQ(format.id, 1387u);
  ASSERT_EQ(format.fields.size(), 3u);
  EXPECT_EQ(format.fields[1].name, "role");
  EXPECT_EQ(format.fields[1].offset, 24u);
  EXPECT_EQ(format.fields[1].size, 4u);
  EXPECT_EQ(format.fields[2].name, "created");
}

TEST(TraceEvents, WhatIsNoFormatIsRefused) {
  EventFormat format;
  EXPECT_FALSE(parse_event_format("", format));
  EXPECT_FALSE(parse_event_format("name: x\n", format));
  EXPECT_FALSE(parse_event_format("name: x\nID: 3\n\tfield:int y;\n", format));
}

TEST(TraceEvents, AValueBehindTheEventIsZero) {
  const Bytes event = {1, 2, 3, 4};
  EXPECT_EQ(value_at(1, 2, event), 0x302u);
  EXPECT_EQ(value_at(3, 2, event), 0u);
}

void put_word(Bytes& out, std::uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(word >> (8 * i)));
}

Bytes page_of(const Bytes& data, std::uint32_t flags = 0) {
  Bytes page(8);  // a time
  put_word(page, static_cast<std::uint32_t>(data.size()) | flags);
  put_word(page, 0);
  page.insert(page.end(), data.begin(), data.end());
  page.resize(4096);
  return page;
}

std::vector<Bytes> events_of(const Bytes& page) {
  std::vector<Bytes> events;
  each_event(page, [&](std::span<const std::uint8_t> e) {
    events.push_back({e.begin(), e.end()});
  });
  return events;
}

TEST(TraceEvents, APageIsReadEventByEvent) {
  Bytes data;
  put_word(data, 2 | 7 << 5);  // 8 bytes
  put_word(data, 0x11), put_word(data, 0x22);
  put_word(data, 30 | 1 << 5);  // time goes on
  put_word(data, 99);
  put_word(data, 0);  // long: its own word, and 8 bytes
  put_word(data, 12);
  put_word(data, 0x33), put_word(data, 0x44);
  put_word(data, 29 | 1 << 5);  // one that was taken back
  put_word(data, 8);
  put_word(data, 0x55);
  put_word(data, 1);
  put_word(data, 0x66);
  // The kernel says by a flag that it lost events before this page.
  for (const std::uint32_t flags : {0u, 1u << 31}) {
    const std::vector<Bytes> events = events_of(page_of(data, flags));
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0], (Bytes{0x11, 0, 0, 0, 0x22, 0, 0, 0}));
    EXPECT_EQ(events[1], (Bytes{0x33, 0, 0, 0, 0x44, 0, 0, 0}));
    EXPECT_EQ(events[2], (Bytes{0x66, 0, 0, 0}));
  }
}

TEST(TraceEvents, APageEndsWithItsPaddingAndNeverBehindItself) {
  Bytes data;
  put_word(data, 1);
  put_word(data, 0x11);
  put_word(data, 29);
  put_word(data, 0x22);
  put_word(data, 1);
  put_word(data, 0x33);
  EXPECT_EQ(events_of(page_of(data)).size(), 1u);
  Bytes cut;
  put_word(cut, 28);
  put_word(cut, 0x11);
  EXPECT_TRUE(events_of(page_of(cut)).empty());
  Bytes empty;
  put_word(empty, 29 | 1 << 5);  // no progress would be made
  put_word(empty, 0);
  EXPECT_TRUE(events_of(page_of(empty)).empty());
  EXPECT_TRUE(events_of({}).empty());
}

}  // namespace
}  // namespace twinwalk::agent
