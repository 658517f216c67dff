//! End-of-life data of the sample world. The dates are made up.

use chrono::{NaiveDate, TimeDelta};

/// Release cycles: product, cycle, and days until its end, which is negative for the past.
const CYCLES: [(&str, &str, i64); 8] = [
    ("alpine", "3.22", 420),
    ("alpine", "3.21", 20),
    ("alpine", "3.20", -90),
    ("alpine", "3.19", -240),
    ("debian", "13", 1000),
    ("debian", "12", 300),
    ("go", "1.24", 150),
    ("go", "1.23", -30),
];

/// Returns the data file as of `day`, so that some cycles have always ended and some end soon.
pub(super) fn end_of_life(day: NaiveDate) -> String {
    let mut text = "# Sample data: the dates are made up.\n".to_owned();
    let mut last = "";
    for (product, cycle, days) in CYCLES {
        if product != last {
            text.push_str(&format!("{product}:\n"));
            last = product;
        }
        let end = TimeDelta::try_days(days)
            .and_then(|days| day.checked_add_signed(days))
            .unwrap_or(day);
        text.push_str(&format!("- {{ cycle: '{cycle}', eol: {end} }}\n"));
    }
    text
}
