//! What the event loop must survive and promise beyond what every backend does (see `backends.rs`): panics and cuts on coroutines,
//! overflows of their stacks, fairness, balance between loops, time, wake-ups, memory, datagrams that come together, the end of a loop, a loop
//! within a loop.

// Under Valgrind, but for the tests of fairness, which are about the order of threads that Valgrind does not run side by side. A
// process of its own that a test starts is not looked into:
//
//     CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --error-exitcode=1 --quiet" \
//         cargo test --test event_loop -- --test-threads=1 event_loop:: --skip starve --skip flood --skip overflows
//
// With AddressSanitizer, by a stable toolchain, whose standard library is not instrumented. It takes faults for itself and keeps frames
// beside the stack, so there is nothing to see of overflows; and it has more memory resident than is allowed here:
//
//     RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan \
//         cargo test --target x86_64-unknown-linux-gnu --features corosensei/sanitizer --test event_loop \
//         -- --skip overflows --skip memory
//
// What has no stack of its own (timers, limits, the states of a shutdown, framing) is tested in its file, where Miri can run it; that
// takes a nightly toolchain and some three minutes:
//
//     PROPTEST_CASES=4 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 MIRIFLAGS=-Zmiri-disable-isolation \
//         cargo +nightly miri test --lib --all-features -- timers limits shutdown accept frame

mod support;

#[path = "event_loop/answers.rs"]
mod answers;
#[path = "event_loop/balance.rs"]
mod balance;
#[path = "event_loop/deadlines.rs"]
mod deadlines;
#[path = "event_loop/ends.rs"]
mod ends;
#[path = "event_loop/fairness.rs"]
mod fairness;
#[path = "event_loop/killers.rs"]
mod killers;
#[path = "event_loop/memory.rs"]
mod memory;
#[path = "event_loop/nested.rs"]
mod nested;
#[path = "event_loop/overflows.rs"]
mod overflows;
#[path = "event_loop/timeouts.rs"]
mod timeouts;
#[path = "event_loop/wakes.rs"]
mod wakes;

/// Makes each of some functions of a [`Cell`](support::cell::Cell) a test on each of some cells.
macro_rules! table {
    ($($backend:ident [$($kind:ident)*])* => $behaviours:tt) => {
        $(mod $backend {
            $(mod $kind {
                cell! { $backend $kind $behaviours }
            })*
        })*
    };
}

macro_rules! cell {
    ($backend:ident $kind:ident { $($file:ident: $($behaviour:ident)*;)* }) => {
        $($(#[test]
        fn $behaviour() {
            crate::$file::$behaviour(crate::support::cell::Cell::named(stringify!($backend), stringify!($kind)));
        })*)*
    };
}

table! {
    event_loop [tcp4 unix_stream] => {
        killers:
            a_panic_with_unsent_bytes_neither_parks_nor_aborts
            a_panic_poisons_no_mutex_of_another_coroutine
            unsent_bytes_at_the_deadline_hold_up_no_stop
            io_in_a_destructor_fails_at_once_while_panicking
            a_farewell_in_a_destructor_arrives_while_panicking
            a_handler_may_catch_its_panics_and_go_on
            a_handler_that_catches_panics_is_cut_like_any_other
            a_handler_that_ignores_errors_after_the_cut_still_ends
            a_stop_cuts_hundreds_in_time
            what_no_cut_ends_is_unwound_with_its_loop
            a_panic_of_one_that_is_unwound_is_a_panic
            who_joins_a_sibling_that_is_unwound_learns_it
            a_panic_with_a_worse_payload_of_a_forgotten_sibling_ends_nothing_else
            a_worse_sibling_that_never_runs_ends_nothing_else
            a_worse_result_of_forgotten_work_costs_no_thread;
        fairness:
            pings_are_answered_within_some_turns_of_a_flood
            a_flood_does_not_hold_up_a_stop
            writing_without_end_starves_nobody
            writing_without_end_beside_a_sender_starves_nobody
            sending_without_end_starves_nobody
            copying_without_end_starves_nobody
            receiving_without_end_starves_nobody
            connecting_without_end_starves_nobody
            siblings_that_spawn_without_end_starve_nobody
            many_bytes_are_a_turn_like_many_calls
            few_are_accepted_in_a_turn;
        deadlines:
            ten_thousand_deadlines_keep_apart
            a_new_request_does_not_meet_the_deadline_of_an_old_one;
        wakes:
            a_storm_of_messages_arrives_whole
            spurious_wakes_break_no_read
            offloaded_work_of_hundreds_shares_four_threads
            offloaded_work_may_wait_for_other_offloaded_work
            work_that_nobody_waits_for_does_not_begin
            work_that_comes_one_by_one_shares_few_threads
            a_cut_ends_the_wait_for_offloaded_work
            connecting_to_an_address_waits_for_no_thread
            a_dump_tells_what_each_request_does;
        ends:
            a_destructor_of_an_unwound_request_does_not_wait
            a_handler_that_ignores_all_errors_is_unwound
            siblings_end_with_their_loops
            who_is_left_on_another_loop_goes_on_without_the_server
            who_is_left_on_another_loop_is_unwound_when_the_server_is_closed
            who_waits_for_a_lock_gets_it_when_its_holder_ends_with_the_loop;
        nested:
            a_server_runs_inside_a_handler;
    }
}

mod datagrams {
    table! {
        event_loop [udp4 udp6 unix_datagram] => {
            answers:
                each_of_a_few_datagrams_is_served_before_the_next_is_received
                a_reply_that_cannot_be_sent_fails_its_request_alone
                a_request_that_is_handled_alone_has_its_reply;
        }
    }
}

mod udp {
    table! {
        event_loop [udp4 udp6] => {
            answers:
                many_datagrams_are_received_before_the_first_is_served
                a_limit_does_not_concern_datagrams_that_wait_for_others
                datagrams_that_wait_for_others_take_room;
        }
    }
}

mod unix_datagrams {
    table! {
        event_loop [unix_datagram] => {
            answers:
                a_reply_that_has_to_wait_is_waited_for
                a_reply_that_has_to_wait_outlives_the_server;
        }
    }
}

mod every_backend {
    table! {
        sequential [tcp4 unix_stream]
        threading [tcp4 unix_stream]
        forking_style [tcp4 unix_stream]
        event_loop [tcp4 unix_stream]
        => {
            timeouts:
                an_idle_connection_times_out
                no_time_is_over_at_once
                what_has_come_is_read_in_no_time
                what_there_is_room_for_is_sent_in_no_time
                all_the_time_is_no_limit
                a_past_deadline_ends_what_would_wait;
        }
    }
}
