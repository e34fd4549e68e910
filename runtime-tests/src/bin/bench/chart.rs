//! A bar chart of the launches, written by hand as SVG; a style sheet inside it follows the
//! reader's light or dark background.

use std::fmt::Write;

use crate::report::{Row, Section};

/// The sections that are drawn, if they were measured.
const DRAWN: [&str; 3] = ["whole-paced", "detached-paced", "library-paced"];

const WIDTH: f64 = 820.0;
const LABELS: f64 = 210.0;
const FIGURES: f64 = 170.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 44.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600}.small{font-size:12px;fill:#59636e}\
.bar{fill:#8c959f}.squall{fill:#0969da}.floor{fill:#1a7f37}.reach{stroke:#59636e;stroke-width:1.5}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.bar{fill:#656c76}.squall{fill:#4493f8}.floor{fill:#3fb950}\
.reach{stroke:#9198a1}}";

/// The chart; nothing when none of the drawn sections was measured.
pub fn draw(sections: &[Section], machine: &str) -> Option<String> {
    let drawn: Vec<&Section> =
        DRAWN.iter().filter_map(|name| sections.iter().find(|section| section.name == *name)).collect();
    if drawn.is_empty() {
        return None;
    }
    let mut body = String::new();
    let mut y = 8.0;
    for section in drawn {
        y = add_section(&mut body, section, y);
    }
    text(&mut body, "small", 10.0, y + 14.0, "start", "bars: medians; lines: to the 95th percentile");
    text(&mut body, "small", 10.0, y + 32.0, "start", machine);
    let height = y + 44.0;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>Squall's launches beside its peers'</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    ))
}

/// Adds a section below `y`; the answer is where it ends.
fn add_section(body: &mut String, section: &Section, y: f64) -> f64 {
    text(body, "head", 10.0, y + 24.0, "start", &format!("{} ({})", section.title, section.unit.name()));
    // A peer ten times as slow as all others would leave these no room: its bar is cut, and its
    // figure tells.
    let longest = section.rows.iter().map(|row| row.summary.p95).fold(0.0, f64::max);
    let squall = section.rows.iter().filter(|row| row.name.contains("squall")).map(|row| row.summary.median);
    let full = longest.min(squall.fold(0.0, f64::max) * 5.0).max(1.0);
    let mut top = y + HEAD - 6.0;
    for row in &section.rows {
        add_row(body, section, row, top, full);
        top += ROW;
    }
    top + 8.0
}

fn add_row(body: &mut String, section: &Section, row: &Row, top: f64, full: f64) {
    let room = WIDTH - LABELS - FIGURES;
    let reach = |amount: f64| LABELS + room * (amount / full).min(1.0);
    let class = match row.name.as_str() {
        name if name.contains("squall") => "bar squall",
        name if name.starts_with("floor") => "bar floor",
        _ => "bar",
    };
    let middle = top + BAR / 2.0;
    text(body, "", LABELS - 8.0, middle + 4.5, "end", &row.name);
    let (length, end) = (reach(row.summary.median) - LABELS, reach(row.summary.p95));
    let bar = format!(
        "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
    );
    let begin = LABELS + length;
    let line =
        format!("<line class=\"reach\" x1=\"{begin:.1}\" y1=\"{middle:.1}\" x2=\"{end:.1}\" y2=\"{middle:.1}\"/>");
    writeln!(body, "{bar}\n{line}").expect("a string takes everything");
    let ratio = row.ratio.map_or(String::new(), |ratio| format!(" · {ratio:.1} × floor"));
    let figure = format!("{}{ratio}", section.unit.show(row.summary.median));
    text(body, "small", WIDTH - FIGURES + 8.0, middle + 4.5, "start", &figure);
}

fn text(body: &mut String, class: &str, x: f64, y: f64, anchor: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>")
        .expect("a string takes everything");
}
