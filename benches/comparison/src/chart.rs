//! The pictures of a run, as SVG files that need no fonts and no other files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use plotters::style::text_anchor::{HPos, VPos};

use crate::group::{Group, has_throughput, sets};
use crate::quantity::{self, Quantity};
use crate::results::{Host, Results, Workload};

use lines::Lines;
use mark::Mark;
use page::{Area, FAINT_INK, INK, Page, SMALL, WIDTH, shortened, style, width_of, write};
use rows::{AXIS, PERCENTILES, ROW, Rows};

mod axis;
mod lines;
mod mark;
mod page;
mod rows;

/// Writes the charts as SVG files into `directory`, which exists, and returns their paths. What was not measured is not
/// drawn.
///
/// # Errors
///
/// A file cannot be written.
pub fn draw_all(results: &Results, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for chart in Chart::all(results) {
        let path = directory.join(chart.file_name);
        chart.draw(results, &path).with_context(|| format!("drawing {}", chart.file_name))?;
        paths.push(path);
    }
    Ok(paths)
}

/// A picture: a panel for each set of groups.
pub struct Chart<'a> {
    pub file_name: &'static str,
    pub title: String,
    kind: Kind,
    /// Of one case and transport each.
    panels: Vec<Vec<Group<'a>>>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A number against the number of connections.
    Lines(Quantity),
    /// A number of each server, at one number of connections.
    Bars(Quantity),
    /// The percentiles of the latency of each server, at one number of connections.
    Latency,
}

/// A server, and how it is drawn.
#[derive(Clone, Copy)]
struct Server<'a> {
    name: &'a str,
    mark: Mark,
}

impl<'a> Chart<'a> {
    /// Returns the charts for which there are numbers.
    pub fn all(results: &'a Results) -> Vec<Self> {
        let served: Vec<Group> = Group::all(results).into_iter().filter(|group| group.measured() > 0).collect();
        let scales = sets(&served.into_iter().filter(has_throughput).collect::<Vec<_>>());
        let typical: Vec<Group> = Group::typical(results).into_iter().filter(|group| group.measured() > 0).collect();
        let (idle, busy): (Vec<Group>, Vec<Group>) =
            typical.into_iter().partition(|group| *group.workload == Workload::Idle);
        let panels = |groups: &[Group<'a>]| groups.iter().map(|group| vec![group.clone()]).collect::<Vec<_>>();
        let cases = one_of_each_case(&busy);
        let costs: Vec<Group> = cases.iter().filter(|group| *group.workload != Workload::Flood).cloned().collect();

        let throughput = match leading(&scales) {
            Some(scale) => Self {
                file_name: "throughput.svg",
                title: format!("Throughput against connections: {}, {}", scale[0].case, scale[0].transport),
                kind: Kind::Lines(quantity::THROUGHPUT),
                panels: vec![scale.clone()],
            },
            None => Self {
                file_name: "throughput.svg",
                title: "Throughput".to_owned(),
                kind: Kind::Bars(quantity::THROUGHPUT),
                panels: panels(&busy.iter().filter(|group| has_throughput(group)).cloned().collect::<Vec<_>>()),
            },
        };
        let latency = Self {
            file_name: "latency.svg",
            title: "Latency, from the median to the longest".to_owned(),
            kind: Kind::Latency,
            panels: panels(&cases),
        };
        let cpu = Self {
            file_name: "cpu.svg",
            title: "CPU time of the server per exchange".to_owned(),
            kind: Kind::Bars(quantity::CPU),
            panels: panels(&costs),
        };
        let memory = Self {
            file_name: "memory.svg",
            title: "Resident memory of the server per idle connection".to_owned(),
            kind: Kind::Bars(quantity::MEMORY),
            panels: panels(&idle),
        };
        let overview = Self {
            file_name: "overview.svg",
            title: "Exchanges per second against connections, by case and transport".to_owned(),
            kind: Kind::Lines(quantity::THROUGHPUT),
            // One panel would show what the first chart shows.
            panels: if scales.len() > 1 { scales } else { Vec::new() },
        };
        [throughput, latency, cpu, memory, overview].into_iter().filter(|chart| !chart.panels.is_empty()).collect()
    }

    fn draw(&self, results: &Results, path: &Path) -> Result<()> {
        // The place among all servers of the run, so that a server looks the same in every chart.
        let all = results.servers().into_iter().enumerate().map(|(place, name)| Server { name, mark: Mark::of(place) });
        let servers: Vec<Server> = all.filter(|server| self.has(server.name)).collect();
        let page = Page {
            title: self.title.clone(),
            subtitle: self.subtitle(results),
            legend: match self.kind {
                Kind::Lines(_) => servers.iter().map(|server| (server.mark, server.name.to_owned())).collect(),
                Kind::Bars(_) => Vec::new(),
                Kind::Latency => PERCENTILES
                    .map(|(quantity, shape)| (Mark { color: FAINT_INK, shape }, quantity.name.to_owned()))
                    .to_vec(),
            },
            notes: self.notes(results),
        };
        let grid = self.grid(&servers);
        page.draw(path, grid.height * self.panels.len().div_ceil(grid.columns) as u32, |on| {
            for (place, groups) in self.panels.iter().enumerate() {
                let column = place % grid.columns;
                // The names of the rows are at the left of the first column alone.
                let names = if column == 0 { grid.names } else { 0 };
                let left = SIDE + if column == 0 { 0 } else { grid.names } + grid.width * column as u32;
                let top = grid.height * (place / grid.columns) as u32;
                let panel = on.clone().shrink((left, top), (grid.width + names, grid.height - GAP));
                self.draw_panel(&panel, groups, &servers, names)?;
            }
            Ok(())
        })
    }

    fn draw_panel(&self, on: &Area, groups: &[Group], servers: &[Server], names: u32) -> Result<()> {
        let Some(group) = groups.first() else { return Ok(()) };
        let all = self.panels.iter().flatten();
        let kin: Vec<&Group> =
            all.filter(|other| (other.case, other.workload) == (group.case, group.workload)).collect();
        let below = |head: u32| on.margin(head, 0, 0, 0);
        match self.kind {
            Kind::Lines(quantity) if self.panels.len() == 1 => {
                let (x_label, y_label) = (Some("connections at a time"), Some(quantity.label));
                Lines { groups, kin: &kin, quantity, x_label, y_label, apart: 1.0 }.draw(on, servers)
            }
            Kind::Lines(quantity) => {
                // Points of one number of connections have the whole panel.
                let apart = if groups.len() > 1 { 0.5 } else { 140.0 / servers.len() as f64 };
                head(on, 8, group.case, group.transport)?;
                Lines { groups, kin: &kin, quantity, x_label: None, y_label: None, apart }.draw(&below(HEAD), servers)
            }
            Kind::Bars(_) | Kind::Latency => {
                let load = group.title();
                let load = load.strip_prefix(group.case).and_then(|rest| rest.strip_prefix(", ")).unwrap_or(&load);
                head(on, names as i32 + 12, group.case, load)?;
                let rows = Rows { group, names };
                match self.kind {
                    Kind::Bars(quantity) => rows.draw_bars(&below(HEAD), servers, quantity),
                    _ => rows.draw_latency(&below(HEAD), servers),
                }
            }
        }
    }

    fn grid(&self, servers: &[Server]) -> Grid {
        let columns = match self.panels.len() {
            1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
        let longest = servers.iter().map(|server| width_of(server.name, SMALL) as u32).max().unwrap_or(0);
        let (names, height) = match self.kind {
            Kind::Lines(_) if columns == 1 => (0, 400),
            Kind::Lines(_) => (0, 210),
            Kind::Bars(_) | Kind::Latency => {
                // Two fifths of the page are for names at most; longer ones are shortened.
                ((longest + 12).min(WIDTH * 2 / 5), HEAD + ROW * servers.len() as u32 + AXIS + GAP)
            }
        };
        Grid { columns, width: (WIDTH - 2 * SIDE - names) / columns as u32, height, names }
    }

    fn has(&self, server: &str) -> bool {
        self.panels.iter().flatten().any(|group| group.cell(server).is_some())
    }

    fn subtitle(&self, results: &Results) -> String {
        let Results { host, method, .. } = results;
        let rounds = match method.rounds {
            1 => "one round".to_owned(),
            rounds => format!("median of {rounds} rounds"),
        };
        let spread = match self.kind {
            Kind::Lines(_) if method.rounds > 1 => ", with lines from the lowest to the highest",
            Kind::Bars(_) if method.rounds > 1 => ", with dark lines from the lowest to the highest",
            _ => "",
        };
        let processor = if host.processor.is_empty() { String::new() } else { format!("{}, ", host.processor) };
        let Host { cores, kernel, date, .. } = host;
        format!("{}: {rounds}{spread}. {kernel}, {processor}{cores} cores, {date}.", results.title)
    }

    fn notes(&self, results: &Results) -> Vec<String> {
        let mut notes = Vec::new();
        let mut cells = self.panels.iter().flatten().flat_map(|group| &group.cells);
        let is_lines = matches!(self.kind, Kind::Lines(_));
        if is_lines && cells.clone().any(|cell| cell.samples().is_empty()) {
            notes.push("A line ends, or is missing, where its server cannot serve that many connections.".to_owned());
        }
        if cells.any(|cell| !cell.is_clean()) {
            let mark = if matches!(self.kind, Kind::Bars(_)) { "An exclamation mark" } else { "A hollow mark" };
            notes.push(format!("{mark} is a number not to be trusted: there were errors."));
        }
        if !results.complete {
            notes.push("The run was interrupted: not everything was measured.".to_owned());
        }
        notes
    }
}

/// How panels are arranged, in pixels.
struct Grid {
    columns: usize,
    width: u32,
    height: u32,
    names: u32,
}

const SIDE: u32 = 8;
const GAP: u32 = 12;
const HEAD: u32 = 40;

/// Writes what a panel shows above it, in two lines.
fn head(on: &Area, left: i32, case: &str, load: &str) -> Result<()> {
    let width = on.dim_in_pixel().0 as i32 - left;
    write(on, &shortened(case, 14, width), (left, 4), &style(14, INK, HPos::Left, VPos::Top, true))?;
    let small = style(SMALL, FAINT_INK, HPos::Left, VPos::Top, false);
    write(on, &shortened(load, SMALL, width), (left, 21), &small)
}

/// The set with the most numbers of connections, and of several the first.
fn leading<'a, 's>(sets: &'s [Vec<Group<'a>>]) -> Option<&'s Vec<Group<'a>>> {
    let most = sets.iter().map(Vec::len).max().filter(|most| *most > 1)?;
    sets.iter().find(|set| set.len() == most)
}

/// The first transport of each case.
fn one_of_each_case<'a>(groups: &[Group<'a>]) -> Vec<Group<'a>> {
    let mut kept: Vec<Group> = Vec::new();
    for group in groups {
        if kept.iter().all(|other| (other.case, other.workload) != (group.case, group.workload)) {
            kept.push(group.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{env, fs, process};

    use super::draw_all;
    use crate::example;
    use crate::results::{Outcome, Results, Workload};

    /// Draws the charts into a directory of their own, and returns their names and contents.
    fn charts(results: &Results, name: &str) -> Vec<(String, String)> {
        let directory = env::temp_dir().join(format!("socketserver-charts-{}-{name}", process::id()));
        fs::create_dir_all(&directory).expect("the directory can be made");
        let paths = draw_all(results, &directory).expect("the charts can be drawn");
        let name =
            |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let read = |path: &PathBuf| (name(path), fs::read_to_string(path).expect("it was written"));
        let charts = paths.iter().map(read).collect();
        fs::remove_dir_all(&directory).expect("what was made can be removed");
        charts
    }

    /// The texts of a picture; fails where it is not well-formed.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).expect("it is well-formed");
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.filter_map(|text| text.text().map(|text| text.trim().to_owned())).collect()
    }

    fn names(charts: &[(String, String)]) -> Vec<&str> {
        charts.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn full_run_has_every_chart() {
        let results = example::standard();
        let charts = charts(&results, "standard");
        assert_eq!(names(&charts), ["throughput.svg", "latency.svg", "cpu.svg", "memory.svg", "overview.svg"]);
        for (name, svg) in &charts {
            let texts = texts(svg);
            for server in results.servers() {
                assert!(texts.iter().any(|text| text == server), "{name} does not name {server}");
            }
            assert!(svg.len() < 150_000, "{name} has {} bytes", svg.len());
        }
        let has = |chart: usize, label: &str| texts(&charts[chart].1).iter().any(|text| text == label);
        assert!(has(0, "connections at a time") && has(0, "exchanges per second") && has(0, "10k"));
        assert!(has(1, "latency, log scale") && has(1, "p99.9") && has(1, "10 ms"));
        assert!(has(2, "CPU time per exchange") && has(2, "cannot serve this"));
        assert!(has(3, "memory per connection") && has(3, "failed"));
    }

    #[test]
    fn smallest_run_has_the_charts_that_it_has_numbers_for() {
        let charts = charts(&example::minimal(), "minimal");
        assert_eq!(names(&charts), ["throughput.svg", "latency.svg", "cpu.svg"]);
        for (name, svg) in &charts {
            let texts = texts(svg);
            assert!(texts.iter().any(|text| text == "threading"), "{name}: {texts:?}");
            assert!(texts.iter().any(|text| text == "event-loop"), "{name}: {texts:?}");
        }
    }

    #[test]
    fn run_without_numbers_has_no_charts() {
        let unable = Outcome::Unable("it is not built for that".to_owned());
        let cell = example::cell("nothing", Workload::ClosedLoop, "tcp", 1, "sequential", unable);
        assert!(charts(&example::results("nothing", vec![cell]), "nothing").is_empty());
        assert!(charts(&example::results("nothing", Vec::new()), "nothing").is_empty());
    }

    #[test]
    fn odd_names_and_numbers_are_drawn() {
        let mut results = example::minimal();
        results.title = "a < b & \"c\"".to_owned();
        results.complete = false;
        results.cells[0].server = "python3 -X importtime -m a_very_long_module_name.server --workers 40 <&>".to_owned();
        results.cells[0].case = "x".repeat(200);
        for sample in example::samples(&mut results.cells[1]) {
            (sample.per_second, sample.cpu_ns, sample.latency.max) = (0.0, f64::NAN, f64::INFINITY);
            sample.errors.insert("timed out".to_owned(), 9);
        }
        for (_, svg) in charts(&results, "odd") {
            texts(&svg);
            assert!(!svg.contains("NaN"), "{svg}");
        }
    }
}
