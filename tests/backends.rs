//! What every backend must survive and promise, over TCP and over Unix streams.
//!
//! A behaviour is a function of a [`Cell`](support::cell::Cell), written once in one of the files of `backends/`, and a test in
//! each cell: `event_loop::tcp4::a_read_has_a_timeout`. Three files are about what only some backends have: `threads.rs`, `pools.rs`, `event_loops.rs`.

mod support;

#[path = "backends/cuts.rs"]
mod cuts;
#[path = "backends/drains.rs"]
mod drains;
#[path = "backends/event_loops.rs"]
mod event_loops;
#[path = "backends/limits.rs"]
mod limits;
#[path = "backends/panics.rs"]
mod panics;
#[path = "backends/peers.rs"]
mod peers;
#[path = "backends/pools.rs"]
mod pools;
#[path = "backends/processes.rs"]
mod processes;
#[path = "backends/senders.rs"]
mod senders;
#[path = "backends/shutdowns.rs"]
mod shutdowns;
#[path = "backends/threads.rs"]
mod threads;
#[path = "backends/timeouts.rs"]
mod timeouts;
#[path = "backends/upstreams.rs"]
mod upstreams;
#[path = "backends/waits.rs"]
mod waits;

macro_rules! table {
    ($($backend:ident { $($kind:ident)* })*) => {
        $(mod $backend {
            $(mod $kind {
                cell!($backend $kind);
            })*
        })*
    };
}

/// What all backends do.
macro_rules! cell {
    (sequential $kind:ident) => {
        cell!(@all sequential $kind);
    };
    ($backend:ident $kind:ident) => {
        cell!(@all $backend $kind);
        cell!(@concurrent $backend $kind);
    };
    (@all $backend:ident $kind:ident) => {
        behaviours! { $backend $kind shutdowns:
            a_shutdown_may_race_the_start,
            handlers_may_race_to_stop_their_server,
        }
        behaviours! { $backend $kind timeouts:
            a_read_has_a_timeout,
            a_write_has_a_timeout,
            a_timeout_says_which_it_was,
            a_read_of_no_time_tells_whether_the_peer_is_there,
            a_lively_peer_meets_the_deadline,
            a_sleep_meets_the_deadline,
            the_listeners_timeout_is_where_requests_begin,
        }
        behaviours! { $backend $kind drains:
            a_drain_lets_a_busy_request_finish,
            a_drain_refuses_also_after_a_shutdown,
            a_drain_ends_an_idle_connection,
            a_drain_ends_a_silent_connection,
            a_drain_spares_a_half_read_message,
            a_drain_spares_half_a_message_behind_an_answered_one,
            a_drain_spares_who_has_half_a_message_and_computes,
            a_message_that_meets_a_drain_does_not_cut_the_answer,
            a_message_after_a_drain_does_not_cut_the_answers_before_it,
            who_does_not_read_holds_up_no_drain,
            no_message_is_taken_and_lost_while_a_drain_closes,
            a_drain_ends_what_says_that_it_is_idle,
            a_drain_spares_what_says_that_it_is_busy,
            a_drain_spares_what_says_that_it_is_busy_between_frames,
            a_drain_spares_what_is_busy_after_a_timeout,
            a_drain_ends_the_wait_for_one_request,
        }
        behaviours! { $backend $kind cuts:
            at_the_deadline_a_request_that_is_handled_alone_is_cut,
            at_the_deadline_a_read_is_cut,
            at_the_deadline_a_write_is_cut,
            at_the_deadline_a_sleep_is_cut,
            at_the_deadline_a_join_is_cut,
            at_the_deadline_who_reads_on_after_the_end_is_cut,
            at_the_deadline_a_write_in_a_destructor_is_cut,
            at_the_deadline_a_busy_reader_is_cut,
            at_the_deadline_who_offloads_without_end_is_cut,
            at_the_deadline_who_sends_without_end_is_cut,
            who_is_cut_off_reads_no_more_of_what_has_come,
        }
        behaviours! { $backend $kind peers:
            a_half_closed_client_gets_a_long_answer,
            a_copy_of_the_descriptor_keeps_no_connection_open,
            a_copy_of_the_descriptor_keeps_no_rejected_connection_open,
            unread_input_does_not_cut_the_answer,
            the_rest_of_a_message_does_not_cut_the_answer,
            input_that_comes_late_does_not_cut_the_answer,
            who_is_silent_after_unread_input_is_left,
            who_sends_without_end_is_read_so_far_only,
            a_reset_is_an_error_of_the_read,
            what_is_buffered_is_read_first,
            a_vectored_write_arrives_whole,
            more_pieces_than_a_call_takes_arrive,
        }
        behaviours! { $backend $kind panics:
            two_hundred_panics_end_two_hundred_requests,
            unsent_bytes_of_a_panicking_handler_hold_up_nobody,
            fifty_errors_that_panic_end_fifty_requests,
            an_error_of_a_hook_that_panics_turns_one_away,
        }
        behaviours! { $backend $kind senders:
            a_message_of_another_thread_arrives,
            messages_are_never_mixed,
            a_full_queue_takes_no_message,
            a_sender_may_end_the_request,
            a_reset_that_a_sender_has_heard_is_an_error_of_the_read,
            a_reset_that_the_queue_has_met_is_an_error_of_the_read,
            a_sender_outlives_its_request,
            formatted_lines_are_never_mixed,
            frames_are_never_mixed,
            what_is_queued_at_the_end_is_sent_without_delay,
            what_is_queued_behind_half_a_message_does_not_delay_the_end,
            a_sender_may_end_the_writing_alone,
            the_end_of_the_writing_comes_after_the_handlers_message,
            two_may_wait_for_room,
            who_waits_for_room_hears_that_the_request_is_closed,
            who_waits_for_room_hears_that_the_peer_is_gone,
            who_waits_for_room_hears_that_the_request_is_over,
            a_sender_waits_for_the_write_timeout,
        }
        behaviours! { $backend $kind upstreams:
            a_full_tcp_server_is_waited_for_in_vain,
            a_full_unix_server_is_waited_for,
            a_missing_unix_server_is_not_waited_for,
            a_cut_ends_the_wait_for_a_full_server,
            a_cut_ends_the_wait_for_a_connection,
            a_peer_connects_back,
            a_bound_socket_talks_with_anybody,
            a_program_is_served_to_a_peer,
            the_first_address_that_works_is_taken,
            an_upstream_has_timeouts,
            what_is_written_to_an_upstream_leaves_in_one_piece,
            a_listener_of_a_handlers_own_has_a_queue,
            an_upstream_ends_in_one_direction_or_in_both,
            adopted_sockets_wait_where_their_caller_does,
            small_writes_to_an_upstream_go_out_at_once,
        }
        behaviours! { $backend $kind waits:
            a_sleep_takes_its_time,
            a_sibling_sleeps_and_offloads,
            a_sibling_is_cut_off_with_its_request,
            a_sibling_that_outlives_its_request_is_cut_off_with_it,
            offloaded_work_gives_its_result,
            a_panic_of_offloaded_work_is_the_requests,
            too_late_nothing_is_offloaded,
            a_dump_tells_what_a_request_waits_for,
            a_dump_tells_that_a_wait_is_over,
        }
        in_processes! { $backend $kind processes:
            a_large_write_arrives_whole_in_a_rain_of_signals,
            a_read_goes_on_after_a_signal,
            ten_requests_leave_few_threads,
            hundreds_of_connections_leave_nothing,
            a_closed_peer_raises_no_signal,
        }
        in_processes! { $backend $kind panics:
            a_hook_that_panics_is_told_and_does_no_harm,
        }
        in_processes! { $backend $kind cuts:
            the_log_says_how_many_were_cut_off,
        }
        in_processes! { $backend $kind shutdowns:
            the_log_says_when_a_server_listens,
        }
        in_processes! { $backend $kind peers:
            a_reset_is_no_end_of_the_wait_for_a_mutex,
            a_reset_is_no_end_of_the_wait_for_a_condition,
        }
        in_processes! { $backend $kind senders:
            behind_half_a_message_others_wait,
        }
        in_processes! { $backend $kind waits:
            siblings_that_have_ended_leave_nothing,
        }
        cell!(@over $kind $backend);
    };
    // Only TCP has urgent data.
    (@over tcp4 $backend:ident) => {
        behaviours! { $backend tcp4 peers:
            urgent_data_hides_nothing,
        }
    };
    (@over $kind:ident $backend:ident) => {};
    (@concurrent $backend:ident $kind:ident) => {
        behaviours! { $backend $kind drains:
            a_drain_tells_the_idle_from_the_busy,
        }
        behaviours! { $backend $kind peers:
            who_never_reads_holds_up_nobody,
        }
        behaviours! { $backend $kind senders:
            a_handler_writes_to_the_peer_of_another,
        }
        behaviours! { $backend $kind waits:
            others_are_served_while_one_sleeps,
            a_sleep_of_no_time_gives_the_others_their_turn,
            others_are_served_while_one_offloads,
        }
        behaviours! { $backend $kind limits:
            no_more_handlers_run_than_may,
            no_more_handlers_run_than_may_in_a_crowd,
            a_busy_reply_arrives_whole,
            who_has_been_turned_away_leaves_nothing,
            limits_may_change_under_load,
        }
        in_processes! { $backend $kind senders:
            who_gave_up_waiting_for_room_is_forgotten,
        }
        in_processes! { $backend $kind limits:
            a_limit_says_once_that_it_refuses,
            a_full_server_says_so_once,
        }
    };
}

macro_rules! behaviours {
    ($backend:ident $kind:ident $file:ident: $($behaviour:ident,)*) => {
        $(#[test]
        fn $behaviour() {
            crate::$file::$behaviour(crate::support::cell::Cell::named(stringify!($backend), stringify!($kind)));
        })*
    };
}

/// As `behaviours`, each in a process of its own.
macro_rules! in_processes {
    ($backend:ident $kind:ident $file:ident: $($behaviour:ident,)*) => {
        $(#[test]
        fn $behaviour() {
            crate::support::child::in_child(|| {
                crate::$file::$behaviour(crate::support::cell::Cell::named(stringify!($backend), stringify!($kind)));
            });
        })*
    };
}

table! {
    sequential { tcp4 unix_stream }
    threading { tcp4 unix_stream }
    forking_style { tcp4 unix_stream }
    event_loop { tcp4 unix_stream }
}
