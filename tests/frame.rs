//! Framing: any frames come out of any stream as they went in, and servers speak in frames.

mod support;

#[path = "frame/streams.rs"]
mod streams;

#[path = "frame/servers.rs"]
mod servers;

#[path = "frame/sticky.rs"]
mod sticky;

/// The behaviours of servers in each of these cells, which differ in how a request waits.
macro_rules! cells {
    ($($backend:ident $kind:ident: $($behaviour:ident),*;)*) => {
        $(mod $backend {
            mod $kind {
                $(#[test]
                fn $behaviour() {
                    crate::servers::$behaviour($crate::support::cell::Cell::named(stringify!($backend), stringify!($kind)));
                })*
            }
        })*
    };
}

cells! {
    threading tcp4:
        echoes_frames,
        half_a_frame_is_reported,
        a_drain_ends_who_waits_for_a_frame,
        a_drain_waits_for_a_frame_that_has_begun,
        a_drain_waits_for_a_body;
    event_loop tcp4:
        echoes_frames,
        half_a_frame_is_reported,
        a_drain_ends_who_waits_for_a_frame,
        a_drain_waits_for_a_frame_that_has_begun,
        a_drain_waits_for_a_body;
    sequential unix_stream:
        echoes_frames,
        half_a_frame_is_reported;
    forking_style unix_stream:
        echoes_frames,
        half_a_frame_is_reported;
}

#[cfg(feature = "json")]
mod json {
    cells! {
        threading tcp4:
            deep_json_does_no_harm;
        event_loop tcp4:
            deep_json_does_no_harm;
    }
}
