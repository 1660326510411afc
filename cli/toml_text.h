// Values as text of a TOML file. Pure.
#pragma once

#include <string>
#include <string_view>

namespace longhaul {

// Valid UTF-8 without control characters: what can stand in one line of a TOML file.
bool IsTomlText(std::string_view text);
// A basic string with quotes and escapes; any bytes are accepted, control characters are escaped.
std::string TomlString(std::string_view text);
// The shortest text that reads back as the same double, without a mark of its own: "5", "0.1".
std::string ShortReal(double value);
// ShortReal as a TOML float: "5.0", "0.1", "nan", "inf".
std::string TomlReal(double value);

}  // namespace longhaul
