//! Text in columns, for a terminal or for Markdown.

use std::fmt;

/// A table that is as wide as its contents.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    /// One text in place of all cells but the first.
    Remark(String, String),
}

impl Table {
    pub fn new<Column: Into<String>>(header: impl IntoIterator<Item = Column>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells));
    }

    pub fn remark(&mut self, name: String, text: String) {
        self.rows.push(Row::Remark(name, text));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the table as Markdown has it.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|---|{}\n", "---:|".repeat(self.header.len().saturating_sub(1)));
        let mut written = line(&self.header) + &rule;
        for row in &self.rows {
            match row {
                Row::Cells(cells) => written += &line(cells),
                Row::Remark(name, text) => written += &line(&[name.clone(), text.clone()]),
            }
        }
        written
    }

    /// The width of a column; a remark does not widen those that it runs over.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| match row {
            Row::Cells(cells) => cells.get(column),
            Row::Remark(name, _) => (column == 0).then_some(name),
        });
        let all = cells.chain([self.header.get(column)]).flatten();
        all.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// For a terminal: the first column to the left, the numbers to the right.
impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.header.len()).map(|column| self.width(column)).collect();
        let first = widths.first().copied().unwrap_or(0);
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            }
            line.trim_end().to_owned()
        };
        writeln!(out, "{}", line(&self.header))?;
        for row in &self.rows {
            match row {
                Row::Cells(cells) => writeln!(out, "{}", line(cells))?,
                Row::Remark(name, text) => writeln!(out, "{name:<first$}  {text}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn example() -> Table {
        let mut table = Table::new(["server", "p50"]);
        table.row(vec!["one".to_owned(), "12.0 µs".to_owned()]);
        table.remark("another".to_owned(), "failed: it | broke and that is a long story".to_owned());
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let expected = "server       p50\none      12.0 µs\nanother  failed: it | broke and that is a long story\n";
        assert_eq!(example().to_string(), expected);
    }

    #[test]
    fn markdown_escapes_its_bars() {
        let expected = "| server | p50 |\n|---|---:|\n| one | 12.0 µs |\n\
                        | another | failed: it \\| broke and that is a long story |\n";
        assert_eq!(example().markdown(), expected);
    }
}
