#include "harness/trace/json_field.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace twinwalk::json_field {
namespace {

const Json kObject = Json::parse(
    R"({"word":"a","count":7,"minus":-1,"huge":1e30,"half":0.5,"yes":true,"nothing":null})");

template <typename F>
std::string said_by(F&& f) {
  try {
    f();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "nothing";
}

TEST(JsonField, GivesWhatIsThere) {
  EXPECT_EQ(text(kObject, "word"), "a");
  EXPECT_EQ(text_or_empty(kObject, "word"), "a");
  EXPECT_EQ(text_or_empty(kObject, "count"), "7");
  EXPECT_EQ(number_or_zero<std::uint64_t>(kObject, "count"), 7u);
  EXPECT_EQ(number_or_zero<double>(kObject, "minus"), -1.0);
  EXPECT_TRUE(flag_or_false(kObject, "yes"));
}

TEST(JsonField, AbsentAndNullAreTheSame) {
  for (const char* key : {"absent", "nothing"}) {
    EXPECT_EQ(find(kObject, key), nullptr);
    EXPECT_EQ(text_or_empty(kObject, key), "");
    EXPECT_EQ(number_or_zero<unsigned>(kObject, key), 0u);
    EXPECT_FALSE(flag_or_false(kObject, key));
    EXPECT_EQ(said_by([&] { text(kObject, key); }), "`" + std::string(key) + "` is not a text");
  }
}

TEST(JsonField, SaysWhichFieldIsWrong) {
  EXPECT_EQ(said_by([] { text(kObject, "count"); }), "`count` is not a text");
  EXPECT_EQ(said_by([] { number_or_zero<unsigned>(kObject, "word"); }), "`word` is not a number");
  EXPECT_EQ(said_by([] { number_or_zero<unsigned>(kObject, "minus"); }), "`minus` is negative");
  EXPECT_EQ(said_by([] { number_or_zero<unsigned>(kObject, "huge"); }), "`huge` is out of range");
  EXPECT_EQ(said_by([] { flag_or_false(kObject, "count"); }), "`count` is not true or false");
}

}  // namespace
}  // namespace twinwalk::json_field
