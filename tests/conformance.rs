//! The conformance suite: every backend over every kind of address does the same.
//!
//! A behaviour is a function of a [`Cell`](support::cell::Cell), written once in one of the files of `conformance/`. It is a test
//! in each cell of the table below: `event_loop::tcp4::serves_one_after_another`.

mod support;

#[path = "conformance/ending.rs"]
mod ending;
#[path = "conformance/order.rs"]
mod order;
#[path = "conformance/replies.rs"]
mod replies;
#[path = "conformance/serving.rs"]
mod serving;
#[path = "conformance/turns.rs"]
mod turns;

use support::cell::Cell;

/// The table: each backend, with each kind of address and the name of its server.
macro_rules! table {
    ($($backend:ident { $($kind:ident: $server:ident,)* })*) => {
        $(mod $backend {
            $(mod $kind {
                cell!($backend $kind $server);
            })*
        })*

        /// Every cell that has tests.
        fn cells() -> Vec<Cell> {
            vec![$($(Cell::named(stringify!($backend), stringify!($kind)),)*)*]
        }
    };
}

/// The tests of one cell.
macro_rules! cell {
    ($backend:ident $kind:ident $server:ident) => {
        #[test]
        fn has_a_name() {
            let cell = crate::Cell::named(stringify!($backend), stringify!($kind));
            crate::serving::has_a_name(cell, |url| socketserver::$server::bind(url, crate::support::echo));
        }

        behaviours! { $backend $kind serving:
            serves_one_after_another,
            serves_many_at_once,
            tells_the_addresses,
            survives_a_panic,
        }
        behaviours! { $backend $kind order:
            a_request_has_its_stages_in_order,
            after_a_failing_setup_nothing_is_called,
            after_a_panicking_setup_nothing_is_called,
            after_a_failing_handle_finish_is_called,
            after_a_panicking_handle_finish_is_called,
            a_failing_finish_is_reported,
            the_first_of_two_failures_is_reported,
            a_request_that_is_not_verified_is_closed,
            a_failing_verification_is_a_rejection,
            a_panicking_verification_is_a_rejection,
            a_panicking_error_hook_does_no_harm,
            a_panicking_factory_fails_its_request,
            a_panicking_destructor_fails_its_request,
        }
        behaviours! { $backend $kind replies:
            a_silent_handler_sends_nothing,
            a_failing_handler_sends_no_datagram,
            a_panicking_handler_sends_no_datagram,
            who_verifies_sees_the_request,
            a_rejected_request_is_closed_once,
        }
        behaviours! { $backend $kind ending:
            close_waits,
            an_idle_server_stops_at_once,
            a_handler_may_stop_its_server,
            a_shutdown_before_serving_is_remembered,
            a_second_shutdown_spares_the_next_serving,
            serves_again_after_a_shutdown,
            serves_again_after_a_drain,
            may_be_dropped_without_serving,
            may_be_closed_without_serving,
            may_be_dropped_after_serving,
        }
        behaviours! { $backend $kind turns:
            handles_one_request,
            handling_one_request_has_a_timeout,
            a_shutdown_ends_the_wait_for_one_request,
            a_shutdown_between_two_requests_ends_the_wait_for_the_second,
            a_handler_may_end_a_loop_of_single_requests,
            service_actions_run_in_every_turn,
            a_server_that_was_woken_waits_again,
            service_actions_run_at_the_poll_interval,
            a_pause_ends_with_resume,
        }
    };
}

macro_rules! behaviours {
    ($backend:ident $kind:ident $file:ident: $($behaviour:ident,)*) => {
        $(#[test]
        fn $behaviour() {
            crate::$file::$behaviour(crate::Cell::named(stringify!($backend), stringify!($kind)));
        })*
    };
}

table! {
    sequential {
        tcp4: TcpServer,
        tcp6: TcpServer,
        unix_stream: UnixStreamServer,
        udp4: UdpServer,
        udp6: UdpServer,
        unix_datagram: UnixDatagramServer,
    }
    threading {
        tcp4: ThreadingTcpServer,
        tcp6: ThreadingTcpServer,
        unix_stream: ThreadingUnixStreamServer,
        udp4: ThreadingUdpServer,
        udp6: ThreadingUdpServer,
        unix_datagram: ThreadingUnixDatagramServer,
    }
    forking_style {
        tcp4: ForkingStyleTcpServer,
        tcp6: ForkingStyleTcpServer,
        unix_stream: ForkingStyleUnixStreamServer,
        udp4: ForkingStyleUdpServer,
        udp6: ForkingStyleUdpServer,
        unix_datagram: ForkingStyleUnixDatagramServer,
    }
    event_loop {
        tcp4: EventLoopTcpServer,
        tcp6: EventLoopTcpServer,
        unix_stream: EventLoopUnixStreamServer,
        udp4: EventLoopUdpServer,
        udp6: EventLoopUdpServer,
        unix_datagram: EventLoopUnixDatagramServer,
    }
}

#[test]
fn no_cell_is_missing() {
    let cells: std::collections::HashSet<Cell> = cells().into_iter().collect();
    assert_eq!(cells.len(), 24, "4 backends over 6 kinds of address");
}
