//! A panel with a line for each server: a number against the number of connections.

use anyhow::Result;
use plotters::chart::ChartBuilder;
use plotters::element::PathElement;
use plotters::style::ShapeStyle;

use super::Server;
use super::axis::Axis;
use super::page::{Area, styled_mesh};
use crate::group::Group;
use crate::quantity::{Quantity, Unit};
use crate::spread::Spread;

/// The groups of one case and transport, in the order of their connections.
pub struct Lines<'a, 'g> {
    pub groups: &'g [Group<'a>],
    /// What the height of the panel has room for: with the other transports of the case, so that they can be compared.
    pub kin: &'g [&'g Group<'a>],
    pub quantity: Quantity,
    pub x_label: Option<&'g str>,
    pub y_label: Option<&'g str>,
    /// How far the servers' points are moved apart, in pixels, so that those which are equal do not hide each other.
    pub apart: f64,
}

impl Lines<'_, '_> {
    pub fn draw(&self, on: &Area, servers: &[Server]) -> Result<()> {
        let (width, height) = on.dim_in_pixel();
        let cells = self.kin.iter().flat_map(|group| &group.cells);
        let spreads = cells.filter_map(|cell| self.quantity.spread(cell));
        let extremes = spreads.flat_map(|Spread { min, max, .. }| [min, max]);
        let y = Axis::logarithmic(extremes, self.quantity.unit, 22.0 / f64::from(height));
        let counts = || self.groups.iter().map(|group| group.connections as f64);
        let x = Axis::logarithmic(counts(), Unit::Count, 0.2).labelled_at(counts(), 40.0 / f64::from(width));

        let with_label = |label: Option<&str>, bare: u32| if label.is_some() { bare + 20 } else { bare };
        let mut chart = ChartBuilder::on(on)
            .margin_right(14)
            .margin_top(8)
            .x_label_area_size(with_label(self.x_label, 24))
            .y_label_area_size(with_label(self.y_label, 56))
            .build_cartesian_2d(x, y)?;
        styled_mesh(&mut chart.configure_mesh())
            .x_desc(self.x_label.unwrap_or_default())
            .y_desc(self.y_label.unwrap_or_default())
            .draw()?;

        let area = chart.plotting_area();
        for (place, server) in servers.iter().enumerate() {
            let shift = ((place as f64 - (servers.len() - 1) as f64 / 2.0) * self.apart).round() as i32;
            let at = |connections: usize, value: f64| {
                let (x, y) = area.map_coordinate(&(connections as f64, value));
                (x + shift, y)
            };
            let cells = self.groups.iter().filter_map(|group| group.cell(server.name));
            let points: Vec<Point> = cells
                .filter_map(|cell| {
                    let Spread { median, min, max } = self.quantity.spread(cell)?;
                    let [middle, low, high] = [median, min, max].map(|value| at(cell.connections, value));
                    Some(Point { middle, low, high, is_hollow: !cell.is_clean() })
                })
                .collect();
            draw_line(&area.use_screen_coord(), &points, server)?;
        }
        Ok(())
    }
}

/// In pixels.
struct Point {
    middle: (i32, i32),
    low: (i32, i32),
    high: (i32, i32),
    is_hollow: bool,
}

fn draw_line(on: &Area, points: &[Point], server: &Server) -> Result<()> {
    let color = server.mark.color;
    let path: Vec<(i32, i32)> = points.iter().map(|point| point.middle).collect();
    if path.len() > 1 {
        on.draw(&PathElement::new(path, ShapeStyle::from(color).stroke_width(2)))?;
    }
    for Point { middle, low, high, is_hollow } in points {
        // A spread that the mark covers would only add to the file.
        if low.1 - high.1 > 8 {
            on.draw(&PathElement::new(vec![*low, *high], color))?;
        }
        server.mark.draw(on, *middle, *is_hollow)?;
    }
    Ok(())
}
