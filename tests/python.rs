//! Every server over every kind of address, as Python's `socket` sees the example `echo`. Where there is no `python3`, this is
//! skipped: the conformance suite tests the same cells without it.

#[path = "support/example.rs"]
mod example;
#[path = "support/script.rs"]
mod script;

#[test]
fn plain_sockets_get_back_what_they_sent_in_every_cell() {
    script::run("echo_cells.py", &[example::path("echo").to_str().expect("a path in UTF-8")]);
}
