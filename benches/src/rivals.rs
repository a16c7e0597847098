//! The rivals: programs of this package, and scripts in Python where what they need is installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use socketserver_comparison::{Launch, Rival, Transport};

/// One worker wherever a server lets one choose, because all servers have one core. `tokio-multi` has two, to tell what the
/// multi-thread runtime's synchronisation costs; it cannot tell what more cores would gain.
pub fn all() -> Vec<Rival> {
    const TCP: &[Transport] = &[Transport::Tcp];
    const TCP_AND_UDP: &[Transport] = &[Transport::Tcp, Transport::Udp];
    vec![
        built("raw-epoll", "raw_epoll", &[], TCP_AND_UDP),
        built("tokio", "tokio_echo", &["--current-thread"], TCP_AND_UDP),
        built("tokio-multi", "tokio_echo", &["--workers", "2"], TCP_AND_UDP),
        built("may", "may_echo", &["--workers", "1"], TCP),
        built("std-threads", "std_threads", &[], TCP),
        python("cpython-threading", "threading_server.py", "socketserver", TCP_AND_UDP),
        python("gevent", "gevent_server.py", "gevent", TCP),
    ]
}

/// Of Python, and of gevent if it is installed.
pub fn python_version() -> Option<String> {
    let python = python_says("import platform; print(platform.python_version())")?;
    Some(match python_says("import gevent; print(gevent.__version__)") {
        Some(gevent) => format!("{python} with gevent {gevent}"),
        None => python,
    })
}

fn built(name: &str, program: &'static str, arguments: &'static [&str], speaks: &'static [Transport]) -> Rival {
    Rival::new(name, move |transport| {
        let executable = env::current_exe().map_err(|error| error.to_string())?.with_file_name(program);
        if !executable.is_file() {
            return Err("not built: cargo build --release --manifest-path benches/Cargo.toml".to_owned());
        }
        for_transport(Launch::new(executable).arguments(arguments), transport, speaks)
    })
}

fn python(name: &str, script: &'static str, module: &'static str, speaks: &'static [Transport]) -> Rival {
    let installed = std::cell::OnceCell::new();
    Rival::new(name, move |transport| {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        if !installed.get_or_init(|| python_says(&format!("import {module}; print()"))).is_some() {
            return Err(format!("not installed: python3 has no module {module}"));
        }
        for_transport(Launch::new("python3").arguments([script]), transport, speaks)
    })
}

fn for_transport(launch: Launch, transport: Transport, speaks: &[Transport]) -> Result<Launch, String> {
    match transport {
        _ if !speaks.contains(&transport) => Err(format!("it has no server for {transport}")),
        Transport::Udp => Ok(launch.arguments(["--udp"])),
        Transport::Tcp | Transport::Unix => Ok(launch),
    }
}

/// What a line of Python prints, if it runs.
fn python_says(program: &str) -> Option<String> {
    let output = Command::new("python3").args(["-c", program]).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
