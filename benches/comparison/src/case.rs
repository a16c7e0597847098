//! [`Case`]: a handler, and what a load does to it.

use std::fmt;

use socketserver::backend::Backend;
use socketserver::listener::Listener;
use socketserver::{AnyServer, HandlerFactory};

use crate::messages::Messages;
use crate::results::Workload;
use crate::transport::Transport;

/// A handler, the messages that are exchanged with it, and the load under which it is compared.
pub struct Case {
    name: String,
    serve: Box<Serve>,
    messages: Messages,
    workload: Workload,
    connections: Vec<usize>,
    quick: Option<Vec<usize>>,
    transports: Vec<Transport>,
    nodelay: bool,
    only_if_named: bool,
    closed_to_rivals: Option<String>,
}

/// Makes the server of the handler.
type Serve = dyn FnOnce(Box<dyn Listener>, Box<dyn Backend>) -> AnyServer;

impl Case {
    /// A case in which 1, 10 and 100 connections over TCP each send a request, wait for its reply, and send the next.
    ///
    /// `handler` is what [`socketserver::Server::bind`] takes.
    pub fn new<Kind>(name: impl Into<String>, handler: impl HandlerFactory<Kind>, messages: Messages) -> Self {
        Self {
            name: name.into(),
            serve: Box::new(move |listener, backend| AnyServer::new(listener, backend, handler)),
            messages,
            workload: Workload::ClosedLoop,
            connections: vec![1, 10, 100],
            quick: None,
            transports: vec![Transport::Tcp],
            nodelay: false,
            only_if_named: false,
            closed_to_rivals: None,
        }
    }

    /// What the connections do with the messages: [`Workload::ClosedLoop`] by default.
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workload = workload;
        self
    }

    /// How many connections are open at a time; each number is measured by itself.
    pub fn connections(mut self, numbers: impl IntoIterator<Item = usize>) -> Self {
        self.connections = numbers.into_iter().collect();
        self
    }

    /// The same for a quick run, which has the first of the transports alone; by default the middle one of all. With none, a quick
    /// run leaves the case out.
    pub fn quick(mut self, numbers: impl IntoIterator<Item = usize>) -> Self {
        self.quick = Some(numbers.into_iter().collect());
        self
    }

    /// What carries the messages: TCP by default.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// Serves TCP with `TCP_NODELAY`. Without it, which is the default of [`socketserver::listener::Tcp`], the end of a reply that is sent
    /// in several writes waits for the acknowledgement of its beginning, which the peer's kernel delays by some 40 ms.
    pub fn nodelay(mut self) -> Self {
        self.nodelay = true;
        self
    }

    /// Leaves the case out unless it is asked for by its name.
    pub fn only_if_named(mut self) -> Self {
        self.only_if_named = true;
        self
    }

    /// Says why no rival does the same: its cells tell that reason.
    pub fn without_rivals(mut self, reason: impl Into<String>) -> Self {
        self.closed_to_rivals = Some(reason.into());
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn messages(&self) -> &Messages {
        &self.messages
    }

    pub(crate) fn workload_of(&self) -> &Workload {
        &self.workload
    }

    pub(crate) fn is_nodelay(&self) -> bool {
        self.nodelay
    }

    pub(crate) fn is_only_if_named(&self) -> bool {
        self.only_if_named
    }

    pub(crate) fn closed_to_rivals(&self) -> Option<&str> {
        self.closed_to_rivals.as_deref()
    }

    pub(crate) fn all_transports(&self) -> &[Transport] {
        &self.transports
    }

    pub(crate) fn all_connections(&self) -> &[usize] {
        &self.connections
    }

    pub(crate) fn quick_connections(&self) -> &[usize] {
        match &self.quick {
            Some(numbers) => numbers,
            None => self.connections.get(self.connections.len() / 2..).map_or(&[], |rest| &rest[..rest.len().min(1)]),
        }
    }

    pub(crate) fn server(self, listener: Box<dyn Listener>, backend: Box<dyn Backend>) -> AnyServer {
        (self.serve)(listener, backend)
    }

    /// The names by which the command line may ask for it: any part of its name.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        self.name.to_lowercase().contains(&text.to_lowercase())
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("workload", &self.workload).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Case;
    use crate::Messages;

    #[test]
    fn a_quick_run_takes_the_middle() {
        let case = || Case::new("echo", |_: &mut socketserver::Request| Ok(()), Messages::echo(64));
        assert_eq!(case().quick_connections(), [10]);
        assert_eq!(case().connections([]).quick_connections(), [0; 0]);
        assert_eq!(case().quick([1, 2]).quick_connections(), [1, 2]);
    }
}
