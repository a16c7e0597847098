//! [`one_line`]: text that others have chosen, for the log.

/// The text with its control characters escaped: whoever names a socket, or panics, could otherwise begin lines of the log, or steer a
/// terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}
