//! A panel with a row for each server: bars, or the percentiles of a latency.

use anyhow::Result;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::element::PathElement;
use plotters::prelude::{Color, Rectangle, SVGBackend};
use plotters::style::ShapeStyle;
use plotters::style::text_anchor::{HPos, VPos};

use super::Server;
use super::axis::Axis;
use super::mark::{Mark, Shape};
use super::page::{Area, BACKGROUND, FAINT_INK, GRID, INK, SMALL, shortened, style, styled_mesh, width_of, write};
use crate::group::Group;
use crate::quantity::{self, Quantity};
use crate::results::{Cell, Outcome};
use crate::spread::Spread;

/// How high a row is, in pixels.
pub const ROW: u32 = 19;

/// The height of a panel beside its rows: its axis and what the axis is labelled with.
pub const AXIS: u32 = 42;

/// What a latency is told by, from the quick to the slow, with the shape of each.
pub const PERCENTILES: [(Quantity, Shape); 4] = [
    (quantity::P50, Shape::Circle),
    (quantity::P99, Shape::Square),
    (quantity::P999, Shape::Triangle),
    (quantity::MAX, Shape::Diamond),
];

/// What one load gave for each server.
pub struct Rows<'a, 'g> {
    pub group: &'g Group<'a>,
    /// How wide the names at the left are; without them, the panel to the left has them.
    pub names: u32,
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

impl Rows<'_, '_> {
    /// Draws a bar for the median of a number, a line for its extremes, and the number itself.
    pub fn draw_bars(&self, on: &Area, servers: &[Server], quantity: Quantity) -> Result<()> {
        let width = self.plot_width(on);
        let spreads = self.group.cells.iter().filter_map(|cell| quantity.spread(cell));
        // The number is written beyond the bar.
        let room = f64::from(width_of("0000 KiB", SMALL)) / f64::from(width);
        let maxima = spreads.map(|spread| spread.max);
        let axis = Axis::from_zero(maxima, room / (1.0 - room), quantity.unit, (width / 50) as usize);
        let chart = self.frame(on, servers, axis, quantity.label)?;
        self.for_each(on, &chart, servers, |screen, server, cell, y| {
            let Some(Spread { median, min, max }) = quantity.spread(cell) else { return Ok(()) };
            let at = |value: f64| chart.plotting_area().map_coordinate(&(value, 0.0)).0;
            let bar = Rectangle::new([(at(0.0), y - 6), (at(median), y + 6)], server.mark.color.filled());
            screen.draw(&bar)?;
            if at(max) - at(min) > 3 {
                let spread = vec![(at(min), y), (at(max), y)];
                // With an edge, so that it is seen on a dark bar, too.
                screen.draw(&PathElement::new(spread.clone(), ShapeStyle::from(BACKGROUND).stroke_width(4)))?;
                screen.draw(&PathElement::new(spread, ShapeStyle::from(INK).stroke_width(2)))?;
            }
            let number = quantity.unit.show(median) + if cell.is_clean() { "" } else { " !" };
            write(screen, &number, (at(max) + 5, y), &style(SMALL, INK, HPos::Left, VPos::Center, false))
        })
    }

    /// Draws the percentiles of the latency.
    pub fn draw_latency(&self, on: &Area, servers: &[Server]) -> Result<()> {
        let values = self.group.cells.iter().flat_map(|cell| PERCENTILES.map(|(quantity, _)| told(cell, quantity)));
        let axis = Axis::logarithmic(values.flatten(), quantity::P50.unit, 50.0 / f64::from(self.plot_width(on)));
        let chart = self.frame(on, servers, axis, "latency, log scale")?;
        self.for_each(on, &chart, servers, |screen, server, cell, y| {
            let at = |value: f64| (chart.plotting_area().map_coordinate(&(value, 0.0)).0, y);
            let places: Vec<_> =
                PERCENTILES.iter().filter_map(|(quantity, shape)| Some((at(told(cell, *quantity)?), *shape))).collect();
            let path: Vec<_> = places.iter().map(|(place, _)| *place).collect();
            screen.draw(&PathElement::new(path, ShapeStyle::from(server.mark.color).stroke_width(2)))?;
            // The quickest last: where two are equal, the median is what is to be seen.
            for (place, shape) in places.into_iter().rev() {
                Mark { color: server.mark.color, shape }.draw(screen, place, !cell.is_clean())?;
            }
            Ok(())
        })
    }

    fn plot_width(&self, on: &Area) -> u32 {
        on.dim_in_pixel().0 - self.names - MARGINS
    }

    fn frame<'a>(&self, on: &Area<'a>, servers: &[Server], axis: Axis, label: &str) -> Result<Chart<'a>> {
        let mut chart = ChartBuilder::on(on)
            .margin_left(MARGINS / 2)
            .margin_right(MARGINS / 2)
            .x_label_area_size(AXIS)
            .y_label_area_size(self.names)
            .build_cartesian_2d(axis, Axis::rows(servers.len()))?;
        styled_mesh(&mut chart.configure_mesh()).disable_y_mesh().x_desc(label).draw()?;
        Ok(chart)
    }

    /// Draws the row of each server at its height in pixels: what `draw` makes of its cell, or why there is nothing.
    fn for_each(
        &self,
        on: &Area,
        chart: &Chart,
        servers: &[Server],
        draw: impl Fn(&Area, &Server, &Cell, i32) -> Result<()>,
    ) -> Result<()> {
        let area = chart.plotting_area();
        // The panel and not the plot, as the names stand beside it.
        let screen = on.use_screen_coord();
        let columns = area.get_x_axis_pixel_range();
        let name_style = style(SMALL, INK, HPos::Right, VPos::Center, false);
        let remark_style = style(SMALL, FAINT_INK, HPos::Left, VPos::Center, false);
        for (row, server) in servers.iter().enumerate() {
            let (_, y) = area.map_coordinate(&(0.0, row as f64 + 0.5));
            if self.names > 0 {
                let name = shortened(server.name, SMALL, self.names as i32 - 8);
                write(&screen, &name, (columns.start - 8, y), &name_style)?;
            }
            let cell = self.group.cell(server.name);
            match cell.map(|cell| (cell, &cell.outcome)) {
                Some((cell, Outcome::Measured(samples))) if !samples.is_empty() => draw(&screen, server, cell, y)?,
                Some((_, Outcome::Unable(_))) => {
                    write(&screen, "cannot serve this", (columns.start + 6, y), &remark_style)?;
                }
                Some((_, Outcome::Failed(_))) => write(&screen, "failed", (columns.start + 6, y), &remark_style)?,
                Some((_, Outcome::Measured(_))) | None => {
                    let nothing = vec![(columns.start + 6, y), (columns.start + 14, y)];
                    screen.draw(&PathElement::new(nothing, GRID))?;
                }
            }
        }
        Ok(())
    }
}

/// To the left and to the right together, in pixels.
const MARGINS: u32 = 24;

/// The median of the rounds; of the longest latencies the longest.
fn told(cell: &Cell, quantity: Quantity) -> Option<f64> {
    let Spread { median, max, .. } = quantity.spread(cell)?;
    Some(if quantity.name == quantity::MAX.name { max } else { median })
}
