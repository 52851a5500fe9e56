#ifndef TWINWALK_HARNESS_MUTATION_TOKENS_H_
#define TWINWALK_HARNESS_MUTATION_TOKENS_H_

// C++ source as a row of tokens, as far as changing one of them needs it.

#include <cstddef>
#include <string_view>
#include <vector>

namespace twinwalk::mutation {

enum class TokenKind : char { kWord, kNumber, kText, kMark };  // kText: string or character

struct Token {
  TokenKind kind = TokenKind::kMark;
  std::size_t begin = 0;  // offset in the source
  std::string_view text;
  std::size_t end() const { return begin + text.size(); }
};

// All tokens of `source`, without comments and preprocessor lines. Any text is some row of tokens.
// The views are into `source`.
std::vector<Token> tokens_of(std::string_view source);

}  // namespace twinwalk::mutation

#endif  // TWINWALK_HARNESS_MUTATION_TOKENS_H_
