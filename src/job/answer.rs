//! [`Answer`]: what is left of a datagram when its handler has ended.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use super::Ticket;
use crate::catch::Failed;
use crate::live::Socket;
use crate::park::Context;
use crate::request::Reply;
use crate::socket;

/// A datagram whose handler has succeeded, with its reply: that is to be sent, which ends the request.
#[must_use = "the reply is to be sent"]
pub(crate) struct Answer {
    pub(super) reply: Reply,
    pub(super) ticket: Ticket,
}

impl Answer {
    /// Sends as many of these replies as the system takes in one call, from the first one on, and says how many: none if the first one
    /// cannot be sent now, or its request has been cut off. Those that are sent are to be dropped.
    pub(crate) fn send_first(answers: &[Answer]) -> usize {
        let Some(Socket::Datagram { fd, mapped }) = answers.first().map(|answer| &answer.reply.live.socket) else {
            return 0;
        };
        let alike = |answer: &&Answer| answer.reply.is_for(fd) && !answer.reply.live.is_cut();
        let count = answers.iter().take_while(alike).count();
        let messages = answers[..count].iter().map(|answer| answer.reply.message());
        let sent = socket::send_many(fd.as_fd(), messages, *mapped).unwrap_or(0);
        answers[..sent].iter().for_each(|answer| answer.end(Ok(())));
        sent
    }

    /// Sends the reply from `context`, which waits where the system has no room for it. If that is not the context of the handler, a cut
    /// does not end the wait but is seen at the next try, within 32 ms.
    pub(crate) fn send_in(self, context: &Rc<Context>) {
        context.begin(&self.reply.live);
        context.enter(|| {
            let outcome = self.reply.send(context).map_err(Failed::from);
            self.end(outcome);
        });
    }

    /// Gives the reply up.
    pub(crate) fn fail(self, error: io::Error) {
        self.end(Err(error.into()));
    }

    /// When its handler began.
    pub(crate) fn began(&self) -> Instant {
        self.reply.live.began
    }

    fn end(&self, outcome: Result<(), Failed>) {
        let service = &self.ticket.service;
        service.report(&self.reply.live, outcome);
        log::debug!("closed {}", self.reply.live.peer);
    }
}
