//! The sheet that a chart is drawn on: its title, its legend, what to know below it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::prelude::{
    Color, DrawingArea, IntoDrawingArea, IntoFont, RGBColor, Rectangle, SVGBackend, TRANSPARENT, Text, TextStyle,
};
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::mark::Mark;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A chart has its own light background: no colours would be legible on both a white and a dark page.
pub const BACKGROUND: RGBColor = RGBColor(255, 255, 255);
pub const INK: RGBColor = RGBColor(36, 41, 47);
pub const FAINT_INK: RGBColor = RGBColor(87, 96, 106);
pub const GRID: RGBColor = RGBColor(225, 228, 232);

/// As wide as a README is shown.
pub const WIDTH: u32 = 880;
const MARGIN: i32 = 16;
const LINE: i32 = 20;
/// The size of all texts but titles, in pixels.
pub const SMALL: i32 = 12;

pub struct Page {
    pub title: String,
    /// What the numbers are, on which host.
    pub subtitle: String,
    pub legend: Vec<(Mark, String)>,
    /// What to know before they are believed.
    pub notes: Vec<String>,
}

impl Page {
    /// Writes an SVG file; `body` draws on an area of `height` pixels.
    pub fn draw(&self, path: &Path, height: u32, body: impl FnOnce(&Area) -> Result<()>) -> Result<()> {
        let places = self.legend_places();
        let subtitle = wrapped(&self.subtitle, SMALL);
        let notes: Vec<String> = self.notes.iter().flat_map(|note| wrapped(note, SMALL)).collect();
        let legend_lines = places.last().map_or(0, |(_, line)| line + 1);

        let subtitle_top = MARGIN + 28;
        let legend_top = subtitle_top + 16 * subtitle.len() as i32 + 8;
        let body_top = legend_top + LINE * legend_lines + 4;
        let notes_top = body_top + height as i32 + 6;
        let total = notes_top + 16 * notes.len() as i32 + 10;

        let mut svg = String::new();
        {
            let sheet = SVGBackend::with_string(&mut svg, (WIDTH, total as u32)).into_drawing_area();
            sheet.fill(&BACKGROUND)?;
            sheet.draw(&Rectangle::new([(0, 0), (WIDTH as i32 - 1, total - 1)], GRID))?;
            write(&sheet, &self.title, (MARGIN, MARGIN), &style(18, INK, HPos::Left, VPos::Top, true))?;
            let small = style(SMALL, FAINT_INK, HPos::Left, VPos::Top, false);
            for (line, text) in subtitle.iter().enumerate() {
                write(&sheet, text, (MARGIN, subtitle_top + 16 * line as i32), &small)?;
            }
            for ((mark, name), (x, line)) in self.legend.iter().zip(places) {
                let middle = legend_top + LINE * line + LINE / 2;
                mark.draw(&sheet, (x + 5, middle), false)?;
                write(&sheet, name, (x + 16, middle), &style(SMALL, INK, HPos::Left, VPos::Center, false))?;
            }
            for (line, text) in notes.iter().enumerate() {
                write(&sheet, text, (MARGIN, notes_top + 16 * line as i32), &small)?;
            }
            body(&sheet.clone().shrink((0, body_top), (WIDTH, height)))?;
            sheet.present()?;
        }
        fs::write(path, svg).with_context(|| format!("writing {}", path.display()))
    }

    /// Where each entry of the legend begins, and in which line.
    fn legend_places(&self) -> Vec<(i32, i32)> {
        let (mut x, mut line) = (MARGIN, 0);
        let place = |(_, name): &(Mark, String)| {
            let width = 16 + width_of(name, SMALL) + 18;
            if x > MARGIN && x + width > WIDTH as i32 - MARGIN {
                (x, line) = (MARGIN, line + 1);
            }
            let place = (x, line);
            x += width;
            place
        };
        self.legend.iter().map(place).collect()
    }
}

/// About how wide a text is, in pixels: the reader's font is unknown, and this is true of the wide ones.
pub fn width_of(text: &str, size: i32) -> i32 {
    let ems: f64 = text.chars().map(ems).sum();
    (ems * f64::from(size)).ceil() as i32
}

fn ems(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'I' | 't' | 'f' | 'r' | ' ' | '.' | ',' | ':' | '-' | '(' | ')' | '|' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | 'µ' => 0.95,
        'A'..='Z' => 0.73,
        _ => 0.64,
    }
}

/// Shortens a text to at most `width` pixels.
pub fn shortened(text: &str, size: i32, width: i32) -> String {
    if width_of(text, size) <= width {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    while kept.pop().is_some() && width_of(&kept, size) + size > width {}
    kept.trim_end().to_owned() + "…"
}

/// Parts a text into lines as wide as the page.
fn wrapped(text: &str, size: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width_of(line, size) + width_of(word, size) + size < WIDTH as i32 - 2 * MARGIN => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text style whose size is in pixels, as the file has it.
pub fn style(size: i32, color: RGBColor, horizontal: HPos, vertical: VPos, is_bold: bool) -> TextStyle<'static> {
    // The backend divides what it is given by this, to come from a font's height to its size.
    let height = f64::from(size) * 1.24;
    let weight = if is_bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = ("sans-serif", height).into_font().style(weight);
    TextStyle { font, color: color.to_backend_color(), pos: Pos::new(horizontal, vertical) }
}

/// Sets what all panels have in common: a quiet grid, small labels.
pub fn styled_mesh<'m, 'a, 'b>(
    mesh: &'m mut MeshStyle<'a, 'b, Axis, Axis, SVGBackend<'a>>,
) -> &'m mut MeshStyle<'a, 'b, Axis, Axis, SVGBackend<'a>> {
    mesh.axis_style(FAINT_INK)
        .bold_line_style(GRID)
        // The lines between are those of the labels again.
        .light_line_style(TRANSPARENT)
        .label_style(style(SMALL, FAINT_INK, HPos::Center, VPos::Center, false))
        .axis_desc_style(style(SMALL, INK, HPos::Center, VPos::Center, false))
}

pub fn write(on: &Area, text: &str, at: (i32, i32), style: &TextStyle) -> Result<()> {
    on.draw(&Text::new(text, at, style.clone()))?;
    Ok(())
}
