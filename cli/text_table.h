// Aligned columns for people. Pure; owned by one thread.
#pragma once

#include <string>
#include <vector>

namespace longhaul {

enum class Align { kLeft, kRight };

class TextTable {
 public:
  // Columns are left-aligned unless `align` says otherwise (missing entries = left).
  explicit TextTable(std::vector<std::string> header, std::vector<Align> align = {});
  // Shorter rows are filled with "", longer ones are cut.
  void AddRow(std::vector<std::string> row);
  // Header and rows, two spaces between columns, no spaces at line ends. Width counts code points,
  // so that "θ" takes one column.
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<Align> align_;
};

// Code points of UTF-8 text.
size_t DisplayWidth(const std::string& text);

}  // namespace longhaul
