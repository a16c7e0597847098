//! A logger that panics, as one does that prints where nobody reads any more. It costs neither a connection nor a server.

mod support;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use socketserver::{AnyServer, Request, backend::BackendName, listener};
use support::{PATIENCE, running::Running};

struct Logger;

/// It panics at lines that begin with one of these.
static PANICS_AT: Mutex<&[&str]> = Mutex::new(&[]);

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (line, panics_at) = (record.args().to_string(), *PANICS_AT.lock().unwrap());
        assert!(!panics_at.iter().any(|beginning| line.starts_with(beginning)), "nobody reads {line:?}");
    }

    fn flush(&self) {}
}

fn greet_and_fail(request: &mut Request) -> io::Result<()> {
    request.write_all(b"hello")?;
    Err(io::Error::other("that is all"))
}

#[test]
fn what_it_is_told_of_a_request_ends_no_other() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    for panics_at in [&["closed"][..], &["request of", "the hook handle_error"]] {
        for backend in BackendName::ALL.into_iter().filter(|name| *name != BackendName::Sequential) {
            let server = AnyServer::new(listener::bind("127.0.0.1:0").unwrap(), backend.backend(), greet_and_fail);
            let running = Running::start(server);
            *PANICS_AT.lock().unwrap() = panics_at;
            for _ in 0..10 {
                let mut client = TcpStream::connect(running.addr.as_inet().unwrap()).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut text = String::new();
                client.read_to_string(&mut text).unwrap();
                assert_eq!(text, "hello", "{backend}");
            }
            support::until("no request is left", || running.monitor.dump().is_empty());
            *PANICS_AT.lock().unwrap() = &[];
            assert_eq!(running.finish().failed, 10, "{backend}");
        }
    }
}
