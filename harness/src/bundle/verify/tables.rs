//! Tables of outputs, read column by column.

use std::str::FromStr;

/// A table with tabs between its cells and a header.
pub struct Table<'a> {
    header: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Table<'a> {
    /// # Errors
    /// Names the line that has another number of cells than the header.
    pub fn read(text: &'a str) -> Result<Self, String> {
        let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let header = lines.next().unwrap_or_default();
        let rows: Vec<Vec<&str>> = lines.collect();
        match rows.iter().position(|row| row.len() != header.len()) {
            Some(at) => Err(format!("line {} has another number of cells than the header", at + 2)),
            None => Ok(Self { header, rows }),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The cells of a column, top down.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn column(&self, name: &str) -> Result<impl Iterator<Item = &'a str>, String> {
        let at = self.header.iter().position(|column| *column == name);
        let at = at.ok_or_else(|| format!("there is no column {name:?}"))?;
        Ok(self.rows.iter().map(move |row| row[at]))
    }

    /// The numbers of a column, top down.
    ///
    /// # Errors
    /// When there is none of this name, or a cell is no number.
    pub fn numbers<T: FromStr>(&self, name: &str) -> Result<Vec<T>, String> {
        let number = |(index, cell): (usize, &str)| {
            cell.parse().map_err(|_| format!("line {}: {cell:?} is not a number", index + 2))
        };
        self.column(name)?.enumerate().map(number).collect()
    }

    /// The numbers of the last row by the names of their columns; those that are none are left out.
    pub fn last(&self) -> Vec<(&'a str, f64)> {
        let cells = self.rows.last().into_iter().flat_map(|row| self.header.iter().zip(row));
        cells.filter_map(|(name, cell)| Some((*name, cell.parse().ok()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_by_their_header() {
        let table = Table::read("id\tframes\na\t3\nb\t4\n").unwrap();
        assert_eq!(table.numbers::<u64>("frames").unwrap(), [3, 4]);
        assert_eq!(table.last(), [("frames", 4.0)]);
        assert!(table.numbers::<u64>("id").unwrap_err().contains("line 2"));
        assert!(table.column("x").is_err());
        assert!(Table::read("id\tframes\na\n").is_err());
    }
}
