//! Documents as aligned text for terminals and CI logs.
//!
//! Owns layout, colours and the format of amounts. Every text of a document is escaped for display
//! here.

use std::time::Duration;

use anstyle::{AnsiColor, Style as Ansi};
use unicode_width::UnicodeWidthStr;

use super::{Block, Document, Summary, SummaryRow, Table, Tone};
use crate::model::text::printable;

/// Style that a document is rendered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
}

/// Width of the line below the title of a summary, in characters.
const RULE_WIDTH: usize = 35;
/// Blanks between the columns of a table.
const TABLE_GAP: usize = 2;
/// Blanks between the columns of a summary.
const SUMMARY_GAP: usize = 3;
const TITLE: Ansi = Ansi::new().bold();
const QUIET: Ansi = Ansi::new().dimmed();

/// Renders `document` as lines, each with a line break.
pub fn draw(document: &Document, style: Style) -> String {
    let blocks = document.blocks.iter().map(|block| match block {
        Block::Table(table) => draw_table(table, style),
        Block::Lines(lines) => lines
            .iter()
            .map(|line| format!("{}\n", printable(line)))
            .collect(),
        Block::Summary(summary) => draw_summary(summary, style),
    });
    let drawn = blocks
        .filter(|block| !block.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    if drawn.lines().any(is_workflow_command) {
        drawn.lines().map(neutralized).collect()
    } else {
        drawn
    }
}

/// Returns true if runners of GitHub, Gitea and Forgejo Actions would execute a line of a job's log
/// as a workflow command.
fn is_workflow_command(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("::") || line.starts_with("##[")
}

/// Returns `line`, changed so that runners do not execute it.
fn neutralized(line: &str) -> String {
    if is_workflow_command(line) {
        format!("| {line}\n")
    } else {
        format!("{line}\n")
    }
}

fn draw_table(table: &Table, style: Style) -> String {
    let mut grid = Grid::new(TABLE_GAP);
    for row in &table.rows {
        grid.push(
            row.iter()
                .map(|cell| StyledText::new(&cell.text, tone(cell.tone)))
                .collect(),
        );
    }
    grid.align_amounts();
    if !table.columns.is_empty() {
        grid.lines.insert(
            0,
            table
                .columns
                .iter()
                .map(|column| StyledText::new(column, QUIET))
                .collect(),
        );
    }
    let title = table
        .title
        .iter()
        .map(|title| StyledText::new(title, TITLE).painted(style) + "\n")
        .collect::<String>();
    title + &grid.draw(style)
}

fn draw_summary(summary: &Summary, style: Style) -> String {
    let mut title = summary.title.clone();
    if summary.dry_run {
        title += " [dry-run]";
    }
    let mut header = StyledText::new(&title, TITLE).painted(style);
    if let Some(duration) = summary.duration {
        header += &format!(" · {}", human_duration(duration));
    }
    let rule = StyledText::new(&"─".repeat(RULE_WIDTH), QUIET).painted(style);
    let mut grid = Grid::new(SUMMARY_GAP);
    for row in &summary.rows {
        push_summary_row(&mut grid, row, "", "");
    }
    grid.align_amounts();
    format!("{header}\n{rule}\n{}", grid.draw(style))
}

/// Adds `row` and its children to `grid`. `lead` are the tree lines before the row, `below` those
/// before its children.
fn push_summary_row(grid: &mut Grid, row: &SummaryRow, lead: &str, below: &str) {
    let label = StyledText::new(&format!("{lead}{}", row.label), Ansi::new());
    let extra = row.extra.as_deref().unwrap_or_default();
    grid.push(vec![
        label,
        StyledText::new(&row.value, tone(row.tone)),
        StyledText::new(extra, Ansi::new()),
    ]);
    let last = row.children.len().saturating_sub(1);
    for (position, child) in row.children.iter().enumerate() {
        let (lead, deeper) = if position == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        push_summary_row(
            grid,
            child,
            &format!("{below}{lead}"),
            &format!("{below}{deeper}"),
        );
    }
}

/// Text that is escaped for display, with its colour.
struct StyledText {
    text: String,
    ansi: Ansi,
}

impl StyledText {
    fn new(text: &str, ansi: Ansi) -> StyledText {
        StyledText {
            text: printable(text).into_owned(),
            ansi,
        }
    }

    fn width(&self) -> usize {
        self.text.width()
    }

    fn painted(&self, style: Style) -> String {
        if style.color && !self.ansi.is_plain() {
            format!("{}{}{:#}", self.ansi, self.text, self.ansi)
        } else {
            self.text.clone()
        }
    }
}

/// Lines of text in aligned columns.
struct Grid {
    gap: usize,
    lines: Vec<Vec<StyledText>>,
    /// Columns that are aligned to the right.
    right: Vec<usize>,
}

impl Grid {
    fn new(gap: usize) -> Grid {
        Grid {
            gap,
            lines: Vec::new(),
            right: Vec::new(),
        }
    }

    fn push(&mut self, line: Vec<StyledText>) {
        self.lines.push(line);
    }

    fn columns(&self) -> usize {
        self.lines.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &StyledText> {
        self.lines.iter().filter_map(move |line| line.get(column))
    }

    /// Aligns columns that contain only amounts to the right.
    fn align_amounts(&mut self) {
        self.right = (0..self.columns())
            .filter(|column| {
                let mut filled = self
                    .column(*column)
                    .filter(|piece| !piece.text.is_empty())
                    .peekable();
                filled.peek().is_some() && filled.all(|piece| is_amount(&piece.text))
            })
            .collect();
    }

    fn draw(&self, style: Style) -> String {
        let widths: Vec<usize> = (0..self.columns())
            .map(|column| {
                self.column(column)
                    .map(StyledText::width)
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut drawn = String::new();
        for line in &self.lines {
            // Blanks are only written before further text, so that no line ends in blanks.
            let mut blanks = 0;
            for (column, piece) in line.iter().enumerate() {
                let padding = widths[column] - piece.width();
                if self.right.contains(&column) {
                    blanks += padding;
                }
                if !piece.text.is_empty() {
                    drawn += &" ".repeat(blanks);
                    drawn += &piece.painted(style);
                    blanks = 0;
                }
                blanks += self.gap
                    + if self.right.contains(&column) {
                        0
                    } else {
                        padding
                    };
            }
            drawn += "\n";
        }
        drawn
    }
}

/// Returns true if `text` is a count, a difference, or an amount as [`human_bytes`] writes it.
fn is_amount(text: &str) -> bool {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|character| character.is_ascii_digit());
    match unit {
        "" => digits(number.strip_prefix('-').unwrap_or(number)),
        "B" | "kB" | "MB" | "GB" | "TB" => digits(&number.replacen('.', "", 1)),
        _ => false,
    }
}

fn tone(tone: Tone) -> Ansi {
    match tone {
        Tone::Plain => Ansi::new(),
        Tone::Quiet => QUIET,
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warning => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default(),
    }
}

/// Returns a number of bytes in decimal units (1 kB is 1000 bytes), such as `512 B`, `1.07 GB` or
/// `412.6 MB`.
pub fn human_bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        // Not 1000, because 999.96 would be rounded to 1000.0.
        if amount < 999.95 {
            break;
        }
        amount /= 1000.0;
        unit = larger;
    }
    let decimals = if amount < 9.995 { 2 } else { 1 };
    format!("{amount:.decimals$} {unit}")
}

/// Returns a duration such as `0.4s`, `12.4s`, `3m 12s` or `1h 02m`.
pub fn human_duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    if tenths < 600 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let seconds = (tenths + 5) / 10;
    if seconds < 3600 {
        return format!("{}m {:02}s", seconds / 60, seconds % 60);
    }
    let minutes = (seconds + 30) / 60;
    format!("{}h {:02}m", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draw_neutralizes_workflow_commands() {
        let lines = ["::error::x", "  ::group::y", "##[group]z", "a ::b"]
            .map(str::to_owned)
            .to_vec();
        let document = Document {
            blocks: vec![Block::Lines(lines)],
        };
        assert_eq!(
            draw(&document, Style::default()),
            "| ::error::x\n|   ::group::y\n| ##[group]z\na ::b\n"
        );
    }
    use crate::report::Cell;

    fn summary() -> Summary {
        let mut selected = SummaryRow::new("Tags selected", 8);
        selected.children = vec![
            SummaryRow {
                extra: Some(human_bytes(412_600_000)),
                ..SummaryRow::new("Copied", 3)
            },
            SummaryRow::new("Up to date", 5),
            SummaryRow::new("Failed", 0),
        ];
        Summary {
            title: "Sync".to_owned(),
            dry_run: false,
            duration: Some(Duration::from_millis(12_400)),
            rows: vec![selected],
        }
    }

    fn plain(block: Block) -> String {
        draw(
            &Document {
                blocks: vec![block],
            },
            Style::default(),
        )
    }

    #[test]
    fn summary_is_drawn_as_a_tree() {
        insta::assert_snapshot!(plain(Block::Summary(summary())), @"
        Sync · 12.4s
        ───────────────────────────────────
        Tags selected   8
        ├─ Copied       3   412.6 MB
        ├─ Up to date   5
        └─ Failed       0
        ");
    }

    #[test]
    fn summary_shows_dry_run_and_nested_rows() {
        let mut summary = summary();
        summary.dry_run = true;
        summary.rows[0].value = "1208".to_owned();
        summary.rows[0].children[0].children = vec![
            SummaryRow::new("Mounted", 1),
            SummaryRow::new("Streamed", 2),
        ];
        summary.rows[0].children[2].children = vec![SummaryRow::new("Source", 0)];
        insta::assert_snapshot!(plain(Block::Summary(summary)), @"
        Sync [dry-run] · 12.4s
        ───────────────────────────────────
        Tags selected    1208
        ├─ Copied           3   412.6 MB
        │  ├─ Mounted       1
        │  └─ Streamed      2
        ├─ Up to date       5
        └─ Failed           0
           └─ Source        0
        ");
    }

    #[test]
    fn summary_aligns_words_to_the_left() {
        let rows = vec![
            SummaryRow::new("Project", "group/app"),
            SummaryRow::new("Revision", "0123abc"),
        ];
        let summary = Summary {
            title: "Register".to_owned(),
            dry_run: false,
            duration: None,
            rows,
        };
        insta::assert_snapshot!(plain(Block::Summary(summary)), @"
        Register
        ───────────────────────────────────
        Project    group/app
        Revision   0123abc
        ");
    }

    #[test]
    fn table_is_aligned_by_display_width_and_escapes_untrusted_text() {
        let table = Table {
            title: Some("Mirrors\u{1b}[2J".to_owned()),
            columns: ["Image", "Result", "Moved", "Why"]
                .map(str::to_owned)
                .to_vec(),
            rows: vec![
                vec![
                    Cell::plain("映像:3.21"),
                    Cell::plain("copied"),
                    Cell::plain("12.3 MB"),
                    Cell::plain(""),
                ],
                vec![
                    Cell::plain("a\n::error::b"),
                    Cell::toned("failed", Tone::Bad),
                    Cell::plain(""),
                    Cell::plain("\u{202e}gnp"),
                ],
                vec![
                    Cell::plain("alpine"),
                    Cell::plain("copied"),
                    Cell::plain("1.07 GB"),
                ],
            ],
        };
        insta::assert_snapshot!(plain(Block::Table(table)), @r"
        Mirrors\u{1b}[2J
        Image             Result    Moved  Why
        映像:3.21         copied  12.3 MB
        a\u{a}::error::b  failed           \u{202e}gnp
        alpine            copied  1.07 GB
        ");
    }

    #[test]
    fn blocks_are_separated_by_a_blank_line() {
        let document = Document {
            blocks: vec![
                Block::Lines(vec!["one".to_owned(), "two\u{7}".to_owned()]),
                Block::Lines(Vec::new()),
                Block::Summary(summary()),
            ],
        };
        let text = draw(&document, Style::default());
        assert!(
            text.starts_with("one\ntwo\\u{7}\n\nSync · 12.4s\n───"),
            "{text}"
        );
    }

    #[test]
    fn colours_are_optional_and_do_not_shift_columns() {
        let rows = vec![
            vec![Cell::toned("ok", Tone::Good), Cell::plain("x")],
            vec![Cell::toned("failed", Tone::Bad), Cell::plain("y")],
        ];
        let document = Document {
            blocks: vec![
                Block::Table(Table {
                    rows,
                    ..Table::default()
                }),
                Block::Summary(summary()),
            ],
        };
        let colored = draw(&document, Style { color: true });
        assert!(
            colored.starts_with("\u{1b}[32mok\u{1b}[0m      x\n\u{1b}[31mfailed\u{1b}[0m  y\n"),
            "{colored:?}"
        );
        let uncolored = draw(&document, Style::default());
        assert!(!uncolored.contains('\u{1b}'));
        let stripped = [
            "\u{1b}[32m",
            "\u{1b}[31m",
            "\u{1b}[1m",
            "\u{1b}[2m",
            "\u{1b}[0m",
        ]
        .iter()
        .fold(colored, |text, sequence| text.replace(sequence, ""));
        assert_eq!(stripped, uncolored);
    }

    #[test]
    fn human_bytes_carries_over_to_the_next_unit() {
        let shown = [
            0,
            512,
            999,
            1000,
            12_345,
            999_949,
            999_950,
            9_995_000,
            412_600_000,
            1_070_000_000,
            u64::MAX,
        ]
        .map(human_bytes);
        insta::assert_snapshot!(shown.join("\n"), @"
        0 B
        512 B
        999 B
        1.00 kB
        12.3 kB
        999.9 kB
        1.00 MB
        10.0 MB
        412.6 MB
        1.07 GB
        18446744.1 TB
        ");
    }

    #[test]
    fn human_duration_carries_over_when_rounded() {
        let shown = [
            0,
            49,
            440,
            12_400,
            59_949,
            59_950,
            192_000,
            3_599_500,
            3_720_000,
            363_600_000,
        ]
        .map(|milliseconds| human_duration(Duration::from_millis(milliseconds)));
        insta::assert_snapshot!(shown.join("\n"), @"
        0.0s
        0.0s
        0.4s
        12.4s
        59.9s
        1m 00s
        3m 12s
        1h 00m
        1h 02m
        101h 00m
        ");
    }
}
