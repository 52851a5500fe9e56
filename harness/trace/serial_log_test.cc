#include "harness/trace/serial_log.h"

#include <gtest/gtest.h>

#include <random>

namespace twinwalk {
namespace {

std::vector<std::uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

// RFC 4648 "Test Vectors".
TEST(Base64, IsThatOfTheRfc) {
  const std::pair<std::string_view, std::string_view> kVectors[] = {{"", ""},
                                                                    {"f", "Zg=="},
                                                                    {"fo", "Zm8="},
                                                                    {"foo", "Zm9v"},
                                                                    {"foob", "Zm9vYg=="},
                                                                    {"fooba", "Zm9vYmE="},
                                                                    {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : kVectors) {
    EXPECT_EQ(to_base64(bytes_of(plain)), coded);
    std::vector<std::uint8_t> back;
    ASSERT_TRUE(from_base64(coded, back));
    EXPECT_EQ(back, bytes_of(plain));
  }
}

TEST(Base64, RefusesWhatIsNone) {
  std::vector<std::uint8_t> back;
  for (const char* text : {"Zg=", "Zg", "Z===", "Zm9v!A==", "Zg==Zg==", "===="})
    EXPECT_FALSE(from_base64(text, back)) << text;
}

TEST(Crc32, HasTheCheckValueOfTheCatalogue) { EXPECT_EQ(crc32("123456789"), 0xcbf4'3926u); }

TEST(SerialLog, LinesComeBack) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::uint8_t> payload(random() % 90);
    for (auto& b : payload) b = static_cast<std::uint8_t>(random());
    const std::uint64_t number = random() >> (1 + random() % 63);
    LogLine line;
    // A console puts its time before, and ends lines in its own way.
    std::string text = "[    3.2] " + to_log_line(LogWord::kRan, number, payload);
    text.insert(text.size() - 1, "\r");
    ASSERT_EQ(read_log_line(text, line), LogRead::kWhole) << text;
    EXPECT_EQ(line.word, LogWord::kRan);
    EXPECT_EQ(line.number, number);
    std::vector<std::uint8_t> back;
    ASSERT_TRUE(from_base64(line.text, back));
    EXPECT_EQ(back, payload);
  }
}

TEST(SerialLog, TextStaysOnOneLine) {
  LogLine line;
  ASSERT_EQ(read_log_line(to_log_text(LogWord::kNote, 7, "two\nlines * and more"), line),
            LogRead::kWhole);
  EXPECT_EQ(line.text, "two lines * and more");
  ASSERT_EQ(read_log_line(to_log_text(LogWord::kBye, 0, ""), line), LogRead::kWhole);
  EXPECT_EQ(line.word, LogWord::kBye);
}

TEST(SerialLog, DamageIsSeen) {
  const std::string good = to_log_text(LogWord::kHost, 0, "cpu=here kernel=6.1");
  LogLine line;
  EXPECT_EQ(read_log_line("something else", line), LogRead::kOther);
  for (std::size_t i = 4; i + 1 < good.size(); ++i) {
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_EQ(read_log_line(changed, line), LogRead::kDamaged) << i;
    EXPECT_EQ(read_log_line(good.substr(0, i), line), LogRead::kDamaged) << i;
  }
}

}  // namespace
}  // namespace twinwalk
