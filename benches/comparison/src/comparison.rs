//! [`Comparison`]: the program.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{CommandFactory, FromArgMatches};
use serde_json::{from_reader, to_writer};

use crate::case::Case;
use crate::command_line::{Command, CommandLine, RunOptions};
use crate::cores::Cores;
use crate::interrupt::Interrupt;
use crate::open_files::OpenFiles;
use crate::plan::{Plan, Selection};
use crate::results::{Host, Method, Outcome, Results};
use crate::rival::Rival;
use crate::server::Server;
use crate::{agreement, chart, csv, readme, report, run, serve};

/// A program that compares servers: what is compared, and the command line that says how.
///
/// ```no_run
/// use std::io::{self, BufRead, Write};
/// use std::process::ExitCode;
///
/// use socketserver::Request;
/// use socketserver_comparison::{Case, Comparison, Messages};
///
/// fn shout(request: &mut Request) -> io::Result<()> {
///     let mut line = String::new();
///     while request.read_line(&mut line)? > 0 {
///         request.write_all(line.to_uppercase().as_bytes())?;
///         line.clear();
///     }
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     Comparison::new("shouting").case(Case::new("shout", shout, Messages::recorded("hello\n", "HELLO\n"))).run()
/// }
/// ```
pub struct Comparison {
    title: String,
    cases: Vec<Case>,
    rivals: Vec<Rival>,
    versions: Vec<(String, Box<Version>)>,
}

type Version = dyn FnOnce() -> Option<String>;

/// The code of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

impl Comparison {
    /// A comparison without cases yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), cases: Vec::new(), rivals: Vec::new(), versions: Vec::new() }
    }

    /// Adds a case. Its name must be its own.
    pub fn case(mut self, case: Case) -> Self {
        self.cases.push(case);
        self
    }

    /// Adds a rival, which is measured when the command line asks for it.
    pub fn rival(mut self, rival: Rival) -> Self {
        self.rivals.push(rival);
        self
    }

    /// Adds the version of something that the results depend on: a rival's, for instance. It is asked for before a run, and left
    /// out where there is none.
    pub fn version(mut self, of: impl Into<String>, version: impl FnOnce() -> Option<String> + 'static) -> Self {
        self.versions.push((of.into(), Box::new(version)));
        self
    }

    /// Does what the command line says: all of `main`.
    ///
    /// A comparison starts its own executable again as the server of each case, so nothing should happen before this call that a
    /// server should not do as well.
    ///
    /// The code is a failure if anything that was measured had errors, and 130 after Ctrl-C.
    pub fn run(self) -> ExitCode {
        let title = self.title.clone();
        let command = CommandLine::command().about(title);
        let line = CommandLine::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        match self.obey(line) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn obey(self, line: CommandLine) -> Result<ExitCode> {
        match line.command {
            None if line.run.list => self.list(),
            None => self.measure(&line.run),
            Some(Command::Draw { results, out }) => {
                let directory = out.or_else(|| results.parent().map(Path::to_owned)).unwrap_or_default();
                show(&read(&results)?, &directory)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::Readme { results, charts }) => {
                let directory = results.parent().unwrap_or(Path::new(""));
                print!("{}", readme::section(&read(&results)?, directory, &charts));
                Ok(ExitCode::SUCCESS)
            }
            Some(Command::Agree { one, other, within }) => agreement::print(&read(&one)?, &read(&other)?, within),
            Some(Command::Serve { case, backend, bind }) => {
                let case = self.cases.into_iter().find(|known| known.name() == case);
                serve::serve(case.context("no such case")?, backend, &bind)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn list(&self) -> Result<ExitCode> {
        for case in &self.cases {
            let transports: Vec<_> = case.all_transports().iter().map(ToString::to_string).collect();
            let connections: Vec<_> = case.all_connections().iter().map(ToString::to_string).collect();
            let note = if case.is_only_if_named() { " (only with --case)" } else { "" };
            println!("case {:?}: {}; {} connections{note}", case.name(), transports.join(", "), connections.join(", "));
        }
        let names: Vec<_> = Server::own(Cores::usable()?).into_iter().map(|server| server.name).collect();
        println!("servers: {}", names.join(", "));
        let rivals: Vec<_> = self.rivals.iter().map(Rival::name).collect();
        println!("rivals: {}", rivals.join(", "));
        Ok(ExitCode::SUCCESS)
    }

    fn measure(self, options: &RunOptions) -> Result<ExitCode> {
        if cfg!(debug_assertions) {
            eprintln!("this is a debug build, which is slow: use --release for numbers");
        }
        ensure_distinct("case", self.cases.iter().map(Case::name))?;
        let interrupt = Interrupt::install()?;
        let files = OpenFiles::raise()?;
        let cores = Cores::claim()?;
        let servers = self.servers(options, cores)?;
        ensure_distinct("server", servers.iter().map(|server| server.name.as_str()))?;
        let sockets = tempfile::tempdir().context("making a directory for Unix sockets")?;
        let plan = Plan::new(&self.cases, &servers, &selection(options), files, sockets.path())?;
        let mut host = Host::here(cores.usable, files)?;
        host.versions.extend(self.versions.into_iter().filter_map(|(of, version)| Some((of, version()?))));
        let mut results = Results {
            title: self.title,
            command: std::env::args().map(quoted).collect::<Vec<_>>().join(" "),
            host,
            method: method(options, cores),
            complete: false,
            cells: Vec::new(),
        };

        fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
        let json = options.out.join("results.json");
        run::run(&plan, cores, &interrupt, &mut results, |results| write(results, &json))?;
        show(&results, &options.out)?;
        let clean = results.cells.iter().all(|cell| cell.is_clean() && !matches!(cell.outcome, Outcome::Failed(_)));
        if !clean {
            eprintln!("there were errors; the cells that had them are not to be trusted");
        }
        Ok(match () {
            () if interrupt.is_asked() => ExitCode::from(INTERRUPTED),
            () if !clean => ExitCode::FAILURE,
            () => ExitCode::SUCCESS,
        })
    }

    /// Those that are named; or all of the crate's own; and with `--rivals`, all rivals.
    fn servers(&self, options: &RunOptions, cores: Cores) -> Result<Vec<Server>> {
        let mut servers = if options.servers.is_empty() {
            Server::own(cores.usable)
        } else {
            options.servers.iter().map(|text| Server::named(text, &self.rivals)).collect::<Result<_>>()?
        };
        if options.rivals {
            let more = self.rivals.iter().filter(|rival| !options.servers.iter().any(|name| name == rival.name()));
            servers.extend(more.map(Server::rival));
        }
        Ok(servers)
    }
}

/// As a shell takes it for one word.
fn quoted(argument: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,:=".contains(&byte);
    if argument.bytes().all(is_plain) { argument } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}

/// What has the same name would be told as one.
fn ensure_distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        ensure!(seen.insert(name), "the {what} {name:?} is there twice; another name tells them apart");
    }
    Ok(())
}

fn selection(options: &RunOptions) -> Selection {
    Selection {
        cases: options.cases.clone(),
        transports: options.transports.clone(),
        connections: options.connections.clone(),
        quick: options.quick,
        write_bytes: options.write,
    }
}

fn method(options: &RunOptions, cores: Cores) -> Method {
    let (rounds, warmup, window) = if options.quick { (3, 0.1, 0.3) } else { (5, 0.1, 0.4) };
    let seconds = |asked: Option<Duration>, default| asked.map_or(default, |asked| asked.as_secs_f64());
    Method {
        rounds: options.rounds.unwrap_or(rounds),
        warmup_seconds: seconds(options.warmup, warmup),
        window_seconds: seconds(options.seconds, window),
        server_core: cores.server,
        load_core: cores.load,
    }
}

fn read(json: &Path) -> Result<Results> {
    let file = File::open(json).with_context(|| format!("opening {}", json.display()))?;
    from_reader(std::io::BufReader::new(file)).with_context(|| format!("{} holds no results", json.display()))
}

/// Beside it first, so that a file of that name is always whole.
fn write(results: &Results, json: &Path) -> Result<()> {
    let beside = json.with_extension("json.new");
    let written = || -> Result<()> {
        let mut file = BufWriter::new(File::create(&beside)?);
        to_writer(&mut file, results)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&beside, json)?;
        Ok(())
    };
    written().with_context(|| format!("writing {}", json.display()))
}

/// Prints the report, and writes what is made of the results.
fn show(results: &Results, directory: &Path) -> Result<()> {
    ensure!(!results.cells.is_empty(), "nothing was measured");
    report::print(results);
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let path = directory.join("results.csv");
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    csv::write(results, BufWriter::new(file)).with_context(|| format!("writing {}", path.display()))?;
    let charts: Vec<PathBuf> = chart::draw_all(results, directory).context("drawing the charts")?;
    eprintln!("results.json, results.csv and {} charts are in {}", charts.len(), directory.display());
    Ok(())
}

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("title", &self.title).field("cases", &self.cases).finish_non_exhaustive()
    }
}
