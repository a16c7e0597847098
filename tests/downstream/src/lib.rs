//! A notice board: clients pin notes to it, read them, and hear of new ones.
//!
//! One command in a line, one line in reply:
//!
//! | command | reply |
//! |---|---|
//! | `PIN name text` | `pinned` |
//! | `READ name` | the text, or `nothing` |
//! | `COUNT` | the number of notes |
//! | `GUESTS` | the number of connected clients |
//! | `FOLLOW` | `following`; from then on a line `name: text` for each note that is pinned |
//!
//! It lives in a crate of its own and shows what one needs of `socketserver` there: a handler with shared state ([`Visit`] of a
//! [`Board`]), hooks ([`Caretaker`]), and a backend that the crate does not have ([`Reception`]).

mod board;
mod caretaker;
mod reception;
mod visit;

pub use board::Board;
pub use caretaker::Caretaker;
pub use reception::Reception;
pub use visit::Visit;
