#ifndef TWINWALK_REPORTS_ESCAPE_H_
#define TWINWALK_REPORTS_ESCAPE_H_

// Untrusted text made safe for the format it goes into.

#include <string>
#include <string_view>

namespace twinwalk::reports {

// For element content and quoted attributes of HTML, SVG and XML 1.0: markup characters as
// entities; what is not UTF-8, and control characters that XML forbids, as U+FFFD.
std::string escape_markup(std::string_view text);

// For one cell of a Markdown table, or a word in running text: no markup takes effect, no line
// ends.
std::string escape_markdown(std::string_view text);

// JSON for an HTML <script> element: nothing in it can end the element.
std::string escape_script(std::string_view json);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_ESCAPE_H_
