//! The program in `tests/panic_abort/`, whose panics abort: what the event loop does there must not need any unwinding.

#[path = "support/package.rs"]
mod package;

#[test]
fn the_event_loop_needs_no_unwinding() {
    for profile in ["dev", "release"] {
        let (status, [stdout, stderr]) = package::cargo("panic_abort", &["run", "--quiet", "--profile", profile]);
        assert!(status.success() && stdout == "done\n", "{status}\n{stdout}\n{stderr}");
    }
}
