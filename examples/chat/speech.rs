//! What members may say, and how it reads: the same by connections and by datagrams.

/// Bytes of a line without its end: long for a person, and short beside what may wait for a member
/// ([`QUEUE`](crate::members::QUEUE)), so that no single line is too much for anybody.
pub const LONGEST_LINE: usize = 4096;

/// Characters of a nick.
const LONGEST_NICK: usize = 32;

/// What a member may want.
pub enum Wish<'a> {
    Say(&'a str),
    Me(&'a str),
    Who,
    Quit,
    /// An empty line.
    Nothing,
}

/// Understands a member's line, or says what is wrong with it.
pub fn wish(line: &[u8]) -> Result<Wish<'_>, String> {
    let line = text(line)?;
    let Some(command) = line.strip_prefix('/') else {
        return Ok(if line.is_empty() { Wish::Nothing } else { Wish::Say(line) });
    };
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("me", "") => Err("say what you do: /me TEXT".to_string()),
        ("me", deed) => Ok(Wish::Me(deed)),
        ("who", _) => Ok(Wish::Who),
        ("quit", _) => Ok(Wish::Quit),
        _ => Err("unknown command: there are /who, /me TEXT and /quit".to_string()),
    }
}

/// Takes a line for a nick, or says what is wrong with it. Whether it is taken is not known here.
pub fn nick(line: &[u8]) -> Result<&str, String> {
    let nick = text(line)?.trim();
    if nick.is_empty() || nick.chars().count() > LONGEST_NICK {
        return Err(format!("a nick has 1 to {LONGEST_NICK} characters"));
    }
    // Their owner's lines would look like the room's.
    if nick.starts_with(['*', '!', '/']) {
        return Err("a nick does not begin with *, ! or /".to_string());
    }
    // A line of one whose nick is "alice: hello" would look like one of alice's.
    if nick.contains(|c: char| c.is_whitespace() || c == ':' || c == ',') {
        return Err("a nick has no space, colon or comma".to_string());
    }
    Ok(nick)
}

/// Text that does nothing to a terminal: a carriage return or an escape sequence could make a line look like another member's.
fn text(line: &[u8]) -> Result<&str, String> {
    if line.len() > LONGEST_LINE {
        return Err(too_long());
    }
    let line = std::str::from_utf8(line).map_err(|_| "this is not UTF-8".to_string())?;
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("no control characters, please".to_string());
    }
    Ok(line)
}

pub fn too_long() -> String {
    format!("a line has up to {LONGEST_LINE} bytes")
}

pub const TAKEN: &str = "nick taken";

// The lines that are sent, with their ends.

pub fn said(nick: &str, text: &str) -> String {
    format!("{nick}: {text}\n")
}

pub fn did(nick: &str, deed: &str) -> String {
    news(&format!("{nick} {deed}"))
}

pub fn joined(nick: &str) -> String {
    news(&format!("{nick} joined"))
}

pub fn left(nick: &str) -> String {
    news(&format!("{nick} left"))
}

/// A member has left against its will.
pub fn dropped(nick: &str) -> String {
    news(&format!("{nick} left (reads too slowly)"))
}

/// Lists nicks in as many bytes as there may be, or says how many it leaves out.
pub fn here<'a>(nicks: impl ExactSizeIterator<Item = &'a String>, longest: usize) -> String {
    let total = nicks.len();
    let mut list = String::new();
    for (listed, nick) in nicks.enumerate() {
        if list.len() + nick.len() > longest {
            return news(&format!("{total} here: {list}, and {} more", total - listed));
        }
        if listed > 0 {
            list.push_str(", ");
        }
        list.push_str(nick);
    }
    news(&format!("{total} here: {list}"))
}

pub fn news(text: &str) -> String {
    format!("* {text}\n")
}

pub fn complaint(text: &str) -> String {
    format!("! {text}\n")
}
