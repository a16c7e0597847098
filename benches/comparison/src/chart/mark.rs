//! How a server is told from the others: by a colour, and without colours by a shape.

use anyhow::Result;
use plotters::element::PathElement;
use plotters::prelude::{Circle, Color, Polygon, RGBColor, ShapeStyle};

use super::page::{Area, BACKGROUND};

/// A colour and a shape.
#[derive(Clone, Copy)]
pub struct Mark {
    pub color: RGBColor,
    pub shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Wedge,
}

/// The palette of Okabe and Ito, which readers with any kind of colour vision can tell apart; its yellow, too pale for
/// a light background, is a grey here.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(138, 138, 138),
];

/// As many as have no factor in common with the colours, so that no two of forty servers look the same.
const SHAPES: [Shape; 5] = [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond, Shape::Wedge];

impl Mark {
    /// Returns the mark of a server by its place among all of them, so that it is the same in every chart.
    pub fn of(place: usize) -> Self {
        let color = COLORS[place % COLORS.len()];
        // The second time, a darker one.
        let is_first = place / COLORS.len() % 2 == 0;
        Self { color: if is_first { color } else { darker(color) }, shape: SHAPES[place % SHAPES.len()] }
    }

    /// Draws it with its middle at a pixel. A hollow one tells that there were errors.
    pub fn draw(self, on: &Area, (x, y): (i32, i32), is_hollow: bool) -> Result<()> {
        if self.shape == Shape::Circle {
            on.draw(&Circle::new((x, y), 4, if is_hollow { BACKGROUND.filled() } else { self.color.filled() }))?;
            if is_hollow {
                on.draw(&Circle::new((x, y), 4, ShapeStyle::from(self.color).stroke_width(2)))?;
            }
            return Ok(());
        }
        let mut outline: Vec<(i32, i32)> = self.shape.corners().iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        on.draw(&Polygon::new(outline.clone(), if is_hollow { BACKGROUND.filled() } else { self.color.filled() }))?;
        if is_hollow {
            outline.push(outline[0]);
            on.draw(&PathElement::new(outline, ShapeStyle::from(self.color).stroke_width(2)))?;
        }
        Ok(())
    }
}

fn darker(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let [red, green, blue] = [red, green, blue].map(|part| part / 2);
    RGBColor(red, green, blue)
}

impl Shape {
    /// About as large as a circle of four pixels.
    fn corners(self) -> &'static [(i32, i32)] {
        match self {
            Self::Circle => &[],
            Self::Square => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
            Self::Triangle => &[(0, -5), (5, 4), (-5, 4)],
            Self::Diamond => &[(0, -6), (5, 0), (0, 6), (-5, 0)],
            Self::Wedge => &[(-5, -4), (5, -4), (0, 5)],
        }
    }
}
